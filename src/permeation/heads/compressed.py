"""What a model with compressed W_Q and W_K keeps of the words' senses, beside its perplexity.

kept = Σ_w m_w(compressed) / Σ_w m_w(untouched), for each measure m below, of an AUC what is above ½ (docs/heads.md,
Compression and meaning)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Float

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.frame.seeds import named_generator
from permeation.meaning.activations import Activations
from permeation.meaning.bootstrap import resample_words, with_interval
from permeation.meaning.decode import leave_pair_out
from permeation.meaning.measure_uses import Shifting
from permeation.meaning.residuals import residuals_at
from permeation.meaning.sigma import measure_fans
from permeation.perplexity.ratio import KEPT_RATIO

# Of each word: mean over layers 1 to L of AUC(l), direction prompts along the others' contrast;
# σ(L) of strong_A − σ(L) of strong_B; T̄_A − T̄_B in nats; R of one direction in the next token, mean over layers.
MEASURES = ("auc", "separation", "gap", "response")
CHANCE = {"auc": 0.5}  # what the measure is without any sense; the others are 0
LOST_RATIO = 1.25  # from this ratio on a model counts as harmed
COLUMNS = ("method", "size", "ratio", "low", "high")
KEPT = itemgetter("kept")
PROMPTS = 32  # that are read at once

Sense = Mapping[str, Float[np.ndarray, "words"]]  # by measure
Row = Mapping[str, Any]


def near(rows: Sequence[Row], ratios: Sequence[float], methods: int) -> list[Row]:
    """Pick which compressed models to test: near each ratio, the closest size of the closest few methods.

    Near in |log ratio|; each row once; in the order of the rows. Raises PermeationError where no method was measured.
    """
    measured = [row for row in rows if row["ratio"] is not None]
    if not measured:
        raise PermeationError("none of the rivals was measured; accepted: one size of one method at least")
    taken: set[int] = set()
    for ratio in ratios:
        nearest: dict[str, int] = {}
        for i in sorted(range(len(measured)), key=lambda i: abs(np.log(measured[i]["ratio"] / ratio))):
            nearest.setdefault(measured[i]["method"], i)
        taken.update(islice(nearest.values(), methods))
    return [measured[i] for i in sorted(taken)]


@fast_products()
def measure_sense(
    model: Any,
    activations: Activations,
    sequences: Sequence[Sequence[int]],
    words: Collection[str],
    layers: Sequence[int],
    direction_layer: int,
    seed: int,
) -> Sense:
    """What the model, as it is now, makes of these words.

    activations: the prompts; their residual streams are read anew. layers: at which R is measured.
    """
    at_word = np.empty_like(activations.at_word)
    for batch, streams in residuals_at(model, sequences, [[len(each) - 1] for each in sequences], PROMPTS):
        at_word[batch] = streams[:, 0]
    own = replace(activations, at_word=at_word)
    fans = measure_fans(own, direction_layer)
    shifting = Shifting(lambda: model, sequences, own, seed, ("one_direction",))
    R = [shifting(layer) for layer in layers]
    found = []
    for word, (prompts, pairs) in ((each, shifting.clean.words[each]) for each in words):
        auc = leave_pair_out(pairs.stream, pairs.stream, 1, named_generator(seed, f"compressed {word}")).auc
        a, b = np.split(shifting.clean.T[prompts], 2)
        response = np.mean([of[word] for of in R])
        found.append((auc[1:].mean(), fans[word].separation, a.mean() - b.mean(), response))
    return dict(zip(MEASURES, np.array(found).T, strict=True))


def kept_rows(
    untouched: Sense, compressed: Sequence[tuple[Row, Sense]], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """A row for each compressed model and measure, for plots/compressed.json.

    compressed: by row of the rivals (method, size, ratio, low, high), the sense of that model.
    kept: 1 where all of the sense is left. kept_low, kept_high: the middle 95 % of resampled words, the same words in
    both models. None where the untouched model has none of it.
    """
    weights = resample_words(len(untouched["auc"]), resamples, named_generator(seed, "compressed words"))
    rows = []
    for row, sense in compressed:
        for measure in MEASURES:
            own, before = (each[measure] - CHANCE.get(measure, 0.0) for each in (sense, untouched))
            kept: dict[str, Any] = dict.fromkeys(("kept", "kept_low", "kept_high"))
            if before.sum() > 0 and (weights @ before > 0).all():
                kept = with_interval("kept", own.sum() / before.sum(), (weights @ own) / (weights @ before))
            rows.append({key: row[key] for key in COLUMNS} | {"measure": measure} | kept)
    return rows


def kept_summary(untouched: Sense, rows: Sequence[Row]) -> dict[str, Any]:
    """models: how many. untouched: the words' means of each measure.

    By measure: least_within_5: the model that keeps least among those with a ratio of at most 1.05; most_beyond_25: the
    one that keeps most among those of 1.25 and more. None where there is no such model.
    """
    found: dict[str, Any] = {
        "models": len(rows) // len(MEASURES),
        "untouched": {measure: float(untouched[measure].mean()) for measure in MEASURES},
    }
    for measure in MEASURES:
        own = [row for row in rows if row["measure"] == measure and row["kept"] is not None]
        least = min((row for row in own if row["ratio"] <= KEPT_RATIO), key=KEPT, default=None)
        most = max((row for row in own if row["ratio"] >= LOST_RATIO), key=KEPT, default=None)
        found[measure] = {"least_within_5": least and _named(least), "most_beyond_25": most and _named(most)}
    return found


def _named(row: Row) -> dict[str, Any]:
    kept = {"kept": row["kept"], "low": row["kept_low"], "high": row["kept_high"], "ratio": row["ratio"]}
    return {"method": f"{row['method']} {row['size']}"} | kept

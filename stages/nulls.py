"""Compare σ and g with null models in which the words' senses mean nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from permeation.frame.tables import write_json, write_rows
from permeation.meaning.factors import WordResiduals, factorise_words, real_sigmas, word_residuals
from permeation.meaning.nulls import NULLS, common_and_sense, excess, lasting_depth, p_value
from permeation.meaning.sigma import layer_index
from permeation.meaning.universality import Factorisation
from permeation.meaning.words import CONDITIONS, Prompt, read_prompts, select
from stages import Stage, run

Row = dict[str, Any]
QUANTILES = (0.025, 0.5, 0.975)
# The null models that figures show, and how they are called there.
LABELS = {"senses_shuffled": "senses shuffled", "within_senses": "no sense in the direction"}


@dataclass(frozen=True)
class Null:
    """A null model's σ per word (draws, folds, prompts, layers), and its g averaged over the words (draws, layers)."""

    sigma: dict[str, np.ndarray]
    mean_g: np.ndarray


def main(stage: Stage) -> None:
    """Write data/nulls/: <null>.npy (draws, statistics in the order of summary.json), medians and p-values, plots/."""
    activations, config = stage.input("extract_activations"), stage.config
    prompts = read_prompts(activations / "prompts.json")
    residuals = np.load(activations / "residuals.npy", mmap_mode="r")
    words = word_residuals(prompts, residuals, layer_index(config.sigma.direction_layer, residuals.shape[1]))
    field, exclude = config.response.field, config.g.exclude_final
    parts = list(words.values())
    real_sigma = dict(zip(words, real_sigmas(parts, field), strict=True))
    real = factorise_words(parts, list(real_sigma.values()), field)
    expected = {name: float(value[0]) for name, value in real.statistics(exclude).items()}

    statistics: dict[str, dict[str, np.ndarray]] = {}
    shown: dict[str, Null] = {}
    for stream, (name, null) in enumerate(tqdm(NULLS.items(), desc="null models", disable=None)):
        if name == "another_word" and len(parts) == 1:
            continue
        drawn = null(parts, field, config.nulls.draws, np.random.default_rng([config.seed, stream]))
        measured = factorise_words(parts, drawn, field)
        statistics[name] = measured.statistics(exclude)
        if name in LABELS:
            shown[name] = Null(dict(zip(words, drawn, strict=True)), measured.factors.mean_g)
    shuffled = statistics["senses_shuffled"].get("word_correlation_mean")
    parts_rows, depths = meaning_rows(words, real_sigma, shown)
    summary: dict[str, Any] = {
        "null_correlation_mean": None if shuffled is None else float(shuffled.mean()),
        "null": {name: {k: float(np.median(v)) for k, v in found.items()} for name, found in statistics.items()},
        "p": {name: {k: p_value(k, expected[k], v) for k, v in found.items()} for name, found in statistics.items()},
        "excess_final": {
            row["word"]: row["value"] for row in parts_rows if row["part"] == "excess" and row["depth"] == 1
        },
        "sense_depth": depths,
    }
    sigma_stage = stage.input("compute_sigma")
    sigma, centred = (np.load(sigma_stage / name) for name in ("sigma.npy", "centred_sigma.npy"))
    with stage.output() as folder:
        for name, found in statistics.items():
            np.save(folder / f"{name}.npy", np.stack(list(found.values()), axis=1))
        write_json(folder / "summary.json", summary)
        write_rows(folder / "plots" / "sigma.json", sigma_rows(prompts, sigma, centred, words, shown))
        write_rows(folder / "plots" / "g.json", g_rows(list(words), real.factors, shown))
        write_rows(folder / "plots" / "meaning.json", parts_rows)


def sigma_rows(
    prompts: Sequence[Prompt],
    sigma: np.ndarray,
    centred: np.ndarray,
    words: Mapping[str, WordResiduals],
    shown: Mapping[str, Null],
) -> list[Row]:
    """σ per word, condition and layer, averaged over the condition's prompts; and where the middle 95 % of the two
    strong conditions' averages lie in the null models.
    """
    depth = np.linspace(0, 1, sigma.shape[1])
    rows: list[Row] = []
    for name, word in words.items():
        for condition in CONDITIONS:
            chosen = select(prompts, name, "condition", condition)
            means = zip(depth, sigma[chosen].mean(axis=0), centred[chosen].mean(axis=0), strict=True)
            rows += [
                {"word": name, "condition": condition, "depth": x, "sigma": s, "centred_sigma": c}
                | {"low": None, "high": None}
                for x, s, c in means
            ]
        for null, label in LABELS.items():
            common, sense = common_and_sense(word, shown[null].sigma[name])
            low, middle, high = np.quantile(np.concatenate([common + sense, common - sense]), QUANTILES, axis=0)
            rows += [
                {"word": name, "condition": label, "depth": x, "sigma": s, "centred_sigma": None}
                | {"low": lo, "high": hi}
                for x, s, lo, hi in zip(depth, middle, low, high, strict=True)
            ]
    return rows


def g_rows(words: list[str], real: Factorisation, shown: Mapping[str, Null]) -> list[Row]:
    """g per word and layer; the mean over words; that mean in the null models, its median and its middle 95 %."""
    depth = np.linspace(0, 1, real.g.shape[-1])
    unknown = [None] * len(depth)
    curves = [("word", word, g, unknown, unknown) for word, g in zip(words, real.g[0], strict=True)]
    curves.append(("mean", "mean", real.mean_g[0], unknown, unknown))
    for null, label in LABELS.items():
        low, middle, high = np.quantile(shown[null].mean_g, QUANTILES, axis=0)
        curves.append(("null", label, middle, low, high))
    return [
        {"kind": kind, "word": word, "depth": x, "g": y, "low": lo, "high": hi}
        for kind, word, g, lows, highs in curves
        for x, y, lo, hi in zip(depth, g, lows, highs, strict=True)
    ]


def meaning_rows(
    words: Mapping[str, WordResiduals], real: Mapping[str, np.ndarray], shown: Mapping[str, Null]
) -> tuple[list[Row], dict[str, float | None]]:
    """The common and the sense part of σ, the sense part in the null models, and the excess over the one without
    sense, per word and layer; and the depth from which on the sense part stays above 97.5 % of the shuffles.
    """
    rows: list[Row] = []
    depths = {}
    for name, word in words.items():
        (common,), (sense,) = common_and_sense(word, real[name])
        null = {each: common_and_sense(word, shown[each].sigma[name])[1] for each in LABELS}
        unknown = [None] * len(sense)
        parts: dict[str, tuple[Any, Any, Any]] = {
            "common": (common, unknown, unknown),
            "sense": (sense, unknown, unknown),
            "excess": (excess(sense, null["within_senses"]), unknown, unknown),
        }
        for each, label in LABELS.items():
            low, middle, high = np.quantile(null[each], QUANTILES, axis=0)
            parts[label] = (middle, low, high)
        depths[name] = lasting_depth(sense > parts[LABELS["senses_shuffled"]][2])
        rows += [
            {"word": name, "depth": x, "part": part, "value": y, "low": lo, "high": hi}
            for part, columns in parts.items()
            for x, y, lo, hi in zip(np.linspace(0, 1, len(sense)), *columns, strict=True)
        ]
    return rows, depths


if __name__ == "__main__":
    run(main)

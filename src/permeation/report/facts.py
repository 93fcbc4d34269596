"""What findings.yaml needs beside the metrics: a function for each question, by its key there.

It takes the metrics files by name, and gives the answer (True is Yes, False No, None Open), the figures that the
sentences call {here.name}, and the table. Figures of g stand beside the null model and the p of the same h: g.final,
g.rank; all others are of response.field.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from permeation.report.labels import label
from permeation.report.sections import ENDS, LEVEL, Metrics, Table, interval, look_up, measured, number

Found = tuple[bool | None, Metrics, Table]

# Nats for a byte of the prompts over those for a byte of running text: SmolLM2 takes 1.6 for the shipped prompts, 2.0
# for the hardest of 45 English words, and 2.8 to 3.5 for German, Spanish and Japanese ones (docs/meaning.md, Prompts).
STRANGE = 2.2
KEPT = 1.05  # the ratio up to which a model counts as kept: 5 % more perplexity
SMALL = 32  # components, as published
LOST = 0.95  # a compressed model that keeps less of the sense has lost some


def contexts_pull(metrics: Metrics) -> Found:
    """The test of decoding; of the counts that weaken a list of words those that are not 0."""
    sigma, g, decode = (metrics[name] for name in ("sigma", "g", "decode"))
    test, tested = "gradient_own", "graded prompts"
    if test not in decode:  # a table's sentences have no gradient
        test, tested = "direction_own", "sentences that others labelled"
    p, auc = g["p"][f"auc.{test}"], {f"auc{end}": decode[test].get(f"auc{end}") for end in ENDS}
    prompts = look_up(metrics, "intervene.prompts_nats_per_byte")
    text = look_up(metrics, "perplexity.baseline.nats_per_byte")
    strange = prompts / text if prompts and text and prompts > STRANGE * text else None
    weak = {name: count or None for name, count in sigma.items() if isinstance(count, int)}
    here = weak | auc | {"tested": tested, "p": p, "few": p if p >= LEVEL else None, "strange": strange}
    here["over"] = _over("mean over", sigma["n_words"])
    words = sigma["words"].items()
    rows = [(word, number(each["separation"]), number(g["f_max"].get(word))) for word, each in words]
    return p < LEVEL or None, here, [("word", "σ(strong A) − σ(strong B)", "f_max"), *rows]


def carried_by_word(metrics: Metrics) -> Found:
    """Whether the first of the layers reads the sense better at the word than at the token before it."""
    at, before = metrics["g"]["auc_at_word"], metrics["g"]["auc_before"]
    rows = [("at the word", *map(number, at.values())), ("at the token before it", *map(number, before.values()))]
    first, *_ = at
    here = {"layer": first, "word": at[first], "before": before[first]}
    return at[first] > before[first], here, [("AUC at layer", *at), *rows]


def one_curve(metrics: Metrics) -> Found:
    """The test of the halves; of the run's h, what the product explains, in words where the share is negative."""
    own = look_up(metrics, f"g.{look_up(metrics, 'parameters.response.field')}") or {}
    p, r2 = look_up(metrics, "g.reliability.p"), own.get("decomposition_r2")
    differ = bool(p and p < LEVEL)
    said = "the words' curves differ" if differ else "the words' curves are not told apart"
    name = "worse" if r2 is not None and r2 < 0 else "r2"
    return False if differ else None, {"said": said, "own": own, name: r2}, ()


def sense_used(metrics: Metrics) -> Found:
    """Where the effect of a shift begins; None of a run without a word whose senses differ in the next token."""
    if (onset := metrics["intervene"].get("onset")) is None:
        return None, {}, ()
    used, over = onset["value"] is not None, _over("median of", metrics["intervene"]["words"])
    return used, {"onset": f"from depth {measured(onset)} on" if used else "at no layer", "over": over}, ()


def shared_subspace(metrics: Metrics) -> Found:
    """Whether 90 % of the variance take few components, fewer than half of random heads'; the counts of each form."""
    pca = metrics["pca"]
    of_gram = pca["components_for_variance"]
    rows: list[tuple[str, ...]] = [("components for", *(f"{share} %" for share in of_gram))]
    for name, part in ({"gram": pca} | _parts(pca, "components_for_variance")).items():
        rows.append((label(name), *map(number, part["components_for_variance"].values())))
        if null := pca["null"].get(name):
            rows.append((f"{label(name)}, at random", *map(number, null.values())))
    return of_gram["90"] <= SMALL and 2 * of_gram["90"] < pca["null"]["gram"]["90"], {}, rows


def _cheapest(file: str, name: str, metrics: Metrics) -> Found:
    """The entry short of all that costs least; a row for each, with all layers and with all but the first."""
    part = metrics[file]
    ratios = {key: ratio for key, ratio in part["ratio"].items() if key != "all" and ratio is not None}
    best = min(ratios, key=ratios.__getitem__, default=None)
    columns = (part, part["first_layer_kept"])
    rows = [
        (key, *(interval(*(each[f"ratio{end}"][key] for end in ENDS)) for each in columns)) for key in part["ratio"]
    ]
    here = {"tried": len(ratios), "best": best, "ratio": ratios.get(best)}
    return best is not None and ratios[best] <= KEPT, here, [(name, "perplexity ratio", "first layer kept"), *rows]


few_components = partial(_cheapest, "perplexity", "K")
shared_heads = partial(_cheapest, "clusters", "k")


def large_variance(metrics: Metrics) -> Found:
    """What dropping the band of most variance costs, and of least; Open where the intervals overlap."""
    part = metrics["perplexity"]
    first, *_, last = part["band_ratio"]

    def cost(of: Metrics, name: str, band: str) -> dict[str, float]:
        return {f"{name}{end}": of[f"band_ratio{end}"][band] for end in ENDS}

    cut, kept = cost(part, "most", first) | cost(part, "least", last), part["first_layer_kept"]
    apart = cut["most_low"] > cut["least_high"] or cut["most_high"] < cut["least_low"]
    here = cut | cost(kept, "most_kept", first) | cost(kept, "least_kept", last)
    here |= {"first": first, "last": last, "layers": len(part["layer_ratio"])}
    return cut["most"] > cut["least"] if apart else None, here, ()


def few_bits(metrics: Metrics) -> Found:
    """The fewest bits of each method at 5 % more perplexity."""
    bits, low, high = (metrics["rivals"][f"bits_at_1_05{end}"] for end in ENDS)
    rows = [(name, interval(bits[name], low[name], high[name])) for name in bits]
    return True, {}, [("method", "bits at 5 % more"), *rows]


def few_heads(metrics: Metrics) -> Found:
    """ρ over all heads and within layers, with its p."""
    roles = metrics["head_roles"]
    rows = [
        (label(name), measured(figures), *(number(figures["within_layers"][key]) for key in ("value", "p")))
        for name, figures in roles["beside"]["exchange"].items()
    ]
    answer = roles["heads"]["within_sense"] < roles["heads"]["exchange"] <= roles["n_heads"] / 10
    return answer, {}, [("role beside", "ρ, 95 % interval", "within layers", "p"), *rows]


def sense_lost(metrics: Metrics) -> Found:
    """What models within 5 % of the perplexity keep of each measure at least, and those beyond 25 % at most."""
    ends = ("least_within_5", "most_beyond_25")
    parts = _parts(metrics["compressed"], "least_within_5")
    rows = [(label(name), *(measured(part[end]) if part[end] else "–" for end in ends)) for name, part in parts.items()]
    least = metrics["compressed"]["gap"]["least_within_5"]
    told_apart = least and (least["high"] < LOST or least["low"] >= LOST)
    lost = least["high"] < LOST if told_apart else None
    return lost, {}, [("share kept of", "least within 5 %", "most beyond 25 %"), *rows]


def models_share(metrics: Metrics) -> Found:
    """How many groups take few components, fewer than half of the same matrices rotated."""
    groups, rows, small = _parts(metrics["universal"], "ratio"), [("models", "components for 90 %")], 0
    for name, part in groups.items():
        found = part["components_for_variance"]["90"]
        small += found["high"] <= min(SMALL, part["null"]["rotated"] / 2)
        rows.append((label(name), measured(found)))
        rows += [(f"{label(name)}: {null}", number(value)) for null, value in part["null"].items()]
    return small == len(groups), {"groups": len(groups), "small": small}, rows


def models_rebuilt(metrics: Metrics) -> Found:
    """How many groups keep the perplexity with any number of components."""
    groups = _parts(metrics["universal"], "ratio")
    kept = sum(max(each["high"] for each in part["ratio"]["mean_and_K"].values()) <= KEPT for part in groups.values())
    curves = dict.fromkeys(curve for part in groups.values() for curve in part["ratio"])
    rows = [("perplexity ratio", *map(label, curves))]
    rows += [
        (f"{label(name)}, K = {K}", *(number(ratios.get(K, {}).get("value")) for ratios in part["ratio"].values()))
        for name, part in groups.items()
        for K in dict.fromkeys(K for ratios in part["ratio"].values() for K in ratios)
    ]
    return kept == len(groups), {"groups": len(groups), "kept": kept}, rows


def _over(statistic: str, words: int) -> str:
    return f"{statistic} {words} words" if words > 1 else "of one word, so without an interval"


def _parts(metrics: Metrics, key: str) -> dict[str, Metrics]:
    """The parts of a metrics file that have this key."""
    return {name: part for name, part in metrics.items() if isinstance(part, Mapping) and key in part}

"""Every figure of the reports, by the table under plots/ that it is drawn from: a caption and a specification."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from matplotlib.figure import Figure

from permeation.report.claims import Claim
from permeation.report.draw import BEATEN, Curves, Forest, Maps, Rows, Spec, groups

# Beyond a ratio of 2 nobody would use the model; below one of 1.0003 nobody could tell.
HOPELESS, FLOOR = 2.0, 3e-4
CONTEXTS = ("#0072B2", "#56B4E9", "#666666", "#E69F00", "#D55E00")  # strong A to strong B
TESTS = {"direction": "clear contexts (leave pair out)", "gradient": "graded contexts (held out)"}


def _with_words(rows: Rows) -> Rows:
    """Each null model's rows with the words' own curve in the same panel."""
    models = groups(rows, "panel")
    words = models.pop("words")
    series = {model: (("the words", words), ("null model (95 %)", own)) for model, own in models.items()}
    return [{**row, "panel": m, "series": name} for m, lines in series.items() for name, line in lines for row in line]


def _responses(rows: Rows) -> Rows:
    """f with its 95 % interval and R² of each word as two series."""
    found = [{**row, "series": "f", "value": row["f"]} for row in rows]
    for row in found:
        row |= {end: row["f"] + z * row["standard_error"] for end, z in (("low", -1.96), ("high", 1.96))}
    return found + [{**row, "series": "R²", "value": row["r_squared"]} for row in rows]


def _frontier(rows: Rows) -> Rows:
    """The excess over the untouched perplexity, of what does not double it; what is beaten last."""
    excess = [
        {**row, "method": row["method"] if row["frontier"] else BEATEN}
        | {each: min(max(row[each] - 1, FLOOR), HOPELESS - 1) for each in ("ratio", "low", "high")}
        for row in rows
        if row["ratio"] is not None and row["ratio"] <= HOPELESS
    ]
    return sorted(excess, key=lambda row: not row["frontier"])


def _first_component(rows: Rows) -> Rows:
    """The first component as a share of the form's largest, for one colour scale."""
    most = {form: max(abs(row["component_1"]) for row in own) or 1.0 for form, own in groups(rows, "form").items()}
    return [{**row, "component_1": row["component_1"] / most[row["form"]]} for row in rows]


FIGURES: dict[str, Spec] = {
    "sigma": Curves(
        "σ at the word after each layer, in five contexts. Where a context settles the sense, its line leaves the "
        "others and stays away. All lines of a word drift together, so 0 is not neutral.",
        *("σ (cosine with the contrast direction)", "word", "condition", "sigma"),
        rule=0.0,
        colours=CONTEXTS,
        styles=("-",),
    ),
    "g": Curves(
        "g, the shape of the response over depth: a thin line for each word, a thick one for their mean.",
        *("g = f / f_max", "", "", "g", "word"),
    ),
    "nulls": Curves(
        "The words' mean g over what null models give: the median and the middle 95 %. Inside the band, the shape says "
        "nothing about meaning.",
        *("g, mean over words", "panel", "series"),
        prepare=_with_words,
    ),
    "controls": Curves(
        "Left: g with another h, and g predicted from the direction prompts; the band is that of shuffled senses. "
        "Right: AUC of graded prompts at the word and at the token before it.",
        *("g or AUC, mean over words", "panel", "series"),
    ),
    "depths": Curves(
        "For each word: how well the sense can be read (AUC), how much of what follows one direction carries (R), and "
        "g. R shows where the model takes up what can be read.",
        *("AUC, R, g", "panel", "series"),
        rule=0.5,
    ),
    "intervene": Curves(
        "R by the layer that is changed, mean over words: the whole stream, one direction, its erasure, and controls.",
        *("R", "panel", "series"),
        x_label="depth l / L of the change",
        rule=0.0,
        prepare=lambda rows: [row for row in rows if row["word"] == "mean"],
    ),
    "decoding": Curves(
        "From which layer on the sense can be read: 0.5 is chance, 1 is every prompt right. Thick: the mean over words "
        "with its 95 % interval; thin: each word.",
        *("AUC of sense A against B", "test", "direction", "auc", "word"),
        rule=0.5,
        prepare=lambda rows: [
            {**row, "test": TESTS[row["test"]], "direction": f"{row['direction']} direction"} for row in rows
        ],
    ),
    "response": Curves(
        "How strongly σ follows the context (f, with 95 % intervals) and how well a straight line describes that (R²). "
        "Where R² is low, f and g stand for little.",
        *("f, R²", "word", "series"),
        prepare=_responses,
    ),
    "spectrum": Curves(
        "How much of the variance of all heads' W_QK the first K components explain. A small shared subspace is a "
        "curve that is at 1 almost at once. A curve above that of random frames: the heads share more than chance.",
        *("share of variance", "form", "heads", "cumulative", "", "components", "principal components K"),
    ),
    "perplexity": Curves(
        "What it costs to rebuild the heads from K components: 1, the dashed line, costs nothing; 100 makes the model "
        "useless. The last point is all components, which gives the model back.",
        *("perplexity ratio", "", "replaced", "ratio", "", "components", "principal components K", 1.0, True, True),
        log=True,
    ),
    "clusters": Curves(
        "What it costs when the heads of each of k clusters share one W_QK; 1, the dashed line, costs nothing.",
        *("perplexity ratio", "", "replaced", "ratio", "", "k", "clusters k", 1.0, True, True),
        log=True,
    ),
    "layers": Curves(
        "What it costs to rebuild the heads of one layer alone.",
        *("perplexity ratio", "", "", "ratio", "", "layer", "the layer that is rebuilt", 1.0, True),
        log=True,
    ),
    "bands": Curves(
        "What it costs to drop one band of components. If variance were what counts, the costs would fall from left to "
        "right.",
        *("perplexity ratio", "", "replaced", "ratio", "", "band", "the components that are dropped", 1.0, True),
        log=True,
        prepare=lambda rows: [
            {**row, "band": f"{row['first']}–{row['last']}\n{row['variance']:.1%} of variance"} for row in rows
        ],
    ),
    "pareto": Curves(
        "How much more perplexity each way of storing W_Q and W_K costs, by the bits for each number. Left and down is "
        "better; below the dashed line a model loses less than 5 %. Grey: another takes no more bits and loses less. "
        "What doubles the perplexity is left out.",
        *("more perplexity", "", "method", "ratio", "", "bits", "bits for each number of W_Q and W_K", 0.05, True),
        log=True,
        percent=True,
        prepare=_frontier,
    ),
    "heads": Maps(
        "Each head's place on the first principal component of W_QK, by layer and head. The darkest cell lies farthest "
        "out: that head weighs most in the component, and heads of the other colour point against it.",
        *("first component, share of the largest", "form", "", "component_1"),
        prepare=_first_component,
    ),
    "head_roles": Maps(
        "What each head brings of the sense, on one scale. Orange: it pushes what follows (written along ê: the "
        "residual stream) towards the sense of its own prompt; violet: away. The darkest cell is the head that does "
        "most of all panels. Dots: told from chance among all heads (family-wise p < 0.05). The control should have no "
        "colour.",
        *("share of the difference between the senses", "series", "", "share"),
        prepare=lambda rows: [row for row in rows if row["series"] != "random"],
    ),
    "compressed": Curves(
        "How much of the sense a compressed model keeps, by its perplexity over the untouched one's. On the dashed "
        "line all is kept. Low at the left: the perplexity stays and the sense goes.",
        *("kept, of the untouched model's", "measure", "method", "kept", "", "ratio", "perplexity ratio", 1.0, True),
        x_ends=("low", "high"),
        y_ends=("kept_low", "kept_high"),
        prepare=lambda rows: [row for row in rows if row["kept"] is not None],
    ),
    "spectra": Curves(
        "How much of the variance of one matrix over models K components explain, mean taken out, mean over matrices. "
        "A small shared subspace is a curve that is at 1 almost at once, and above those of the null models.",
        *("share of variance", "models", "population", "cumulative", "", "components", "principal components K", None),
        points=True,
        joined=True,
        y_ends=("cumulative", "cumulative"),
    ),
    "left_out": Curves(
        "What it costs to replace a model's weights by what the other models' mean and K components make of them; 1, "
        "the dashed line, costs nothing. Own K is the limit: no K directions do better.",
        *("perplexity ratio", "models", "curve", "ratio", "", "components", "principal components K", 1.0, True, True),
        log=True,
        prepare=lambda rows: [row for row in rows if row["components"]],
    ),
    "compare": Curves(
        "Curves of each run; a run without a panel's word is the mean of its own words, over the band of all of them.",
        *("g, or difference of σ", "panel", "revision"),
    ),
    "claims": Forest(
        "The published claims, each on a scale of its own: the figures with which it holds (green), what was found "
        "with its 95 % interval (blue), and the null model's figure (orange)."
    ),
}


def draw(name: str, rows: Rows, titles: Mapping[str, str]) -> Figure | None:
    """The figure of a table; None where there is none to draw. `titles` replace the names of panels."""
    spec = FIGURES.get(name)
    prepared = spec.prepare(rows) if spec and rows else ()
    return spec.draw(prepared, titles) if spec and prepared else None


def draw_claims(claims: Collection[Claim]) -> Figure | None:
    """The figure of those claims that were measured."""
    rows = [
        {"claim": claim.words, "text": claim.found_text()}
        | {"accepted": claim.accepted, "found": claim.found, "null": claim.null}
        for claim in claims
        if claim.found
    ]
    return draw("claims", rows, {})

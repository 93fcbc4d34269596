"""What the stages of the meaning axis found, in words."""

from __future__ import annotations

from permeation.report.axes import look_up
from permeation.report.sections import Metrics, Question, Table, measured, number

LEVEL = 0.05
# Nats for a byte of the prompts over those for a byte of running text: SmolLM2 takes 1.6 for the shipped prompts, 2.0
# for the hardest of 45 English words, and 2.8 to 3.5 for German, Spanish and Japanese ones (docs/meaning.md, Prompts).
STRANGE = 2.2


def _words(metrics: Metrics) -> Table:
    words = metrics["sigma"]["words"]
    rows = [(word, number(each["separation"]), number(metrics["g"]["f_max"].get(word))) for word, each in words.items()]
    return ("word", "σ(strong A) − σ(strong B)", "f_max"), rows


def _weak(metrics: Metrics) -> Metrics:
    """The counts that weaken a list of words, where they are not 0."""
    return {name: count or None for name, count in metrics["sigma"].items() if isinstance(count, int)}


def _first(by_layer: Metrics) -> float:
    value: float = next(iter(by_layer.values()))
    return value


def _before(metrics: Metrics) -> Table:
    at, before = metrics["g"]["auc_at_word"], metrics["g"]["auc_before"]
    rows = [("at the word", *map(number, at.values())), ("at the token before it", *map(number, before.values()))]
    return ("AUC, graded prompts, at layer", *at), rows


def _own_curves(metrics: Metrics) -> Metrics:
    p = look_up(metrics, "g.reliability.p")
    return {"said": "every word has a curve of its own" if p and p < LEVEL else "the words' curves are not told apart"}


def _onset(metrics: Metrics) -> Metrics:
    onset = metrics["intervene"].get("onset")
    if onset is None:
        return {}
    return {"onset": "at no layer" if onset["value"] is None else f"from depth {measured(onset)} on"}


def _response(metrics: Metrics) -> Table:
    response = metrics["intervene"].get("response", {})
    return ("layer", "R of one direction"), [(layer, number(value)) for layer, value in response.items()]


QUESTIONS = (
    Question(
        "Do contexts pull a word towards its senses?",
        ("sigma", "g", "decode"),
        lambda metrics: metrics["g"]["p"]["auc.gradient_own"] < LEVEL,
        (
            "along directions made from other prompts, graded prompts of the two senses are told apart with an AUC of "
            "{decode.gradient_own.auc:i}, mean over {sigma.n_words} words (chance is 0.5).",
            "At the last layer σ follows the order of the five contexts with a Kendall's τ of {sigma.order_tau}; all "
            "five are in order for {sigma.ordered_words} of {sigma.n_words} words (by chance for 1 in 120).",
            "Words with fewer than 8 direction prompts in a sense, whose directions are shaky: "
            "{here.few_direction_prompts}.",
            "Words without a gradient, and so without g: {here.without_gradient}.",
            "Prompts that serve more than once, left out where prompts are held out: {here.repeated_prompts}.",
        ),
        facts=_weak,
        table=_words,
        figures=("sigma", "decoding"),
    ),
    Question(
        "Is it the word that carries the sense?",
        ("g",),
        lambda metrics: (
            next(iter(metrics["g"]["auc_at_word"].values())) > next(iter(metrics["g"]["auc_before"].values()))
        ),
        (
            "that is where the sense is read better at the word than at the token before it, in the first of these "
            "layers. Where the two are alike, the text before the word gives the topic away.",
            "At the token before the word the words' g correlate by {g.before.rank_correlation_mean}, at the word by "
            "{g.rank.word_correlation_mean}: what is the same at both is not about the word.",
        ),
        table=_before,
        figures=("controls",),
    ),
    Question(
        "Is the response over depth the same for all words?",
        ("g", "sigma"),
        lambda metrics: False if metrics["g"]["reliability"]["p"] < LEVEL else None,
        (
            "{here.said}: halves of one word's prompts agree by {g.reliability.within:i}, halves of two words' by "
            "{g.reliability.between:i} (p = {g.reliability.p}); a half finds its own word among {sigma.n_words} in "
            "{g.reliability.identified:%} (chance {g.reliability.chance:%}).",
            "Corrected for the noise of the halves, two words' curves correlate by {g.reliability.corrected:i}.",
            "With h from the gradient's order the words' g correlate by {g.rank.word_correlation_mean}, with shuffled "
            "senses by {g.rank.null_correlation_mean}; with h from the last layer by {g.word_correlation_mean:i} "
            "against {g.null_correlation_mean}.",
            "h · f_max · g̅ explains {g.decomposition_r2:%} of σ's variance. It cannot express the drift that all "
            "prompts of a word share; with that taken out it explains {g.decomposition_r2_drift_out:%}, with shuffled "
            "senses {g.null_r2_drift_out:%}.",
            "g is largest at depth {g.peak_depth} and falls by {g.final_drop:%} from there to the last layer. Without "
            "the final layers it grows like (l/L)^{g.alpha:i}; the law that fits best: {g.best_model}.",
        ),
        open="a word needs another one to be compared with.",
        facts=_own_curves,
        figures=("g", "nulls", "response", "fits"),
    ),
    Question(
        "Do the direction prompts alone predict g?",
        ("g", "sigma"),
        lambda metrics: metrics["g"]["predicted"]["own"] > metrics["g"]["predicted"]["others"],
        (
            "how far the contrast of the senses has turned towards its final direction, times its size, correlates "
            "with a word's own g by {g.predicted.own}, with other words' by {g.predicted.others}; it finds its own "
            "word among {sigma.n_words} in {g.predicted.identified:%}.",
        ),
        open="a word needs another one to be compared with.",
    ),
    Question(
        "Does the model use the sense?",
        ("intervene",),
        lambda metrics: metrics["intervene"]["onset"]["value"] is not None,
        (
            "a shift along one direction at one layer brings a quarter of the difference between the senses in the "
            "next token {here.onset} (median of {intervene.words} words).",
            "From there R stays at {intervene.plateau}, and reaches three quarters at depth {intervene.second_rise}.",
            "Shifts of the same length along other directions do {intervene.control_max} at most.",
            "Left out, because the next token does not tell their senses apart: {intervene.unmeasurable_words}.",
        ),
        open="no word's senses differ enough in the next token.",
        facts=_onset,
        table=_response,
        figures=("depths", "intervene"),
    ),
    Question(
        "Does the model read the prompts?",
        ("intervene", "perplexity"),
        lambda metrics: (
            look_up(metrics, "intervene.prompts_nats_per_byte")
            <= STRANGE * look_up(metrics, "perplexity.baseline.nats_per_byte")
            or None
        ),
        (
            "a byte of the condition prompts costs {intervene.prompts_nats_per_byte} nats, a byte of the text "
            f"{{perplexity.baseline.nats_per_byte}}. From a ratio of {STRANGE} on (English prompts: 1.6) a model may "
            "not read the prompts' language, and an AUC says nothing about meaning.",
        ),
    ),
)

"""What the stages of the meaning axis found, in words.

Figures of g stand beside the null model and the p of the same h: g.final, g.rank; all others are of response.field.
"""

from __future__ import annotations

from permeation.report.axes import look_up
from permeation.report.sections import LEVEL, Metrics, Question, Table, measured, number

# Nats for a byte of the prompts over those for a byte of running text: SmolLM2 takes 1.6 for the shipped prompts, 2.0
# for the hardest of 45 English words, and 2.8 to 3.5 for German, Spanish and Japanese ones (docs/meaning.md, Prompts).
STRANGE = 2.2
BASELINE = "perplexity.baseline.nats_per_byte"


def _words(metrics: Metrics) -> Table:
    words = metrics["sigma"]["words"]
    rows = [(word, number(each["separation"]), number(metrics["g"]["f_max"].get(word))) for word, each in words.items()]
    return ("word", "σ(strong A) − σ(strong B)", "f_max"), rows


def _decoded(metrics: Metrics) -> Metrics:
    """The test of decoding, and the counts that weaken a list of words, where they are not 0."""
    test = (
        "gradient_own" if "gradient_own" in metrics["decode"] else "direction_own"
    )  # a table's sentences: no gradient
    p, decoded = metrics["g"]["p"][f"auc.{test}"], metrics["decode"][test]
    tested = "graded prompts" if test == "gradient_own" else "sentences that others labelled"
    weak = {name: count or None for name, count in metrics["sigma"].items() if isinstance(count, int)}
    prompts, text = (look_up(metrics, path) for path in ("intervene.prompts_nats_per_byte", BASELINE))
    strange = prompts / text if prompts and text and prompts > STRANGE * text else None
    facts = {"p": p, "few": p if p >= LEVEL else None, "strange": strange, "tested": tested}
    return weak | facts | {f"auc{end}": decoded.get(f"auc{end}") for end in ("", "_low", "_high")}


def _before(metrics: Metrics) -> Table:
    at, before = metrics["g"]["auc_at_word"], metrics["g"]["auc_before"]
    rows = [("at the word", *map(number, at.values())), ("at the token before it", *map(number, before.values()))]
    return ("AUC, graded prompts, at layer", *at), rows


def _is_word(metrics: Metrics) -> bool:
    at, before = (next(iter(metrics["g"][name].values())) for name in ("auc_at_word", "auc_before"))
    return bool(at > before)


def _curves(metrics: Metrics) -> Metrics:
    """What the test of the halves says; how much of σ's variance a negative share would explain is said in words."""
    p, r2 = look_up(metrics, "g.reliability.p"), look_up(metrics, "g.final.decomposition_r2")
    said = "every word has a curve of its own" if p and p < LEVEL else "the words' curves are not told apart"
    return {"said": said, "worse": r2 if r2 is None or r2 < 0 else None, "r2": r2 if r2 is None or r2 >= 0 else None}


def _onset(metrics: Metrics) -> Metrics:
    onset = metrics["intervene"].get("onset")
    if onset is None:
        return {}
    return {"onset": "at no layer" if onset["value"] is None else f"from depth {measured(onset)} on"}


QUESTIONS = (
    Question(
        "Do contexts pull a word towards its senses?",
        ("sigma", "g", "decode"),
        lambda metrics: _decoded(metrics)["p"] < LEVEL or None,
        (
            "along directions made from other prompts, {here.tested} of the two senses are told apart with an AUC of "
            "{here.auc:i}, mean over {sigma.n_words} words (chance is 0.5; p = {here.p}).",
            "The interval says how sure the AUC is; p, how often shuffled senses reach such an AUC at any layer. With "
            "few prompts they often do: p = {here.few} needs more prompts or words, however high the AUC.",
            "Beside it, the AUC at the token before the word is {decode.sentences.places.before.auc:i}, two tokens "
            "later {decode.sentences.places.later.auc:i}, at the sentence's end {decode.sentences.places.end.auc:i}; "
            "of the left context as a bag of embeddings {decode.sentences.baselines.context.auc:i}, of the sentence's "
            "length {decode.sentences.baselines.length.auc:i}.",
            "Words whose senses are of one part of speech: {decode.sentences.same_pos.one.at_word.auc} at the word, "
            "{decode.sentences.same_pos.one.before.auc} at the token before; of two: "
            "{decode.sentences.same_pos.two.at_word.auc} and {decode.sentences.same_pos.two.before.auc}.",
            "The left context as a bag of embeddings tells the direction prompts apart with an AUC of "
            "{decode.context.auc:i}.",
            "At the last layer σ follows the order of the five contexts with a Kendall's τ of {sigma.order_tau}; all "
            "five are in order for {sigma.ordered_words} of {sigma.n_words} words (by chance for 1 in 120).",
            "A byte of the condition prompts costs {here.strange} times the nats of a byte of the text, where English "
            "prompts cost 1.6: a model that does not read the prompts' language says nothing about meaning.",
            "Words with fewer than 8 direction prompts in a sense, whose directions are shaky: "
            "{here.few_direction_prompts}.",
            "Words without a gradient, and so without g: {here.without_gradient}.",
            "Prompts that serve more than once, left out where prompts are held out: {here.repeated_prompts}.",
        ),
        facts=_decoded,
        table=_words,
        figures=("sigma", "decoding"),
    ),
    Question(
        "Is it the word that carries the sense?",
        ("g",),
        _is_word,
        (
            "that is where the sense is read better at the word than at the token before it, in the first of these "
            "layers. Where the two are alike, the text before the word gives the topic away.",
            "With h = rank the words' g correlate by {g.before.rank_correlation_mean} at the token before the word, by "
            "{g.rank.word_correlation_mean} at the word: what is the same at both is not about the word.",
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
            "{g.reliability.between:i} (h = rank, p = {g.reliability.p}); a half finds its own word among "
            "{sigma.n_words} in {g.reliability.identified:%} (chance {g.reliability.chance:%}).",
            "Corrected for the noise of the halves, two words' curves correlate by {g.reliability.corrected:i}.",
            "With h = rank the words' g correlate by {g.rank.word_correlation_mean}, with shuffled senses by "
            "{g.rank.null_correlation_mean} (p = {g.rank.p_correlation_mean}).",
            "With h = final they correlate by {g.final.word_correlation_mean}, with shuffled senses by "
            "{g.final.null_correlation_mean} (p = {g.final.p_correlation_mean}).",
            "With h = final, h · f_max · g̅ explains {here.r2:%} of σ's variance.",
            "With h = final, h · f_max · g̅ is off by more than σ's mean would be (R² = {here.worse}): it explains "
            "nothing of σ.",
            "It cannot express the drift that all prompts of a word share; with that taken out it explains "
            "{g.final.decomposition_r2_drift_out:%}, with shuffled senses {g.final.null_r2_drift_out:%} "
            "(p = {g.final.p_r2_drift_out}).",
            "The direction prompts alone predict g (h = final): how far the contrast of the senses has turned towards "
            "its final direction, times its size, correlates with a word's own g by {g.predicted.own}, with other "
            "words' by {g.predicted.others}.",
            "With h = {parameters.response.field}, g is largest at depth {g.peak_depth} and falls by {g.final_drop:%} "
            "from there to the last layer. Without the final layers it grows like (l/L)^{g.alpha:i}; the law that fits "
            "best: {g.best_model}.",
        ),
        open="a word needs another one to be compared with.",
        facts=_curves,
        figures=("g", "nulls", "response"),
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
        figures=("depths", "intervene"),
    ),
)

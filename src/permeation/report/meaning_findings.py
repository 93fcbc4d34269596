"""What the stages of the meaning axis found, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from permeation.report.sections import Metrics, Section, counted, share

# Times a byte of running text: SmolLM2 takes 1.6 for the shipped prompts, 2.0 for the hardest of 45 English words, and
# 2.8 to 3.5 for German, Spanish and Japanese ones (docs/meaning.md, Prompts).
STRANGE = 2.2
PRIMARY = "rank.word_correlation_mean"  # docs/meaning.md, p-values


def meaning_of_words(sigma: Metrics, g: Metrics, decode: Metrics) -> Section:
    """How far the contexts of each word come apart, and from where on the sense can be read."""
    words = sigma["words"]
    gaps = {word: values["separation"] for word, values in words.items()}
    smallest, largest = min(gaps, key=lambda word: gaps[word]), max(gaps, key=lambda word: gaps[word])
    spread = f"{gaps[smallest]:.2f} ({smallest})"
    spread += f" to {gaps[largest]:.2f} ({largest})" if len(gaps) > 1 else ""
    graded, alone = decode["gradient_own"], sigma["n_words"] == 1
    findings = [
        "Along directions made from other prompts the senses of graded prompts are told apart with an AUC of "
        f"{graded['auc']:.2f} on average over {'layers' if alone else 'words and layers'} (95 % interval "
        f"{graded['auc_low']:.2f} to {graded['auc_high']:.2f}; chance is 0.5, p = {_p(g['p']['auc.gradient_own'])} "
        "after Holm).",
        f"At the last layer σ follows the order of the five contexts with a Kendall's τ of {sigma['order_tau']:.2f}"
        f"{'' if alone else ' on average'}; {_in_order(sigma['ordered_words'], sigma['n_words'])} (by chance one word "
        "in 120 would be).",
        f"Between the strongest contexts of the two senses σ differs by {spread}.",
        _before_the_word(g),
    ]
    return Section(
        "Do contexts pull a word towards its senses?",
        [*findings, *_weaknesses(sigma)],
        ("word", "σ(strong A) − σ(strong B)", "f_max"),
        [(word, f"{gap:.3f}", _number(g["f_max"].get(word), 3)) for word, gap in gaps.items()],
        ("sigma", "meaning", "decoding", "logit_lens"),
    )


def shape_of_response(g: Metrics) -> Section:
    """Whether all words respond with the same g, and whether that is about meaning."""
    whose_mean = "its" if len(g["f_max"]) == 1 else "each word's"
    drop = f" and falls by {share(g['final_drop'])} from there to the last layer" if g["peak_depth"] < 1 else ""
    return Section(
        "Is the response over depth the same for all words?",
        [
            _agreement(g),
            f"h · f_max · g, with g {_whose(g)}, explains {share(g['decomposition_r2'])} of σ's "
            "variance. A product cannot express the drift that all prompts of a word share; with "
            f"{whose_mean} mean taken out it explains {share(g['decomposition_r2_drift_out'])}, with shuffled senses "
            f"{share(g['null_r2_drift_out'])} (p = {_p(g['p']['final.decomposition_r2_drift_out'])} after Holm) and "
            f"along directions without sense {share(g['null']['within_senses']['decomposition_r2_drift_out'])}.",
            f"The response is largest at depth {g['peak_depth']:.2f}{drop}. Without the final layers it grows like "
            f"(l/L)^{g['alpha']:.2f}, and the law that fits best is: {g['best_model']}.",
        ],
        figures=("g", "nulls", "response", "fits"),
    )


def what_g_is(g: Metrics) -> Section:
    """Where the shape of g comes from."""
    whose_g = "the word's g by" if len(g["f_max"]) == 1 else "each word's g by at least"
    findings = [
        "The direction prompts alone predict g: how far the contrast of the senses has turned towards its final "
        f"direction, times its size in units of the residual stream's, correlates with {whose_g} "
        f"{g['predicted_correlation_min']:.3f}. Where that is near 1, g is the schedule on which the contrast turns.",
    ]
    before = g["before"]["rank_correlation_mean"]
    if before is not None:
        findings.append(
            f"Read at the token before the word the words' g correlate by {before:.3f}, at the word by "
            f"{g['rank']['word_correlation_mean']:.3f} (h = rank): what is the same at both is not about the word."
        )
    return Section("What is g?", findings, figures=("controls",))


def when_it_is_used(intervene: Metrics) -> Section:
    """At which layers a change of the sense changes what follows."""
    title = "When does the model use the sense?"
    left_out = ", ".join(intervene["unmeasurable_words"])
    if not intervene["words"]:
        return Section(title, [f"No word's senses differ in the next token enough to measure it ({left_out})."])
    half, tau, alone = intervene["half_depth"], intervene["tau"], intervene["words"] == 1
    over = (
        " for the one word that can be measured"
        if alone
        else f" in the median over {intervene['words']} words (95 % interval {_number(half['one_direction_low'])} to "
        f"{_number(half['one_direction_high'])})"
    )
    agreement = (
        "The order of the words by this depth agrees with that by readability with a Kendall's τ of "
        f"{_number(tau['decoded'])}, with that by g of {_number(tau['g'])}."
    )
    return Section(
        title,
        [
            "Moving the residual stream at the word along one direction at one layer makes half of the difference "
            f"between the senses in the next token {_at(half['one_direction'])}{over}, replacing all of it "
            f"{_at(half['transplant'])}. The sense counts as decoded {_at(half['decoded'], 'from')}, and g reaches "
            f"½ {_at(half['g'])}.",
            f"Shifts of the same length along other directions do {intervene['control_max']:.2f} at most.",
            *([] if alone else [agreement]),
            *([f"Left out, because the next token does not tell their senses apart: {left_out}."] if left_out else []),
        ],
        ("layer", "R of one direction"),
        [(layer, f"{value:z.2f}") for layer, value in intervene["response"].items()],
        ("depths", "intervene"),
    )


def _agreement(g: Metrics) -> str:
    """The words' correlation beside that of shuffled senses, with both h."""
    if g["word_correlation_mean"] is None:
        return "With a single word there is nothing to compare g with."
    rank, p = g["rank"], g["p"]
    return (
        f"With h from the gradient's order, in which nothing measured enters, the words' g correlate by "
        f"{rank['word_correlation_mean']:.3f} on average, with shuffled senses by {rank['null_correlation_mean']:.3f} "
        f"(p = {_p(p[PRIMARY])}, the primary test). With h from the last layer it is {g['word_correlation_mean']:.3f} "
        f"against {g['null_correlation_mean']:.3f} (p = {_p(p['final.word_correlation_mean'])} after Holm); "
        "with that h the curves along directions without sense agree, too "
        f"({g['null']['within_senses']['word_correlation_mean']:.3f}). The increments of g correlate by "
        f"{g['increment_correlation_mean']:.3f} against {g['null_increment_correlation']:.3f} "
        f"(p = {_p(p['final.increment_correlation_mean'])} after Holm)."
    )


def _whose(g: Metrics) -> str:
    """Of which words g is the mean."""
    others = len(g["f_max"]) - 1
    return ("the word's own", "that of the other word")[others] if others < 2 else "the mean of the other words"


def _in_order(ordered: int, words: int) -> str:
    """For how many words the five contexts are in order."""
    if words == 1:
        return f"the five are {'in' if ordered else 'not in'} order"
    return f"all five are in order for {ordered} of {words} words"


def _before_the_word(g: Metrics) -> str:
    """The AUC at and before the word, layer by layer."""
    pairs = [(layer, auc, g["auc_at_word"][layer]) for layer, auc in g["auc_before"].items()]
    listed = ", ".join(f"{before:.2f} ({at:.2f}) at layer {layer}" for layer, before, at in pairs)
    return (
        f"At the token before the word (at the word) the AUC is {listed}: where the two differ the sense is the "
        "word's, where they do not the text before it gives the topic away."
    )


def _weaknesses(sigma: Metrics) -> list[str]:
    """What weakens this run's word list, if anything does."""
    few, bare, repeated = (sigma[key] for key in ("few_direction_prompts", "without_gradient", "repeated_prompts"))
    of_all = f" of {counted(sigma['n_words'], 'word')}"
    said = {
        f"{few}{of_all} {_has(few)} fewer than 8 direction prompts in a sense: directions from so few are shaky.": few,
        f"{bare}{of_all} {_has(bare)} no gradient, and so no g.": bare,
        f"{counted(repeated, 'prompt')} {'serves' if repeated == 1 else 'serve'} more than once, and "
        f"{'is' if repeated == 1 else 'are'} left out where prompts are held out.": repeated,
    }
    return [text for text, number in said.items() if number]


def _has(number: int) -> str:
    return "has" if number == 1 else "have"


def _p(value: float) -> str:
    """A p-value with as many digits as it has."""
    return f"{value:.4f}" if value < 0.01 else f"{value:.2f}"


def _at(depth: float | None, since: str = "at") -> str:
    """Where something happens first, if it does."""
    return "at no layer" if depth is None else f"{since} depth {depth:.2f}{' on' if since == 'from' else ''}"


def _number(value: Any, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def how_well_it_reads(lens: Metrics, perplexity: Metrics) -> Section:
    """Whether the model knows the language of the prompts as it knows the text's."""
    prompts, text = lens["prompts_nats_per_byte"], perplexity["baseline"]["nats_per_byte"]
    finding = f"A byte of the condition prompts costs the model {prompts:.2f} nats, a byte of the text {text:.2f}"
    if prompts > STRANGE * text:
        finding += (
            f": {prompts / text:.1f} times as much. English prompts cost SmolLM2 1.6 times as much. From {STRANGE} on "
            "a model may not read the prompts' language, and then an AUC says nothing about meaning."
        )
    else:
        finding += "."
    return Section("Does the model read the prompts?", [finding])


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("sigma", "g", "decode"), meaning_of_words),
    (("g",), shape_of_response),
    (("g",), what_g_is),
    (("intervene",), when_it_is_used),
    (("logit_lens", "perplexity"), how_well_it_reads),
)

"""What the stages of the meaning axis found, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from permeation.report.sections import Metrics, Section, counted, measured, number, share

LEVEL = 0.05
# Nats for a byte of the prompts over those for a byte of running text: SmolLM2 takes 1.6 for the shipped prompts, 2.0
# for the hardest of 45 English words, and 2.8 to 3.5 for German, Spanish and Japanese ones (docs/meaning.md, Prompts).
STRANGE = 2.2


def meaning_of_words(sigma: Metrics, g: Metrics, decode: Metrics) -> Section:
    """How far the contexts of each word come apart, and from where on the sense can be read."""
    gaps = {word: values["separation"] for word, values in sigma["words"].items()}
    smallest, largest = (choose(gaps, key=gaps.__getitem__) for choose in (min, max))
    graded, p = decode["gradient_own"], g["p"]["auc.gradient_own"]
    auc = f"{number(graded['auc'])} [{number(graded['auc_low'])}, {number(graded['auc_high'])}]"
    before = ", ".join(
        f"{number(auc)} ({number(g['auc_at_word'][layer])}) at layer {layer}" for layer, auc in g["auc_before"].items()
    )
    return Section(
        "Do contexts pull a word towards its senses?",
        [
            f"{_yes(p < LEVEL)}: along directions made from other prompts, graded prompts of the two senses of "
            f"{counted(sigma['n_words'], 'word')} are told apart with an AUC of {auc} (chance is 0.5, p = {number(p)} "
            "after Holm).",
            f"At the last layer σ follows the order of the five contexts with a Kendall's τ of "
            f"{number(sigma['order_tau'])}; all five are in order for {sigma['ordered_words']} of "
            f"{counted(sigma['n_words'], 'word')} (by chance for 1 in 120).",
            f"Between the strongest contexts of the two senses σ differs by {number(gaps[smallest])} ({smallest}) to "
            f"{number(gaps[largest])} ({largest}).",
            f"At the token before the word (at the word) the AUC is {before}. Where the two differ, the sense is the "
            "word's; where they do not, the text before it gives the topic away.",
            *_weaknesses(sigma),
        ],
        ("word", "σ(strong A) − σ(strong B)", "f_max"),
        [(word, number(gap), number(g["f_max"].get(word))) for word, gap in gaps.items()],
        ("sigma", "decoding"),
    )


def one_curve(g: Metrics) -> Section:
    """Whether all words respond with the same g, and whether that is about meaning."""
    return Section(
        "Is the response over depth the same for all words?",
        [
            _own_curves(g, len(g["f_max"])),
            *_agreement(g),
            f"h · f_max · g̅ explains {share(g['decomposition_r2'])} of σ's variance. It cannot express the drift that "
            f"all prompts of a word share; with that taken out it explains {share(g['decomposition_r2_drift_out'])}, "
            f"with shuffled senses {share(g['null_r2_drift_out'])} "
            f"(p = {number(g['p']['final.decomposition_r2_drift_out'])} after Holm).",
            f"g is largest at depth {number(g['peak_depth'])} and falls by {share(g['final_drop'])} from there to the "
            f"last layer. Without the final layers it grows like (l/L)^{number(g['alpha'])}; the law that fits best: "
            f"{g['best_model'].replace('_', ' ')}.",
        ],
        figures=("g", "nulls", "response", "fits"),
    )


def what_g_is(g: Metrics) -> Section:
    """Where the shape of g comes from."""
    predicted, words = g.get("predicted"), len(g["f_max"])
    before = g["before"]["rank_correlation_mean"]
    if predicted is None:
        answer = f"Open: {counted(words, 'word')} cannot be compared with others."
    else:
        answer = (
            f"{_yes(predicted['own'] > predicted['others'])}: how far the contrast of the senses has turned towards "
            f"its final direction, times its size, correlates with a word's own g by {number(predicted['own'])}, with "
            f"other words' by {number(predicted['others'])}; it finds its own word among {words} in "
            f"{share(predicted['identified'])}."
        )
    return Section(
        "Do the direction prompts alone predict g?",
        [
            answer,
            *(
                [
                    f"Read at the token before the word the words' g correlate by {number(before)}, at the word by "
                    f"{number(g['rank']['word_correlation_mean'])}: what is the same at both is not about the word."
                ]
                if before is not None
                else []
            ),
        ],
        figures=("controls",),
    )


def when_it_is_used(intervene: Metrics) -> Section:
    """At which layers a change of the sense changes what follows."""
    title, left_out = "Does the model use the sense?", ", ".join(intervene["unmeasurable_words"])
    why = [f"Left out, because the next token does not tell their senses apart: {left_out}."] if left_out else []
    if not intervene["words"]:
        return Section(title, ["Open: no word's senses differ enough in the next token to measure it.", *why])
    onset, plateau, rise = (intervene.get(key) for key in ("onset", "plateau", "second_rise"))
    words = counted(intervene["words"], "word")
    if onset is None or onset["value"] is None:
        answer = f"No: at no layer does one direction carry a quarter of what the senses of {words} change."
    else:
        answer = (
            f"Yes: moved along one direction at one layer, the word brings a quarter of the difference between its "
            f"senses in the next token from depth {measured(onset)} on, over {words}."
        )
    shape = {"The plateau is at R = {}.": plateau, "R rises a second time at depth {}.": rise}
    return Section(
        title,
        [
            answer,
            *(said.format(measured(part)) for said, part in shape.items() if part and part["value"] is not None),
            f"Shifts of the same length along other directions do {number(intervene['control_max'])} at most.",
            *why,
        ],
        ("layer", "R of one direction"),
        [(layer, number(value)) for layer, value in intervene["response"].items()],
        ("depths", "intervene"),
    )


def how_well_it_reads(intervene: Metrics, perplexity: Metrics) -> Section:
    """Whether the model knows the language of the prompts as it knows the text's."""
    prompts, text = intervene["prompts_nats_per_byte"], perplexity["baseline"]["nats_per_byte"]
    strange = prompts > STRANGE * text
    return Section(
        "Does the model read the prompts?",
        [
            f"{'Open' if strange else 'Yes'}: a byte of the condition prompts costs {number(prompts)} nats, a byte of "
            f"the text {number(text)}, a ratio of {number(prompts / text)}. Of English prompts SmolLM2 has 1.6; from "
            f"{STRANGE} on a model may not read the prompts' language, and an AUC then says nothing about meaning."
        ],
    )


def _yes(holds: bool) -> str:
    return "Yes" if holds else "No"


def _own_curves(g: Metrics, words: int) -> str:
    """Whether two halves of a word's prompts agree better than halves of two words'."""
    if (found := g.get("reliability")) is None:
        return f"Open: with {counted(words, 'word')} g cannot be compared between words."
    halves = (
        f"halves of one word's prompts agree by {number(found['within'])}, halves of two words' by "
        f"{number(found['between'])} (p = {number(found['p'])}); a half finds its own word among {words} in "
        f"{share(found['identified'])} (chance {share(found['chance'])}). Corrected for the noise of the halves, two "
        f"words' curves correlate by {number(found['corrected'])}."
    )
    if found["p"] < LEVEL:
        return f"No: every word has a curve of its own: {halves}"
    return f"Open: the curves of {words} words are not told apart: {halves}"


def _agreement(g: Metrics) -> list[str]:
    """The words' correlation beside that of shuffled senses, with both h."""
    if g["word_correlation_mean"] is None:
        return []
    rank, p = g["rank"], g["p"]
    return [
        f"With h from the gradient's order the words' g correlate by "
        f"{number(rank['word_correlation_mean'])}, with shuffled senses by {number(rank['null_correlation_mean'])} "
        f"(p = {number(p['rank.word_correlation_mean'])}); with h from the last layer by "
        f"{number(g['word_correlation_mean'])} against {number(g['null_correlation_mean'])} "
        f"(p = {number(p['final.word_correlation_mean'])}, both after Holm).",
    ]


def _weaknesses(sigma: Metrics) -> list[str]:
    """What weakens this run's word list, if anything does."""
    few, bare, repeated = (sigma[key] for key in ("few_direction_prompts", "without_gradient", "repeated_prompts"))
    words = counted(sigma["n_words"], "word")
    said = {
        f"Of {words} {few} with fewer than 8 direction prompts in a sense: directions from so few are shaky.": few,
        f"Of {words} {bare} without a gradient, and so without g.": bare,
        f"Prompts that serve more than once, left out where prompts are held out: {repeated}.": repeated,
    }
    return [text for text, count in said.items() if count]


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("sigma", "g", "decode"), meaning_of_words),
    (("g",), one_curve),
    (("g",), what_g_is),
    (("intervene",), when_it_is_used),
    (("intervene", "perplexity"), how_well_it_reads),
)

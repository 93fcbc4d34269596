"""What the stages of the meaning axis found, in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from permeation.report.sections import Metrics, Section, counted, share

SHUFFLED, MEAN = "senses_shuffled", "word_correlation_mean"  # a null model and a statistic, as the metrics name them


def meaning_of_words(sigma: Metrics, g: Metrics, decode: Metrics) -> Section:
    """How far the contexts of each word come apart."""
    words = sigma["words"]
    gaps = {word: values["separation"] for word, values in words.items()}
    smallest, largest = min(gaps, key=lambda word: gaps[word]), max(gaps, key=lambda word: gaps[word])
    spread = f"{gaps[smallest]:.2f} ({smallest})"
    spread += f" to {gaps[largest]:.2f} ({largest})" if len(gaps) > 1 else ""
    return Section(
        "Do contexts pull a word towards its senses?",
        [
            "Along directions made from other prompts the senses are told apart with an AUC of "
            f"{decode['auc_gradient_own']:.2f} on average over words and layers (95 % interval "
            f"{decode['auc_gradient_own_low']:.2f} to {decode['auc_gradient_own_high']:.2f}; chance is 0.5, "
            f"p = {decode['auc_gradient_own_p']:.3f}).",
            f"At the last layer σ puts all five contexts in the order of their strength for {sigma['ordered_words']} "
            f"of {counted(sigma['n_words'], 'word')}.",
            f"Between the strongest contexts of the two senses σ differs by {spread}.",
        ],
        ("word", "σ(strong A) − σ(strong B)", "f_max"),
        [(word, f"{gap:.3f}", f"{g['f_max'][word]:.3f}") for word, gap in gaps.items()],
        ("sigma", "meaning", "decoding", "logit_lens"),
    )


def shape_of_response(g: Metrics, nulls: Metrics) -> Section:
    """Whether all words respond with the same g, and whether that is about meaning."""
    real = g[MEAN]
    if real is None:
        whose = "the word's own"
        agreement = "With a single word there is nothing to compare g with."
    else:
        whose = "the mean of the other words" if len(g["f_max"]) > 2 else "that of the other word"
        null = nulls["null"]["within_senses"][MEAN]
        verdict = "no less: the shared shape says nothing about meaning" if null >= real else "less than that"
        agreement = (
            f"The words' g correlate by {real:.3f} on average ({g['word_correlation_min']:.3f} at least); along "
            f"directions that tell prompts of the same sense apart by {null:.3f} in the median, {verdict}. Shuffled "
            f"sense labels reach the words' own correlation by chance with p = {nulls['p'][SHUFFLED][MEAN]:.3f}."
        )
    drop = f" and falls by {share(g['final_drop'])} from there to the last layer" if g["peak_depth"] < 1 else ""
    return Section(
        "Is the response over depth the same for all words?",
        [
            agreement,
            f"h · f_max · g, with g {whose}, explains {share(g['decomposition_r2'])} of σ's variance.",
            f"The response is largest at depth {g['peak_depth']:.2f}{drop}. Without the final layers it grows like "
            f"(l/L)^{g['alpha']:.2f}, and the law that fits best is: {g['best_model']}.",
        ],
        figures=("g", "response", "fits"),
    )


# The metrics files that each needs, in the order of the page.
SECTIONS: Sequence[tuple[Sequence[str], Callable[..., Section]]] = (
    (("sigma", "g", "decode"), meaning_of_words),
    (("g", "nulls"), shape_of_response),
)

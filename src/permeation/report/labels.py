"""What the tables' identifiers are called where people read them. Tables and code keep the identifiers."""

from __future__ import annotations

LABELS = {
    # null models (permeation.meaning.nulls)
    "senses_shuffled": "senses shuffled",
    "within_senses": "no sense in the direction",
    "random_direction": "random direction",
    "free_walk": "random walk",
    "walk_about_mean": "random walk about the mean",
    "another_word": "another word's direction",
    # shifts of the residual stream (permeation.meaning.intervene)
    "one_direction": "one direction",
    "transplant": "transplant",
    "erasure": "erasure",
    "random": "control: random direction",
    # outcomes of a shift
    "next_token": "the next token",
    "one_later": "one token later",
    "sigma": "σ at the last layer",
    # controls (permeation.meaning.controls)
    "at_word": "at the word",
    "before": "at the token before it",
    "predicted": "predicted from the direction prompts",
    "final": "h = σ at the last layer",
    "rank": "h = place in the gradient",
    # forms of W_QK (permeation.weights.forms)
    "gram": "gram form",
    "circuit": "circuit form",
    "score": "score form",
    "score_centred": "score form, mean key out",
    # heads (permeation.heads.found, permeation.heads.sense)
    "exchange": "exchanged with the twin's",
    "mean": "replaced by the mean",
    "direct": "written along ê",
    "within_sense": "control: another prompt of the same sense",
    "norm_score": "share of ‖M‖², score form",
    "low_variance_score": "low variance, score form",
    "low_variance_gram": "low variance, gram form",
    "cost": "cost of ablation",
    "attention": "attention to what decides",
    "cluster": "cluster (η²)",
    "auc": "AUC − ½",
    "separation": "separation of σ",
    "gap": "what follows",
    "response": "R, one direction",
    # verdicts (permeation.report.claims)
    "holds": "holds",
    "null_too": "holds, null too",
    "fails": "does not hold",
    "not_measurable": "not measurable",
}


def label(identifier: str) -> str:
    """What people read for an identifier: its label, or where it has none itself, with blanks for underscores."""
    return LABELS.get(identifier, identifier.replace("_", " "))

"""What the tables' identifiers are called where people read them."""

from __future__ import annotations

LABELS = {
    # null models, and shifts of the residual stream
    "within_senses": "no sense in the direction",
    "another_word": "another word's direction",
    "random": "control: random direction",
    "next_token": "the next token",
    # controls
    "at_word": "at the word",
    "before": "at the token before it",
    "predicted": "predicted from the direction prompts",
    "final": "h = final (σ at the last layer)",
    "rank": "h = rank (place in the gradient)",
    # forms of W_QK
    "gram": "gram form",
    "unfolded": "gram form, norm not folded",
    "circuit": "circuit form",
    "score": "score form",
    "score_centred": "score form, mean key out",
    "written": "W_OV, circuit form",
    "written_score": "W_OV, weighted by the input",
    # heads and compressed models
    "exchange": "exchanged with the matched prompt's",
    "direct": "written along ê",
    "within_sense": "control: another prompt of the same sense",
    "low_variance_score": "low variance, score form",
    "low_variance_gram": "low variance, gram form",
    "attention": "attention to what decides",
    "attention_word": "attention to the word itself",
    "attention_not_bos": "attention beyond the first token",
    "attention_deciding_rest": "what decides, without the first token",
    "auc": "AUC",
    "separation": "separation of σ",
    "gap": "what follows",
    "response": "R, one direction",
    # models together, and a verdict
    "scratch": "from scratch",
    "scratch_aligned": "from scratch, aligned",
    "adapters": "adapters (LoRA)",
    "shuffled": "adapters, shuffled targets",
    "null_too": "holds, null too",
}


def label(identifier: str) -> str:
    """The label of an identifier; where it has none, the identifier with blanks for underscores."""
    return LABELS.get(identifier, identifier.replace("_", " "))

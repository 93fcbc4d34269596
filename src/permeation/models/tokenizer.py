"""A checkpoint's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from permeation.frame.errors import PermeationError, one_line


def load_tokenizer(folder: Path | str) -> Any:
    """The checkpoint's tokenizer; raises PermeationError where there is none, or it cannot be read."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokens = tokenizer("a trial", add_special_tokens=False).input_ids
    except Exception as error:
        raise PermeationError(f"the tokenizer in {Path(folder).name} cannot be loaded: {one_line(error)}") from error
    if not tokens:  # transformers gives an empty tokenizer where some families' files are missing
        raise PermeationError(f"the tokenizer in {Path(folder).name} knows no tokens; are its files there?")
    return tokenizer


def check_tokens(ids: Int[Tensor, "tokens"], d_vocab: int) -> None:
    """Raise PermeationError where a tokenizer gave a token that the model's embedding has no row for."""
    if len(ids) and (highest := int(ids.max())) >= d_vocab:
        raise PermeationError(f"the tokenizer gives token {highest}; the model knows the tokens 0 to {d_vocab - 1}")


def by_length(sequences: Sequence[Sequence[int]]) -> Iterator[Int[np.ndarray, "prompts"]]:
    """Which sequences have the same length, shortest first."""
    lengths = np.array([len(sequence) for sequence in sequences])
    return (np.flatnonzero(lengths == length) for length in np.unique(lengths))

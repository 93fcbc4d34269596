"""The text as tokens: which windows of it are learned from, and which are measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class Windows:
    """Pieces of a text, none overlapping another.

    Attributes:
        tokens: token ids. articles: the article that each window starts in; windows of one article are no independent
            samples. Where the text has no articles, every window is its own.
    """

    tokens: Int[Tensor, "windows context"]
    articles: Int[Tensor, "windows"]


@dataclass(frozen=True)
class Text:
    """A text as the model reads it.

    Attributes:
        tokens: token ids. articles: the first token of each article, rising; none where the source marks none.
    """

    tokens: Int[Tensor, "tokens"]
    articles: Int[Tensor, "articles"]

    @classmethod
    def tokenize(cls, tokenizer: Any, text: str, articles: Sequence[int] = ()) -> Text:
        """The whole text in one piece, without special tokens; `articles` are in characters."""
        encoding = tokenizer(text, add_special_tokens=False, verbose=False)
        # A tokenizer may drop a character; then the article counts as part of the one before it.
        first = [token for start in articles if (token := encoding.char_to_token(start)) is not None]
        return cls(torch.tensor(encoding.input_ids, dtype=torch.long), torch.tensor(first, dtype=torch.long))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Text:
        """What `tensors` gave."""
        return cls(**tensors)

    def tensors(self) -> dict[str, Tensor]:
        """Tokens and articles by name, as they are saved."""
        return {"tokens": self.tokens, "articles": self.articles}

    def windows(self, starts: Int[Tensor, "windows"], context: int) -> Windows:
        """The `context` tokens from each start on."""
        tokens = self.tokens[starts[:, None] + torch.arange(context)]
        marked = len(self.articles) > 0
        return Windows(tokens, torch.searchsorted(self.articles, starts, right=True) if marked else starts)

    def spread(self, context: int, max_tokens: int | None) -> Windows:
        """⌊max_tokens / context⌋ windows (null: all), spread over the text (`window_starts`)."""
        return self.windows(window_starts(len(self.tokens), context, max_tokens), context)

    def held_out(self, calibration: Int[Tensor, "_ _"], context: int, max_tokens: int | None) -> Windows:
        """As many of the windows that hold none of the calibration positions (`held_out_starts`)."""
        return self.windows(held_out_starts(len(self.tokens), calibration, context, max_tokens), context)


def window_starts(length: int, context: int, max_tokens: int | None) -> Int[Tensor, "windows"]:
    """Where ⌊max_tokens / context⌋ windows (null: all) spread evenly over a text of `length` tokens start.

    Window j of w out of W starts at window ⌊j · W / w⌋ (DESIGN.md, Perplexity). They come in an order of which every
    beginning is spread over the text too. Raises PermeationError where the text or max_tokens is shorter than one
    window.
    """
    available = length // context
    if available == 0:
        raise PermeationError(
            f"the corpus has {length} tokens; accepted: at least perplexity.context, which is {context}"
        )
    wanted = available if max_tokens is None else min(available, max_tokens // context)
    if wanted == 0:
        raise PermeationError(
            f"perplexity.max_tokens is {max_tokens}; accepted: at least perplexity.context, which is {context}"
        )
    return spread_order(wanted) * available // wanted * context


def calibration_positions(length: int, context: int, tokens: int) -> Int[Tensor, "windows context"]:
    """Positions of ⌊tokens / context⌋ windows to learn from, spread evenly over a text of `length` tokens.

    Window j of w out of W is window ⌊(j + ½) W / w⌋, half a step away from those of `window_starts`. Raises
    PermeationError where the text is shorter than twice that: what is held out from it has to be enough to measure on.
    """
    available, wanted = length // context, tokens // context
    if wanted == 0:
        raise PermeationError(f"moments.tokens is {tokens}; accepted: at least moments.context, which is {context}")
    if 2 * wanted > available:
        raise PermeationError(
            f"moments.tokens is {tokens}; the text has {length} tokens, of which at most half may be calibration text"
        )
    starts = (2 * torch.arange(wanted) + 1) * available // (2 * wanted) * context
    return starts[:, None] + torch.arange(context)


def held_out_starts(
    length: int, calibration: Int[Tensor, "_ _"], context: int, max_tokens: int | None
) -> Int[Tensor, "windows"]:
    """Where the first ⌊max_tokens / context⌋ windows (null: all) that hold none of the calibration positions start.

    All of them stand in one order, of which every beginning is spread over the text: fewer are some of the more.
    """
    taken = torch.zeros(length, dtype=torch.bool)
    taken[calibration.flatten()] = True
    available = length // context
    free = (~taken[: available * context].view(available, context).any(dim=1)).nonzero().flatten() * context
    ordered = free[spread_order(len(free))]
    return ordered if max_tokens is None else ordered[: max_tokens // context]


def spread_order(count: int) -> Int[Tensor, "count"]:
    """An order of 0 … count − 1 of which every beginning is spread evenly: van der Corput's sequence, ranked.

    Its i-th number has the bits of i in reverse.
    """
    sequence = torch.tensor([int(f"{i:032b}"[::-1], 2) for i in range(count)])
    return sequence.argsort().argsort()

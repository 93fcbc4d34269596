"""A text as tokens, cut into windows: some to learn moments from, others to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class Windows:
    """Pieces of a text that do not overlap.

    Attributes:
        tokens: token ids; the first one is the BOS where the text is read with one.
        articles: the article that each window starts in; where the text marks no articles, every window is its own.
    """

    tokens: Int[Tensor, "windows context"]
    articles: Int[Tensor, "windows"]

    @property
    def scored(self) -> int:
        """Tokens of a window that are scored: all but the first, which has nothing before it."""
        return self.tokens.shape[1] - 1


@dataclass(frozen=True)
class Text:
    """A text as the model reads it.

    Attributes:
        tokens: token ids. articles: the first token of each article, rising; none where the source marks none.
        bos: the token in front of every window; None for a model that reads without one.
    """

    tokens: Int[Tensor, "tokens"]
    articles: Int[Tensor, "articles"]
    bos: int | None = None

    @classmethod
    def tokenize(cls, tokenizer: Any, text: str, articles: Sequence[int] = (), bos: int | None = None) -> Text:
        """The whole text in one piece, without special tokens; `articles` are where they start, in characters.

        An article's first token is the first that ends behind its start. A tokenizer without offsets (those written in
        Python) gets each article by itself.
        """

        def encode(piece: str, **more: bool) -> Any:
            return tokenizer(piece, add_special_tokens=False, verbose=False, **more)

        if tokenizer.is_fast:
            encoding = encode(text, return_offsets_mapping=True)
            tokens = encoding.input_ids
            first = np.searchsorted([end for _, end in encoding.offset_mapping], articles, side="right")
        else:
            pieces = [encode(text[start:end]).input_ids for start, end in pairwise((0, *articles, len(text)))]
            tokens = list(chain.from_iterable(pieces))
            first = np.cumsum([len(piece) for piece in pieces[:-1]], dtype=int)
        begun = torch.from_numpy(first[first < len(tokens)])
        return cls(torch.tensor(tokens, dtype=torch.long), begun, bos)

    def windows(self, starts: Int[Tensor, "windows"], context: int) -> Windows:
        """The windows whose tokens of the text begin at these places."""
        tokens = self.tokens[starts[:, None] + torch.arange(self._stride(context))]
        if self.bos is not None:
            tokens = torch.cat([torch.full((len(tokens), 1), self.bos), tokens], dim=1)
        marked = len(self.articles) > 0
        return Windows(tokens, torch.searchsorted(self.articles, starts, right=True) if marked else starts)

    def spread(self, context: int, max_tokens: int | None = None) -> Windows:
        """⌊max_tokens / context⌋ windows (None: all) spread evenly over the text, in spread_order.

        Window j of w out of W is window ⌊j · W / w⌋ of the text. Raises PermeationError where there is none.
        """
        available = len(self.tokens) // self._stride(context)
        count = available if max_tokens is None else min(available, max_tokens // context)
        if count < 1:
            asked = "" if max_tokens is None else f" and max_tokens {max_tokens}"
            raise PermeationError(
                f"context is {context}{asked}, and the text has {len(self.tokens)} tokens; accepted: at least a window"
            )
        return self.windows(spread_order(count) * available // count * self._stride(context), context)

    def split(
        self, moments_context: int, moments_tokens: int, context: int, max_tokens: int | None
    ) -> tuple[Windows, Windows]:
        """Windows to learn moments from, and windows to measure on that hold nothing of them.

        The former: window j of w out of W is window ⌊(j + ½) W / w⌋ of the text. The latter: the first
        ⌊max_tokens / context⌋ (None: all) of the free windows in spread_order, so that few windows are among many.
        Raises PermeationError where there are none.
        """
        stride, count = self._stride(moments_context), moments_tokens // moments_context
        available = len(self.tokens) // stride
        if not 2 <= 2 * count <= available:
            raise PermeationError(
                f"moments.tokens is {moments_tokens} and moments.context {moments_context}: {count} windows; the text "
                f"has {available}; accepted: 1 to {available // 2}"
            )
        learned = (2 * torch.arange(count) + 1) * available // (2 * count) * stride
        taken = torch.zeros(len(self.tokens), dtype=torch.bool)
        taken[learned[:, None] + torch.arange(stride)] = True

        stride = self._stride(context)
        windows = taken[: len(taken) // stride * stride].view(-1, stride)
        free = (~windows.any(dim=1)).nonzero().flatten() * stride
        starts = free[spread_order(len(free))][: None if max_tokens is None else max_tokens // context]
        if len(starts) == 0:
            raise PermeationError(
                f"perplexity.context is {context} and perplexity.max_tokens {max_tokens}; that leaves no window of the "
                f"text's {len(self.tokens)} tokens beside the moments' {moments_tokens}"
            )
        return self.windows(learned, moments_context), self.windows(starts, context)

    def _stride(self, context: int) -> int:
        """Tokens of the text in a window: one less than `context` where a BOS takes the first place."""
        return context - (self.bos is not None)


def bos_of(tokenizer: Any, prepend_bos: bool | Literal["auto"]) -> int | None:
    """The token in front of every window, for `perplexity.prepend_bos`; `auto`: the BOS if the tokenizer adds it.

    Raises PermeationError where a BOS is asked for and the tokenizer has none.
    """
    bos = tokenizer.bos_token_id
    if prepend_bos is True and bos is None:
        raise PermeationError("perplexity.prepend_bos is true; this tokenizer has no BOS token; accepted: auto | false")
    if prepend_bos == "auto":
        return bos if bos is not None and tokenizer("a").input_ids[:1] == [bos] else None
    return bos if prepend_bos else None


def spread_order(count: int) -> Int[Tensor, "count"]:
    """An order of 0 … count − 1 whose first few are spread evenly, however many: van der Corput's sequence, ranked.

    Its i-th number has the bits of i in reverse.
    """
    sequence = torch.tensor([int(f"{i:032b}"[::-1], 2) for i in range(count)])
    return sequence.argsort().argsort()

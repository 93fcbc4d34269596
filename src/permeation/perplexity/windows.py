"""A text as tokens, cut into windows: some to learn moments from, others to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class Windows:
    """Pieces of a text that do not overlap.

    Attributes:
        tokens: ids; the first is the BOS where the text is read with one.
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
        tokens: token ids. articles: the first token of each article, rising; none where the source marks none, and the
            number of tokens where nothing stands behind a start.
        bos: the token in front of every window; None for a model that reads without one.
    """

    tokens: Int[Tensor, "tokens"]
    articles: Int[Tensor, "articles"]
    bos: int | None = None

    @classmethod
    def tokenize(cls, tokenizer: Any, text: str, articles: Sequence[int] = (), bos: int | None = None) -> Text:
        """The whole text in one piece, without special tokens; `articles` are where they start, in characters.

        An article's first token is the first that ends behind its start: some tokenizers' offsets leave blanks out. A
        tokenizer without offsets (those written in Python) gets each article by itself.
        """
        if tokenizer.is_fast:
            pieces = [tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)]
            first = np.searchsorted([end for _, end in pieces[0].offset_mapping], articles, side="right")
        else:
            cuts = pairwise((0, *articles, len(text)))
            pieces = [tokenizer(text[start:end], add_special_tokens=False, verbose=False) for start, end in cuts]
            first = np.cumsum([len(piece.input_ids) for piece in pieces[:-1]], dtype=int)
        tokens = list(chain.from_iterable(piece.input_ids for piece in pieces))
        return cls(torch.tensor(tokens, dtype=torch.long), torch.from_numpy(first), bos)

    def windows(self, starts: Int[Tensor, "windows"], context: int) -> Windows:
        """The windows whose tokens of the text begin at these places."""
        tokens = self.tokens[starts[:, None] + torch.arange(self._stride(context))]
        if self.bos is not None:
            tokens = nn.functional.pad(tokens, (1, 0), value=self.bos)
        marked = len(self.articles) > 0
        return Windows(tokens, torch.searchsorted(self.articles, starts, right=True) if marked else starts)

    def spread(self, context: int, max_tokens: int | None = None) -> Windows:
        """⌊max_tokens / context⌋ windows (None: all) spread evenly over the text, in spread_order.

        Window j of w out of W is window ⌊j · W / w⌋ of the text. Raises PermeationError where there is none.
        """
        available = len(self.tokens) // self._stride(context)
        count = available if max_tokens is None else min(available, max_tokens // context)
        if count < 1:
            found = f"context is {context}, max_tokens is {max_tokens}, and the text has {len(self.tokens)} tokens"
            raise PermeationError(f"{found}; accepted: at least a window")
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
    wanted = tokenizer("a").input_ids[:1] == [bos] if prepend_bos == "auto" else prepend_bos
    return bos if wanted else None


def spread_order(count: int) -> Int[Tensor, "count"]:
    """An order of 0 … count − 1 whose first few are spread evenly: van der Corput's (bits reversed), ranked."""
    return torch.tensor([int(f"{i:032b}"[::-1], 2) for i in range(count)]).argsort().argsort()

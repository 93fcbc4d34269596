"""The text as tokens: which windows of it are learned from, and which are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from permeation.frame.errors import PermeationError


@dataclass(frozen=True)
class Windows:
    """Pieces of a text, none overlapping another.

    Attributes:
        tokens: token ids; the first one is the BOS where the text is read with one.
        articles: the article that each window starts in. Windows of one article are no independent samples. Where the
            text marks no articles, every window is its own.
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
        bos: the token that stands in front of every window; none for a model that reads without one.
    """

    tokens: Int[Tensor, "tokens"]
    articles: Int[Tensor, "articles"]
    bos: int | None = None

    @classmethod
    def tokenize(cls, tokenizer: Any, text: str, articles: Sequence[int] = (), bos: int | None = None) -> Text:
        """The whole text in one piece, without special tokens; `articles` are in characters."""
        encoding = tokenizer(text, add_special_tokens=False, verbose=False)
        # A tokenizer may drop a character; then the article counts as part of the one before it.
        first = [token for start in articles if (token := encoding.char_to_token(start)) is not None]
        return cls(torch.tensor(encoding.input_ids, dtype=torch.long), torch.tensor(first, dtype=torch.long), bos)

    @classmethod
    def read(cls, folder: Path) -> Text:
        """The text that `write` left in a folder."""
        tensors = load_file(folder / "text.safetensors")
        bos = tensors["bos"].tolist()
        return cls(tensors["tokens"], tensors["articles"], bos[0] if bos else None)

    def write(self, folder: Path) -> None:
        """Write text.safetensors: tokens, articles, bos (one token or none)."""
        bos = torch.tensor([] if self.bos is None else [self.bos], dtype=torch.long)
        save_file({"tokens": self.tokens, "articles": self.articles, "bos": bos}, folder / "text.safetensors")

    def stride(self, context: int) -> int:
        """Tokens of the text in a window of `context` tokens: one less where a BOS takes the first place."""
        return context - (self.bos is not None)

    def windows(self, starts: Int[Tensor, "windows"], context: int) -> Windows:
        """The windows whose tokens of the text begin at these places."""
        tokens = self.tokens[starts[:, None] + torch.arange(self.stride(context))]
        if self.bos is not None:
            tokens = torch.cat([torch.full((len(tokens), 1), self.bos), tokens], dim=1)
        marked = len(self.articles) > 0
        return Windows(tokens, torch.searchsorted(self.articles, starts, right=True) if marked else starts)

    def spread(self, context: int, max_tokens: int | None) -> Windows:
        """⌊max_tokens / context⌋ windows (null: all), spread over the text (`window_starts`)."""
        count = None if max_tokens is None else max_tokens // context
        return self.windows(window_starts(len(self.tokens), self.stride(context), count), context)

    def calibration(self, context: int, tokens: int) -> Windows:
        """⌊tokens / context⌋ windows to learn from (`calibration_starts`)."""
        return self.windows(calibration_starts(len(self.tokens), self.stride(context), tokens // context), context)

    def held_out(
        self, context: int, max_tokens: int | None, calibration_context: int, calibration_tokens: int
    ) -> Windows:
        """⌊max_tokens / context⌋ windows (null: all) that hold nothing of the calibration windows (`held_out_starts`).

        Raises PermeationError where there is none.
        """
        stride = self.stride(calibration_context)
        learned = calibration_starts(len(self.tokens), stride, calibration_tokens // calibration_context)
        taken = torch.zeros(len(self.tokens), dtype=torch.bool)
        taken[learned[:, None] + torch.arange(stride)] = True
        count = None if max_tokens is None else max_tokens // context
        starts = held_out_starts(taken, self.stride(context), count)
        if len(starts) == 0:
            raise PermeationError(
                f"perplexity.max_tokens is {max_tokens} and perplexity.context {context}; that leaves no window of the "
                f"text's {len(self.tokens)} tokens beside the moments' {calibration_tokens}"
            )
        return self.windows(starts, context)


def bos_of(tokenizer: Any, prepend_bos: bool | Literal["auto"]) -> int | None:
    """The token that stands in front of every window, for `perplexity.prepend_bos`; `auto`: if the tokenizer adds it.

    Raises PermeationError where a BOS is asked for and the tokenizer has none.
    """
    bos = tokenizer.bos_token_id
    if prepend_bos is True and bos is None:
        raise PermeationError(
            "perplexity.prepend_bos is true, and this model's tokenizer has no BOS token; accepted: auto | false"
        )
    if prepend_bos == "auto":
        return bos if bos is not None and tokenizer("a").input_ids[:1] == [bos] else None
    return bos if prepend_bos else None


def window_starts(length: int, stride: int, count: int | None) -> Int[Tensor, "windows"]:
    """Where `count` windows (null: all) spread evenly over a text of `length` tokens start.

    Window j of w out of W starts at window ⌊j · W / w⌋ (docs/weights.md, Perplexity). They come in spread_order, so
    that the first few of them are spread over the text too. Raises PermeationError where the text or `count` is
    shorter than one window.
    """
    available = length // stride
    if available == 0:
        raise PermeationError(f"the corpus has {length} tokens; accepted: at least a window, which has {stride}")
    wanted = available if count is None else min(available, count)
    if wanted == 0:
        raise PermeationError("perplexity.max_tokens is less than perplexity.context; accepted: at least as many")
    return spread_order(wanted) * available // wanted * stride


def calibration_starts(length: int, stride: int, count: int) -> Int[Tensor, "windows"]:
    """Where `count` windows to learn from, spread evenly over a text of `length` tokens, start.

    Window j of w out of W is window ⌊(j + ½) W / w⌋, half a step away from those of `window_starts`. Raises
    PermeationError where the text is shorter than twice that: what is held out from it has to be enough to measure on.
    """
    available = length // stride
    if count == 0:
        raise PermeationError("moments.tokens is less than moments.context; accepted: at least as many")
    if 2 * count > available:
        raise PermeationError(
            f"moments.tokens asks for {count} windows; the text has {length} tokens, which are {available} windows, of "
            "which at most half may be calibration text"
        )
    return (2 * torch.arange(count) + 1) * available // (2 * count) * stride


def held_out_starts(taken: Bool[Tensor, "tokens"], stride: int, count: int | None) -> Int[Tensor, "windows"]:
    """Where the first `count` windows (null: all) without a `taken` token start.

    All such windows stand in spread_order, and a smaller count takes the first of them: what was scored for few
    windows serves more windows too.
    """
    available = len(taken) // stride
    free = (~taken[: available * stride].view(available, stride).any(dim=1)).nonzero().flatten() * stride
    return free[spread_order(len(free))][:count]


def spread_order(count: int) -> Int[Tensor, "count"]:
    """An order of 0 … count − 1 whose first few are spread evenly, however many: van der Corput's sequence, ranked.

    Its i-th number has the bits of i in reverse.
    """
    sequence = torch.tensor([int(f"{i:032b}"[::-1], 2) for i in range(count)])
    return sequence.argsort().argsort()

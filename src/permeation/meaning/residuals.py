"""The residual stream φ(l) at chosen tokens of many prompts: l = 0 is the embedding, l the output of block l.

The final norm is not applied. Where a model's norms subtract the mean over d_model, it is subtracted here, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.meaning.words import Prompt
from permeation.models.families import blocks, final_norm, stream_of


def residuals_at(
    model: Any, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], batch_size: int
) -> Iterator[tuple[list[int], Float[np.ndarray, "batch places layers d_model"]]]:
    """Yield (indices of sequences, residual stream at their positions), batch by batch, in order of length.

    Every sequence has equally many positions. Sequences are padded on the right: with causal attention nothing to the
    left of the padding changes. Raises PermeationError where an activation is not finite.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    streams: list[torch.Tensor] = []
    at: list[Any] = []

    def before(_block: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        streams.append((inputs[0] if inputs else named["hidden_states"])[at[-1]])

    def after(_block: Any, _inputs: Any, output: Any) -> None:
        streams.append(stream_of(output)[at[-1]])

    parts = list(blocks(model))
    handles = [parts[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [part.register_forward_hook(after) for part in parts]
    try:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            at.append((torch.arange(len(batch))[:, None], torch.tensor([list(positions[i]) for i in batch])))
            tokens = pad_sequence([torch.tensor(sequences[i]) for i in batch], batch_first=True)
            streams.clear()
            with torch.no_grad(), fast_products():
                model.base_model(tokens.to(model.device), use_cache=False)
            residual = torch.stack(streams, dim=2).float().cpu().numpy()
            if not np.isfinite(residual).all():
                raise PermeationError("the residual stream holds values that are not finite")
            yield batch, without_unseen_mean(model, residual)
    finally:
        for handle in handles:
            handle.remove()


def without_unseen_mean(
    model: Any, stream: Float[np.ndarray, "*places d_model"]
) -> Float[np.ndarray, "*places d_model"]:
    """The residual stream without its mean over d_model, where the model's final norm takes that out anyway.

    It is a coordinate that such a model cannot see (TransformerLens' center_writing_weights does the same). Told by
    what the norm does, and not by its name: families have LayerNorms of their own.
    """
    norm, weight = final_norm(model), next(model.parameters())
    some = torch.linspace(-1, 1, stream.shape[-1], device=weight.device, dtype=weight.dtype)[None, None]
    with torch.no_grad():
        unseen = torch.allclose(norm(some), norm(some + 1), rtol=1e-3, atol=1e-3)
    return stream - stream.mean(axis=-1, keepdims=True) if unseen else stream


def tokenize(tokenizer: Any, texts: Sequence[str], prepend_bos: bool) -> list[list[int]]:
    """Token ids of each text without special tokens, with the tokenizer's BOS in front where asked for.

    Raises PermeationError where a BOS is asked for and the tokenizer has none.
    """
    if prepend_bos and tokenizer.bos_token_id is None:
        raise PermeationError(
            "activations.prepend_bos is true, and this model's tokenizer has no BOS token; accepted: false"
        )
    front = [tokenizer.bos_token_id] if prepend_bos else []
    return [front + ids for ids in tokenizer(list(texts), add_special_tokens=False).input_ids]


def tokenize_prompts(tokenizer: Any, prompts: Sequence[Prompt], prepend_bos: bool, n_ctx: int) -> list[list[int]]:
    """Token ids of each prompt, as `tokenize` gives them.

    Raises PermeationError, naming the prompt, where it is longer than the model's n_ctx positions, where the prompts of
    a word do not all end in the same tokens, and where these tokens are not the word.
    """
    sequences = tokenize(tokenizer, [prompt.text for prompt in prompts], prepend_bos)
    for prompt, ids in zip(prompts, sequences, strict=True):
        if len(ids) > n_ctx:
            raise PermeationError(
                f"{prompt.word}: the prompt {f'{prompt.text[:60]} …'!r} ({prompt.role} {prompt.label}) has {len(ids)} "
                f"tokens; this model accepts at most {n_ctx}"
            )
    for word in dict.fromkeys(prompt.word for prompt in prompts if prompt.start is None):  # in a table it is anywhere
        own = [i for i, prompt in enumerate(prompts) if prompt.word == word]
        tails = [_tail(tokenizer, sequences[i], word) for i in own]
        usual = Counter(tails).most_common(1)[0][0]
        for i, tail in zip(own, tails, strict=True):
            if tail != usual or not usual:
                expected = f"others of its word end in {_spelt(tokenizer, usual)}" if usual else "the word is cut up"
                raise PermeationError(
                    f"{word}: the prompt {prompts[i].text!r} ({prompts[i].role} {prompts[i].label}) ends in the tokens "
                    f"{_spelt(tokenizer, sequences[i][-len(usual) - 1 :])}, where {expected}; accepted: a word that "
                    "the tokenizer knows, in the same tokens in all its prompts"
                )
    return sequences


def _tail(tokenizer: Any, ids: Sequence[int], word: str) -> tuple[int, ...]:
    """The fewest last tokens that hold the word, with a token of blanks in front of it; empty if all of them do not."""
    for size in range(1, len(ids) + 1):
        if tokenizer.decode(ids[-size:]).rstrip().casefold().endswith(word.casefold()):
            while size < len(ids) and not tokenizer.decode(ids[-size - 1]).strip():
                size += 1
            return tuple(ids[-size:])
    return ()


def _spelt(tokenizer: Any, ids: Sequence[int]) -> str:
    return " ".join(repr(tokenizer.decode([i])) for i in ids)


def prompt_places(
    tokenizer: Any, prompts: Sequence[Prompt], sequences: Sequence[Sequence[int]]
) -> list[tuple[int, int]]:
    """The first two PLACES of prompts that end with their word: the last token, and the one in front of the word."""
    tails = [_tail(tokenizer, ids, prompt.word) for ids, prompt in zip(sequences, prompts, strict=True)]
    return [(len(ids) - 1, len(ids) - len(tail) - 1) for ids, tail in zip(sequences, tails, strict=True)]


def sentence_places(
    tokenizer: Any, prompts: Sequence[Prompt], sequences: Sequence[Sequence[int]]
) -> list[tuple[int, int, int, int]]:
    """PLACES of a table's sentences: the word's last token, the one before the word, two tokens later, the last.

    The word ends where its letters do, so an inflected word is read whole. Where the sentence ends sooner than two
    tokens later, its last token stands for that one.
    """
    offsets = tokenizer([p.text for p in prompts], add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    found = []
    for prompt, spans, ids in zip(prompts, offsets, sequences, strict=True):
        start, front = prompt.start or 0, len(ids) - len(spans)
        end = start + len(prompt.word) * prompt.text[start:].casefold().startswith(prompt.word.casefold())
        end += len(re.match(r"\w*", prompt.text[end:])[0])  # type: ignore[index]  # an empty match is one
        blank = len(prompt.text[:start].rstrip())  # a token of blanks in front of the word is part of it
        first = next(i for i, (_, to) in enumerate(spans) if to > blank)
        last = max(i for i, (of, to) in enumerate(spans) if of < end and to > start)
        at, final = front + last, len(ids) - 1
        found.append((at, front + first - 1, min(at + 2, final), final))
    return found


@torch.no_grad()
def mean_embedding(
    model: Any, sequences: Sequence[Sequence[int]], ends: Sequence[int]
) -> Float[np.ndarray, "prompts 1 d_model"]:
    """The mean embedding of each sequence's tokens up to and with the one at its end."""
    table = model.get_input_embeddings()
    rows = (torch.tensor(list(ids[: end + 1]), device=model.device) for ids, end in zip(sequences, ends, strict=True))
    return np.stack([table(row).float().mean(dim=0, keepdim=True).cpu().numpy() for row in rows])

"""The residual stream at chosen positions of many prompts, batched, keeping only these."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.meaning.words import Prompt
from permeation.models.families import final_norm
from permeation.models.tokenizer import check_tokens


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

    `tokenizer` is the checkpoint's own: TransformerLens gives the one in a bridge a BOS where it has none. Raises
    PermeationError, naming the prompt, where it is longer than the model's n_ctx positions, where the prompts of a
    word do not all end in the same tokens, and where these tokens are not the word.
    """
    sequences = tokenize(tokenizer, [prompt.text for prompt in prompts], prepend_bos)
    for prompt, ids in zip(prompts, sequences, strict=True):
        if len(ids) > n_ctx:
            start = f"{prompt.text[:60]} …"
            raise PermeationError(
                f"{prompt.word}: the prompt {start!r} ({prompt.role} {prompt.label}) has {len(ids)} tokens; this model "
                f"accepts at most {n_ctx}"
            )
    of_word: defaultdict[str, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        of_word[prompt.word].append(i)
    for word, places in of_word.items():
        tails = [_tail(tokenizer, sequences[i], word) for i in places]
        usual = Counter(tails).most_common(1)[0][0]
        if not usual:
            raise PermeationError(
                f"{word}: the prompts' last tokens are {_spelt(tokenizer, sequences[places[0]][-2:])}, from which the "
                "tokenizer does not give the word back; accepted: a word that it knows"
            )
        for i, tail in zip(places, tails, strict=True):
            if tail != usual:
                raise PermeationError(
                    f"{word}: the prompt {prompts[i].text!r} ({prompts[i].role} {prompts[i].label}) ends in the tokens "
                    f"{_spelt(tokenizer, sequences[i][-len(usual) - 1 :])}, where others of its word end in "
                    f"{_spelt(tokenizer, usual)}; accepted: the same tokens in all"
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


def before_word(tokenizer: Any, prompts: Sequence[Prompt], sequences: Sequence[Sequence[int]]) -> list[int]:
    """The position of the token in front of each prompt's word: the last that the prompt without its word has too.

    Raises PermeationError where the tokenizer shares none, so that nothing stands in front of the word.
    """
    cut = tokenizer([p.text.removesuffix(p.word).rstrip() for p in prompts], add_special_tokens=False).input_ids
    front = len(sequences[0]) - len(tokenizer(prompts[0].text, add_special_tokens=False).input_ids)  # a BOS or none
    positions = []
    for prompt, alone, whole in zip(prompts, cut, sequences, strict=True):
        shared = next((i for i, (x, y) in enumerate(zip(alone, whole[front:], strict=False)) if x != y), len(alone))
        positions.append(front + min(shared, len(whole) - front - 1) - 1)
        if positions[-1] < 0:
            raise PermeationError(f"{prompt.text!r} has no token in front of {prompt.word!r}")
    return positions


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


def residuals_at(
    bridge: Any, sequences: Sequence[Sequence[int]], positions: Sequence[Sequence[int]], batch_size: int
) -> Iterator[tuple[list[int], Float[np.ndarray, "batch places layers d_model"]]]:
    """Yield (indices of sequences, residual stream at their positions), batch by batch, in order of length.

    Every sequence has equally many positions.

    Layers: 0 is the embedding, l is the output of block l, so L + 1 in all; the final norm is not applied, and the mean
    is taken out as by `without_unseen_mean`.

    Sequences are padded on the right: with causal attention nothing to the left of the padding changes.
    Raises PermeationError for a token that the model does not know and where an activation is not finite.
    """
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    check_tokens(torch.tensor([token for sequence in sequences for token in sequence]), bridge.cfg.d_vocab)
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(bridge.cfg.n_layers))]
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        at = torch.tensor([list(positions[i]) for i in batch])
        tokens = torch.zeros(len(batch), max(len(sequences[i]) for i in batch), dtype=torch.long)
        for row, i in enumerate(batch):
            tokens[row, : len(sequences[i])] = torch.tensor(sequences[i])
        residual = np.empty((*at.shape, len(names), bridge.cfg.d_model), np.float32)

        def keep(
            activation: torch.Tensor,
            *,
            hook: object,  # noqa: ARG001 (the bridge passes it by name)
            layer: int,
            at: torch.Tensor = at,
            residual: Any = residual,
        ) -> None:
            residual[:, :, layer] = activation[torch.arange(len(at))[:, None], at].float().cpu().numpy()
            if layer == bridge.cfg.n_layers:
                raise StopAtLayerException(activation)  # the bridge ends the run there, without the unembedding

        hooks = [(name, partial(keep, layer=layer)) for layer, name in enumerate(names)]
        with torch.no_grad(), fast_products():
            bridge.run_with_hooks(tokens.to(bridge.cfg.device), return_type=None, fwd_hooks=hooks)
        if not np.isfinite(residual).all():
            layer = int(np.argwhere(~np.isfinite(residual).all(axis=(0, 1, 3)))[0, 0])
            raise PermeationError(f"the residual stream holds values that are not finite, first at layer {layer}")
        yield batch, without_unseen_mean(bridge.original_model, residual)

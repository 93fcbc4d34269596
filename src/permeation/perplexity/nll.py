"""Perplexity of a causal language model on windows of a text: exp(Σ NLL / Σ tokens).

NLL of a token = log Σ_v exp z_v − z_target in nats, with z the logits at the position before it. The windows do not
overlap (permeation.perplexity.windows). The first token of a window has no context and is not scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.device import fast_products, total_memory
from permeation.frame.errors import PermeationError
from permeation.models.families import Readout, readout
from permeation.models.tokenizer import by_length

# Tokens of the vocabulary whose logits exist at once: on a processor so few that they stay in the cache.
VOCABULARY_TILE = {"cpu": 1024, "mps": 8192, "cuda": 8192}
# Positions scored at once: what keeps one thread of a processor busy, or a GPU.
POSITIONS = {"cpu": 512, "mps": 4096, "cuda": 16384}
# Memory of a position, beside three numbers for each logit of a tile, in bytes for each unit of d_model. Measured on
# three models: peaks of 54 to 367.
BYTES_PER_UNIT = 400


def windows_per_batch(batch_size: int | Literal["auto"], context: int, model: Any) -> int:
    """`perplexity.batch_size`; `auto`: what keeps the model's device busy, in a quarter of its memory."""
    if batch_size != "auto":
        return batch_size
    kind = model.device.type
    busy = POSITIONS[kind] * (torch.get_num_threads() if kind == "cpu" else 1)
    d_model = model.get_output_embeddings().weight.shape[1]
    room = total_memory(model.device) // 4 // (BYTES_PER_UNIT * d_model + 3 * 4 * VOCABULARY_TILE[kind])
    return max(1, min(busy, room) // context)


@torch.inference_mode()
def window_nll(
    model: Any, windows: Int[Tensor, "windows context"], batch_size: int | Literal["auto"] = "auto"
) -> Iterator[Float[np.ndarray, "batch"]]:
    """Yield Σ NLL in nats over the context − 1 scored tokens of each window, batch by batch, in float64.

    `batch_size` counts windows; `auto`: `windows_per_batch`. A model in training mode is scored without dropout.
    Raises PermeationError for a loss that is not finite, with the window.
    """
    done = 0
    head = readout(model)
    for batch in windows.to(model.device).split(windows_per_batch(batch_size, windows.shape[1], model)):
        with fast_products(), _evaluating(model):
            hidden = model.base_model(batch, use_cache=False).last_hidden_state[:, :-1]
            nll = token_nll(hidden.flatten(0, 1), head, batch[:, 1:].flatten()).view(len(batch), -1).sum(dim=1)
        if not (finite := torch.isfinite(nll)).all():
            window = done + int(finite.int().argmin()) + 1
            raise PermeationError(f"the model's loss is not finite on window {window} of {len(windows)}")
        done += len(batch)
        yield nll.numpy()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode inside the block; afterwards each module is in the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def nats_per_byte(model: Any, sequences: Sequence[Sequence[int]], texts: Sequence[str]) -> float:
    """Σ NLL over all tokens but the first of each sequence, in nats, over the bytes of their texts in UTF-8.

    Unlike a loss per token it can be compared between languages, which a tokenizer cuts into more pieces or fewer.
    Sequences of equal length run together; nothing is padded.
    """
    lost = sum(
        float(nll.sum())
        for group in by_length(sequences)
        if len(sequences[group[0]]) > 1
        for nll in window_nll(model, torch.tensor([sequences[i] for i in group]))
    )
    return lost / sum(len(text.encode()) for text in texts)


def token_nll(
    hidden: Float[Tensor, "positions d_model"], head: Readout, targets: Int[Tensor, "positions"]
) -> Float[Tensor, "positions"]:
    """log Σ_v exp z_v − z_target with z = `head`'s logits at each position, in nats and float64, on the CPU.

    Tile by tile over the vocabulary: the logits of all positions and tokens never exist at once.
    """
    size, partitions = VOCABULARY_TILE[hidden.device.type], list[Tensor]()
    for start in range(0, len(head.W), size):
        logits = head[start : start + size].logits(hidden)
        # log Σ exp z = z₀ − log softmax(z)₀: torch computes a log-softmax in one pass, a logsumexp in four.
        partitions.append(logits[:, 0].float() - logits.log_softmax(dim=1, dtype=torch.float32)[:, 0])
    target = torch.einsum("pd,pd->p", hidden.float(), head.W[targets].float())
    target = head.transform(target if head.b is None else target + head.b[targets].float())
    # Not every device has float64.
    return torch.stack(partitions).cpu().double().logsumexp(dim=0) - target.cpu().double()

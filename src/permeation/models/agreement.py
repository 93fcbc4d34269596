"""One window of tokens through everything that stands for a model: itself, its folded form, its bridge.

What one of the three drops or computes otherwise shows here, before anything is measured (docs/models.md, What is
checked when a model is fetched).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.errors import PermeationError, one_line
from permeation.models.families import Geometry, geometry_of, longest_context, readout
from permeation.models.fold import fold_norms
from permeation.models.load import load_bridge, load_model

# Two ways to compute one function differ by rounding, by 1e-6 of the residual stream's length. What a loader drops,
# such as a scale or a scaling of the positions, moves the stream by more than 1e-4.
TOLERANCE = 1e-4
WINDOW = 128


@dataclass(frozen=True)
class Trace:
    """What a model makes of one window.

    Attributes:
        residuals: the stream in front of the first block and behind each but the last.
        nll: of each token but the first, in nats.
    """

    residuals: Float[Tensor, "layers tokens d_model"]
    nll: Float[Tensor, "scored"]


@torch.no_grad()
def trace(model: Any) -> Trace:
    """What a plain transformers model makes of WINDOW tokens, drawn from the whole vocabulary.

    Raises PermeationError where its logits are not those of `families.readout`, and where a token changes what
    stands before it.
    """
    family, window = model.config.model_type, _window(model)
    done = model(window, use_cache=False, output_hidden_states=True)
    read = readout(model).logits(model.base_model(window, use_cache=False).last_hidden_state)
    if _difference(read, done.logits) > TOLERANCE:
        raise PermeationError(f"the logits of this {family} are not what its unembedding makes of its last layer")
    shorter = model(window[:, :-1], use_cache=False).logits
    if _difference(shorter, done.logits[:, :-1]) > TOLERANCE:
        raise PermeationError(f"this {family} reads ahead: the last token changes what stands before it")
    return Trace(torch.cat(done.hidden_states[:-1]).float(), _nll(done.logits, window))


@torch.no_grad()
def trace_bridge(bridge: Any) -> Trace:
    """What a TransformerBridge makes of the same window."""
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(bridge.cfg.n_layers - 1))]
    window = _window(bridge.original_model)
    logits, cache = bridge.run_with_cache(window, return_type="logits", names_filter=names)
    return Trace(torch.cat([cache[name] for name in names]).float(), _nll(logits, window))


def checked_geometry(folder: Path | str) -> Geometry:
    """The sizes of a fetched checkpoint.

    Raises PermeationError where its folded form or its bridge computes something else than the checkpoint. One model
    is in memory at a time.
    """
    model = load_model(folder)
    geometry, expected = geometry_of(model), trace(model)
    fold_norms(model)
    compare(trace(model), expected, f"this {geometry.family} with its norms folded")
    del model
    try:
        found = trace_bridge(load_bridge(folder))
    except Exception as error:
        raise PermeationError(f"TransformerLens cannot run this {geometry.family}: {one_line(error)}") from error
    compare(found, expected, f"TransformerLens' bridge of this {geometry.family}")
    return geometry


def compare(found: Trace, expected: Trace, what: str) -> None:
    """Raise PermeationError, with the first layer that differs, unless two traces are the same."""
    for layer, (mine, theirs) in enumerate(zip(found.residuals, expected.residuals, strict=True)):
        if (far := _difference(mine, theirs)) > TOLERANCE:
            where = f"behind block {layer}" if layer else "in front of the first block"
            raise PermeationError(
                f"{what} is another function than the model: the residual stream differs by {far:.1e} of its length "
                f"{where}"
            )
    if (far := float((found.nll - expected.nll).abs().max())) > 100 * TOLERANCE:
        raise PermeationError(f"{what} is another function than the model: a token's NLL differs by {far:.1e} nats")


def _window(model: Any) -> Int[Tensor, "1 tokens"]:
    length = min(WINDOW, longest_context(model.config))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(len(model.get_input_embeddings().weight), (1, length), generator=generator)


def _difference(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b).clamp(min=1e-30))


def _nll(logits: Float[Tensor, "1 tokens d_vocab"], window: Int[Tensor, "1 tokens"]) -> Float[Tensor, "scored"]:
    return torch.nn.functional.cross_entropy(logits[0, :-1].float(), window[0, 1:], reduction="none")

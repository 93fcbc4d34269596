"""One window of tokens through a model, its folded form and its bridge: all three must compute the same.

What one of them drops shows here, before anything is measured
(docs/models.md, What is checked when a model is fetched).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from permeation.frame.errors import PermeationError, one_line
from permeation.models.families import geometry_of, longest_context, readout
from permeation.models.fold import fold_norms
from permeation.models.load import load_bridge, load_model

# Two ways to compute one function differ by rounding, by 1e-6 of the residual stream's length. What a loader drops,
# such as a scale or a scaling of the positions, moves the stream by more than 1e-4.
TOLERANCE = 1e-4
WINDOW = 128
Trace = dict[str, Tensor]  # the residual stream in front of each block (1, tokens, d_model), and the logits


def checked_geometry(folder: Path | str) -> dict[str, Any]:
    """The sizes of a fetched checkpoint; raises PermeationError unless its folded form and bridge compute the same."""
    model = load_model(folder)
    geometry, expected, family = geometry_of(model), trace(model), model.config.model_type
    fold_norms(model)
    compare(trace(model), expected, f"this {family} with its norms folded")
    del model  # one at a time in memory
    try:
        found = trace_bridge(load_bridge(folder))
    except Exception as error:
        raise PermeationError(f"TransformerLens cannot run this {family}: {one_line(error)}") from error
    compare(found, expected, f"TransformerLens' bridge of this {family}")
    return geometry


@torch.no_grad()
def trace(model: Any) -> Trace:
    """What a plain transformers model makes of WINDOW tokens; raises where `families.readout` gives other logits."""
    window = _window(model)
    done = model(window, use_cache=False, output_hidden_states=True)
    read = readout(model).logits(model.base_model(window, use_cache=False).last_hidden_state)
    compare({"the logits": read}, {"the logits": done.logits}, f"the readout of this {model.config.model_type}")
    return {f"block {i}": x for i, x in enumerate(done.hidden_states[:-1])} | {"the logits": done.logits}


@torch.no_grad()
def trace_bridge(bridge: Any) -> Trace:
    """What a TransformerBridge makes of the same tokens."""
    names = [f"blocks.{i}.hook_resid_pre" for i in range(bridge.cfg.n_layers)]
    logits, cache = bridge.run_with_cache(_window(bridge.original_model), return_type="logits", names_filter=names)
    return {f"block {i}": cache[name] for i, name in enumerate(names)} | {"the logits": logits}


def compare(found: Trace, expected: Trace, what: str) -> None:
    """Raise PermeationError, with the first place that differs, unless two traces are the same."""
    for place, theirs in expected.items():
        far = float(torch.linalg.vector_norm(found[place] - theirs) / torch.linalg.vector_norm(theirs))
        if not far <= TOLERANCE:
            raise PermeationError(f"{what} is not the model: it differs by {far:.1e} of its length at {place}")


def _window(model: Any) -> Int[Tensor, "1 tokens"]:
    """Tokens drawn from the whole vocabulary, the same at every call."""
    length = min(WINDOW, longest_context(model.config))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(len(model.get_input_embeddings().weight), (1, length), generator=generator)

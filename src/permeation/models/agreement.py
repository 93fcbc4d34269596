"""One window of tokens through everything that stands for a model: its source, its copy, its bridge, its folded form.

If a loader drops something that a file says, the two differ here, before anything is measured (docs/models.md, What is
checked when a model is fetched).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from permeation.frame.errors import PermeationError, one_line
from permeation.models.families import Geometry, blocks, geometry_of, longest_context, readout, stream_of
from permeation.models.fold import fold_norms
from permeation.models.load import load_bridge, load_model
from permeation.models.tokenizer import load_tokenizer

# Two ways to compute one function differ by rounding, by 1e-6 of the residual stream's length. What a loader drops,
# such as a scale or a scaling of the positions, moves the stream by more than 1e-4.
TOLERANCE = 1e-4
WINDOW = 128
TEXT = (
    "The river left its bank after the rain, and the bank would not lend us 1,250 dollars (or £900) before noon. "
    "“Überall Größe,” she said; naïve façades, 東京, Ελλάδα.\n\n\tif x != 0:\n        return f(x)\n"
)


@dataclass(frozen=True)
class Trace:
    """What a model makes of one window.

    Attributes:
        residuals: the stream in front of the first block and behind each. nll: of each token but the first, in nats.
    """

    residuals: Float[Tensor, "layers tokens d_model"]
    nll: Float[Tensor, "scored"]


def window_for(model: Any) -> Int[Tensor, "tokens"]:
    """Tokens drawn from the whole vocabulary, the same at every call."""
    d_vocab = model.get_input_embeddings().weight.shape[0]
    length = min(WINDOW, longest_context(model.config))
    return torch.randint(d_vocab, (length,), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def trace(model: Any, window: Int[Tensor, "tokens"]) -> Trace:
    """What a plain transformers model makes of a window.

    Raises PermeationError where its logits are not those of `families.readout`, and where a token changes what
    stands before it.
    """
    kept: list[Tensor] = []
    other = window.clone()
    other[-1] = (window[-1] + 1) % int(window.max() + 1)
    layers = list(blocks(model))
    with ExitStack() as hooks:

        def before(_module: Any, inputs: tuple[Any, ...]) -> None:
            kept.append(inputs[0])

        def after(_module: Any, _inputs: Any, output: Any) -> None:
            kept.append(stream_of(output))

        hooks.callback(layers[0].register_forward_pre_hook(before).remove)
        for layer in layers:
            hooks.callback(layer.register_forward_hook(after).remove)
        batch = torch.stack([window, other]).to(model.device)
        logits = model(batch, use_cache=False).logits
    read = readout(model).logits(model.base_model(batch, use_cache=False).last_hidden_state)
    residuals = torch.stack(kept).float()
    family = model.config.model_type
    if _difference(read, logits) > TOLERANCE:
        raise PermeationError(f"the logits of this {family} are not what its unembedding makes of its last layer")
    if _difference(residuals[:, 1, :-1], residuals[:, 0, :-1]) > TOLERANCE:
        raise PermeationError(f"this {family} reads ahead: the last token changes what stands before it")
    return Trace(residuals[:, 0].cpu(), _nll(logits[0], window))


@torch.no_grad()
def trace_bridge(bridge: Any, window: Int[Tensor, "tokens"]) -> Trace:
    """What a TransformerBridge makes of a window."""
    n_layers = bridge.cfg.n_layers
    kept: dict[int, Tensor] = {}

    def keep(activation: Tensor, *, hook: object, layer: int) -> None:  # noqa: ARG001 (the bridge passes it by name)
        kept[layer] = activation[0].float().cpu()

    names = ["blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(n_layers))]
    hooks = [(name, partial(keep, layer=layer)) for layer, name in enumerate(names)]
    logits = bridge.run_with_hooks(window[None].to(bridge.cfg.device), return_type="logits", fwd_hooks=hooks)
    return Trace(torch.stack([kept[layer] for layer in range(n_layers + 1)]), _nll(logits[0], window))


def compare(found: Trace, expected: Trace, what: str, reference: str, config: Any) -> None:
    """Raise PermeationError, with the first layer that differs and what is unusual in the configuration."""
    for layer, (mine, theirs) in enumerate(zip(found.residuals, expected.residuals, strict=True)):
        if (far := _difference(mine, theirs)) > TOLERANCE:
            where = "at the embedding" if layer == 0 else f"behind block {layer} of {len(found.residuals) - 1}"
            raise PermeationError(
                f"{what} does not compute what {reference} does: the residual stream differs by {far:.1e} of its "
                f"length {where}{_unusual(config)}"
            )
    if (far := float((found.nll - expected.nll).abs().max())) > 100 * TOLERANCE:
        raise PermeationError(
            f"{what} does not compute what {reference} does: a token's NLL differs by {far:.1e} nats{_unusual(config)}"
        )


def check_copy(source: Path, folder: Path) -> None:
    """Raise PermeationError unless a fetched checkpoint gives the tokens, residuals and NLL of that in `source`."""
    try:
        theirs = load_tokenizer(source)
    except PermeationError:  # the stages that need one say so
        theirs = None
    if theirs is not None and load_tokenizer(folder)(TEXT).input_ids != theirs(TEXT).input_ids:
        raise PermeationError(f"{source.name}: the tokenizer's copy does not give the tokens that the original gives")
    model = load_model(source)
    window, config = window_for(model), model.config
    expected = trace(model, window)
    del model  # one at a time in memory
    compare(trace(load_model(folder), window), expected, "the copy", f"the model in {source.name}", config)


def checked_geometry(folder: Path) -> Geometry:
    """The sizes of a fetched checkpoint.

    Raises PermeationError where its folded form or its bridge computes something else than the checkpoint. One model
    is in memory at a time.
    """
    model = load_model(folder)
    window, config, geometry = window_for(model), model.config, geometry_of(model)
    expected = trace(model, window)
    fold_norms(model)
    compare(trace(model, window), expected, "the model with its norms folded", "the model as it is", config)
    del model
    try:
        found = trace_bridge(load_bridge(folder, torch.device("cpu")), window)
    except PermeationError:
        raise
    except Exception as error:
        reason = one_line(error)
        raise PermeationError(
            f"TransformerLens cannot run this {config.model_type}: {reason}{_unusual(config)}"
        ) from error
    compare(found, expected, "TransformerLens' bridge", "the model in transformers", config)
    return geometry


def _difference(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b).clamp(min=1e-30))


def _nll(logits: Float[Tensor, "tokens d_vocab"], window: Int[Tensor, "tokens"]) -> Float[Tensor, "scored"]:
    return torch.nn.functional.cross_entropy(logits[:-1].float().cpu(), window[1:], reduction="none")


def _unusual(config: Any) -> str:
    """What a configuration sets otherwise than its family does, sizes and tokens aside."""
    usual = type(config)().to_dict()
    said = [
        f"{key}: {value}"
        for key, value in config.to_dict().items()
        if isinstance(value, (bool, float, dict)) and value != usual.get(key) and key != "use_cache"
    ]
    return f"; unusual in its config.json: {', '.join(said)}" if said else ""

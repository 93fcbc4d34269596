"""The perplexity without one head."""

from typing import Any

import numpy as np
import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.heads.ablate import mean_outputs, nll_without, short_windows, untouched_streams
from permeation.models.families import attention_outputs
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.nll import window_nll
from permeation.perplexity.windows import Windows
from tests.support import tiny

WINDOWS = Windows(torch.randint(9, (8, 16), generator=torch.Generator().manual_seed(0)), torch.arange(8))


def test_a_head_that_writes_nothing_costs_nothing_and_another_does(family: str) -> None:
    model = prepare_for_scoring(tiny.model(family), "float32", 16)
    places = list(attention_outputs(model))
    with torch.no_grad():
        places[1].W_O[2] = 0
    scored, others = short_windows(WINDOWS, 4, 12)
    means, streams = mean_outputs(model, others), untouched_streams(model, scored)
    (untouched,) = window_nll(model, scored.tokens, 4)
    assert nll_without(model, scored, streams, 1, 2, means[1, 2]) == untouched.tolist()
    for layer in range(tiny.LAYERS):
        assert (nll_without(model, scored, streams, layer, 0, means[layer, 0]) != untouched).all()


def test_it_is_what_a_hook_on_the_projection_does(family: str) -> None:
    model = prepare_for_scoring(tiny.model(family), "float32", 16)
    scored, others = short_windows(WINDOWS, 4, 12)
    mean = mean_outputs(model, others)[2, 3]

    def replace(_module: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        size = inputs[0].shape[-1] // tiny.HEADS
        z = inputs[0].clone()
        z[..., 3 * size :] = mean.to(z)
        return z

    found = nll_without(model, scored, untouched_streams(model, scored), 2, 3, mean)
    with list(attention_outputs(model))[2].projection.register_forward_pre_hook(replace):
        (wanted,) = window_nll(model, WINDOWS.tokens[:4, :12], 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_the_mean_is_over_every_position_of_the_other_windows() -> None:
    model = tiny.model("gpt2")
    seen: list[torch.Tensor] = []
    next(iter(attention_outputs(model))).projection.register_forward_hook(lambda *call: seen.append(call[1][0]))
    scored, others = short_windows(WINDOWS, 4, 12)
    assert scored.tokens.tolist() == WINDOWS.tokens[:4, :12].tolist()
    assert others.tokens.tolist() == WINDOWS.tokens[4:, :12].tolist()
    means = mean_outputs(model, others)
    wanted = torch.cat(seen).flatten(0, 1).double().mean(dim=0).unflatten(0, (tiny.HEADS, -1))
    torch.testing.assert_close(means[0], wanted)


@pytest.mark.parametrize(("count", "context"), [(5, 12), (4, 17)])
def test_more_windows_than_the_text_gives_is_an_error(count: int, context: int) -> None:
    with pytest.raises(PermeationError, match="accepted: at most 4 windows of 16 tokens"):
        short_windows(WINDOWS, count, context)

"""The perplexity without one head."""

import numpy as np
import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.heads.ablate import Ablation, mean_outputs
from permeation.heads.word_runs import changing
from permeation.models.families import attention_outputs
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.nll import window_nll
from permeation.perplexity.windows import Windows
from tests.support import tiny


@pytest.fixture
def windows() -> Windows:
    return Windows(torch.randint(9, (8, 16), generator=torch.Generator().manual_seed(0)), torch.arange(8))


def test_a_head_that_writes_nothing_costs_nothing_and_another_does(family: str, windows: Windows) -> None:
    model = prepare_for_scoring(tiny.model(family), "float32", 16)
    places = list(attention_outputs(model))
    with torch.no_grad():
        places[1].W_O[2] = 0
    ablation = Ablation.fit(model, windows, 4, 12)
    assert (ablation.nll(model, 1, 2) == ablation.baseline.nll).all()
    assert ablation.baseline.ratio(ablation.nll(model, 1, 2)).value == 1
    assert all((ablation.nll(model, layer, 0) != ablation.baseline.nll).all() for layer in range(tiny.LAYERS))


def test_what_is_not_run_again_changes_no_result(family: str, windows: Windows) -> None:
    model = prepare_for_scoring(tiny.model(family), "float32", 16)
    ablation = Ablation.fit(model, windows, 4, 12)

    def change(z: torch.Tensor) -> torch.Tensor:
        z = z.clone()
        z[:, :, 3] = ablation.means[2, 3].to(z)
        return z

    kept = [ablation.nll(model, layer, 3) for layer in range(tiny.LAYERS)][2]
    with changing(model, 2, change):
        whole = np.concatenate(list(window_nll(model, windows.tokens[:4, :12])))
    np.testing.assert_allclose(kept, whole, rtol=1e-6)


def test_the_mean_is_over_every_position_of_the_other_windows(windows: Windows) -> None:
    model = tiny.model("gpt2")
    seen: list[torch.Tensor] = []
    next(iter(attention_outputs(model))).projection.register_forward_hook(lambda *call: seen.append(call[1][0]))
    others = Windows(windows.tokens[4:, :12], windows.articles[4:])
    means = mean_outputs(model, others)
    wanted = torch.cat(seen).flatten(0, 1).double().mean(dim=0).unflatten(0, (tiny.HEADS, -1))
    torch.testing.assert_close(means[0], wanted)
    fitted = Ablation.fit(prepare_for_scoring(model, "float32", 16), windows, 4, 12).means
    torch.testing.assert_close(fitted, means, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("count", "context"), [(5, 12), (4, 17)])
def test_more_windows_than_the_text_gives_is_an_error(windows: Windows, count: int, context: int) -> None:
    with pytest.raises(PermeationError, match=r"8 windows of 16 tokens; accepted: at most 4 and 16"):
        Ablation.fit(tiny.model("llama"), windows, count, context)

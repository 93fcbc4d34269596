"""z at the word: what it is, and what changing it does, on small models of every family."""

from typing import Any

import numpy as np
import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.heads.attention import attention_at_word, deciding
from permeation.heads.roles import direct_writing
from permeation.heads.sense import streams_at_word
from permeation.heads.word_runs import changing, read_word, run_changed
from permeation.meaning.residuals import residuals_at
from permeation.models.families import attention_outputs, attention_views, blocks
from permeation.models.load import load_bridge
from tests.support import tiny

SEQUENCES = [[1, 5, 9, 12, 7], [1, 8, 3, 30, 7], [1, 4, 4, 21, 7]]


@pytest.mark.parametrize("kind", tiny.ALL_CONFIGS)
def test_the_heads_add_up_to_what_attention_writes(kind: str) -> None:
    """Σ_h z_h W_O^h is the projection's output less its bias; times the gain it is what enters the stream."""
    model = tiny.model(kind)
    written: list[torch.Tensor] = []
    places = list(attention_outputs(model))
    for place in places:
        module = place.norm or place.projection
        module.register_forward_hook(lambda *call: written.append(call[-1][:, -1]))
    clean = read_word(model, SEQUENCES, repeats=1)
    written = written[-tiny.LAYERS :]  # the tokens before the word are read first
    for layer, place in enumerate(places):
        bias = getattr(place.projection, "bias", None)
        summed = torch.einsum("phe,hed->pd", clean.z[layer], place.W_O) + (0 if bias is None else bias)
        torch.testing.assert_close(clean.gain[layer] * summed / place.scale, written[layer], atol=1e-5, rtol=1e-4)


def test_z_is_the_pattern_times_the_values(family: str) -> None:
    """Head by head, so that no two heads are mistaken for each other; a key head serves its query heads."""
    model = tiny.model(family)
    read: list[torch.Tensor] = []
    for view in attention_views(model):
        view.reads.register_forward_hook(lambda *call: read.append(call[1][0]))
    looks = attention_at_word(model, SEQUENCES)
    inputs, clean = read[: tiny.LAYERS], read_word(model, SEQUENCES, repeats=1)
    for layer, view in enumerate(attention_views(model)):
        values = torch.einsum("ptd,hde->phte", inputs[layer], view.W_V)
        if view.b_V is not None:
            values += view.b_V[:, None]
        values = values.repeat_interleave(tiny.HEADS // len(view.W_V), dim=1)
        z = torch.einsum("pht,phte->phe", torch.tensor(looks[:, layer]), values)
        torch.testing.assert_close(clean.z[layer], z, atol=1e-5, rtol=1e-4)


def test_a_head_exchanged_with_itself_changes_nothing(family: str) -> None:
    model = tiny.model(family)
    clean = read_word(model, SEQUENCES, repeats=tiny.HEADS)
    for layer in range(tiny.LAYERS):
        logits = run_changed(model, clean, layer, range(tiny.HEADS), clean.z[layer])
        torch.testing.assert_close(logits, clean.logits[:, None].expand_as(logits), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", range(tiny.LAYERS))
def test_a_change_is_what_a_hook_on_the_whole_prompt_does(family: str, layer: int) -> None:
    model, new = tiny.model(family), torch.randn(3, 2, tiny.WIDTH // tiny.HEADS)
    found = run_changed(model, read_word(model, SEQUENCES, repeats=2), layer, [1, 3], new)
    plain = model(torch.tensor(SEQUENCES)).logits[:, -1]
    for j, head in enumerate((1, 3)):

        def change(z: torch.Tensor, head: int = head, j: int = j) -> torch.Tensor:
            z = z.clone()
            z[:, -1, head] = new[:, j]
            return z

        with changing(model, layer, change):
            whole = model(torch.tensor(SEQUENCES)).logits[:, -1]
        torch.testing.assert_close(found[:, j], whole, atol=1e-4, rtol=1e-4)
        assert (whole - plain).abs().max() > 0.01
    torch.testing.assert_close(model(torch.tensor(SEQUENCES)).logits[:, -1], plain)
    assert all("forward" not in vars(block) for block in blocks(model))


def test_as_many_heads_as_changes() -> None:
    clean = read_word(tiny.model("llama"), SEQUENCES, repeats=2)
    with pytest.raises(PermeationError, match="3 changes for 2 repeats of each prompt; accepted: as many"):
        run_changed(tiny.model("llama"), clean, 0, [0, 1, 2], torch.zeros(3, 2, 8))


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_direct_writing_adds_up_to_the_step_of_the_stream(kind: str) -> None:
    """Over the heads of a layer: ⟨(what attention adds for A) − (for B), ê⟩ / distance."""
    model = tiny.model(kind)
    written: list[torch.Tensor] = []
    places = list(attention_outputs(model))
    for place in places:
        (place.norm or place.projection).register_forward_hook(lambda *call: written.append(call[-1][:, -1]))
    clean = read_word(model, SEQUENCES[:2], repeats=1)
    step = torch.stack(written[-tiny.LAYERS :]).double().numpy()
    direction = np.random.default_rng(0).standard_normal((1, tiny.LAYERS, tiny.WIDTH))
    z, gain = (each.double().numpy().swapaxes(0, 1) for each in (clean.z, clean.gain))
    W_O = np.stack([place.W_O.double().numpy() for place in places])
    found = direct_writing(z, gain, W_O, direction, np.full(tiny.LAYERS, 2.0))
    wanted = np.einsum("ld,ld->l", step[:, 0] - step[:, 1], direction[0]) / 2
    np.testing.assert_allclose(found[0].sum(axis=-1), wanted, atol=1e-4)


def test_the_stream_is_the_one_that_a_bridge_gives(checkpoint: Any, family: str) -> None:
    sequences = [*SEQUENCES, [1, 2, 7]]
    found = streams_at_word(tiny.model(family), sequences)
    bridge = load_bridge(checkpoint, torch.device("cpu"))
    for batch, residual in residuals_at(bridge, sequences, [(len(each) - 1,) for each in sequences], 4):
        np.testing.assert_allclose(found[batch], residual[:, 0], atol=1e-4)


def test_what_decides_is_what_the_twin_has_not() -> None:
    own, twin = [0, 5, 6, 7, 8, 9], [0, 5, 3, 4, 4, 8, 9]
    assert deciding(own, twin).tolist() == [False, False, True, True, False, False]
    assert not deciding(own, own).any()


def test_attention_adds_up_to_one_and_the_model_keeps_its_own_way(family: str) -> None:
    model = tiny.model(family)
    usual = model.config._attn_implementation
    np.testing.assert_allclose(attention_at_word(model, SEQUENCES).sum(axis=-1), 1, atol=1e-5)
    assert model.config._attn_implementation == usual

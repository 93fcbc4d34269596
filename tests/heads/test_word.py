"""z at the word: what it is, and what changing it does, on small models of every family."""

from typing import Any

import numpy as np
import pytest
import torch

from permeation.heads.roles import attention_at_word, attention_shares, deciding, direct_writing, read_word, run_changed
from permeation.meaning.runs import read_last
from permeation.models.families import attention_outputs, attention_views, blocks
from tests.support import tiny

SEQUENCES = [[1, 5, 9, 12, 7], [1, 8, 3, 30, 7], [1, 4, 4, 21, 7]]


@pytest.mark.parametrize("kind", tiny.ALL_CONFIGS)
def test_the_heads_add_up_to_what_attention_writes(kind: str) -> None:
    """Σ_h z_h W_O^h is the projection's output less its bias; times the gain it is what enters the stream."""
    model = tiny.model(kind)
    written: list[torch.Tensor] = []
    places = list(attention_outputs(model))
    for place in places:
        (place.norm or place.projection).register_forward_hook(lambda *call: written.append(call[-1][:, -1]))
    _, z, gain = read_word(model, SEQUENCES)
    written = written[-tiny.LAYERS :]  # the tokens before the word are read first
    for layer, place in enumerate(places):
        bias = getattr(place.projection, "bias", None)
        summed = torch.einsum("phe,hed->pd", z[layer], place.W_O) + (0 if bias is None else bias)
        torch.testing.assert_close(gain[layer] * summed / place.scale, written[layer], atol=1e-5, rtol=1e-4)


def test_z_is_the_pattern_times_the_values(family: str) -> None:
    """Head by head, so that no two heads are mistaken for each other; a key head serves its query heads."""
    model = tiny.model(family)
    read: list[torch.Tensor] = []
    for view in attention_views(model):
        view.projections[0].register_forward_hook(lambda *call: read.append(call[1][0]))
    usual = model.config._attn_implementation
    looks = attention_at_word(model, SEQUENCES)
    assert model.config._attn_implementation == usual
    inputs, (_, found, _) = read[: tiny.LAYERS], read_word(model, SEQUENCES)
    for layer, view in enumerate(attention_views(model)):
        values = torch.einsum("ptd,hde->phte", inputs[layer], view.W_V)
        if view.b_V is not None:
            values += view.b_V[:, None]
        values = values.repeat_interleave(tiny.HEADS // len(view.W_V), dim=1)
        z = torch.einsum("pht,phte->phe", torch.tensor(looks[:, layer]), values)
        torch.testing.assert_close(found[layer], z, atol=1e-5, rtol=1e-4)


def test_a_head_exchanged_with_itself_changes_nothing(family: str) -> None:
    model = tiny.model(family)
    (_, z, _), run = read_word(model, SEQUENCES), read_last(model, SEQUENCES, tiny.HEADS)
    for layer in range(tiny.LAYERS):
        logits = run_changed(model, run, layer, range(tiny.HEADS), z[layer])
        torch.testing.assert_close(logits, run.logits[:, None].expand_as(logits), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", range(tiny.LAYERS))
def test_a_change_is_what_a_hook_on_the_whole_prompt_does(family: str, layer: int) -> None:
    model, new = tiny.model(family), torch.randn(3, 2, tiny.WIDTH // tiny.HEADS)
    found = run_changed(model, read_last(model, SEQUENCES, 2), layer, [1, 3], new)
    plain, projection = model(torch.tensor(SEQUENCES)).logits[:, -1], list(attention_outputs(model))[layer].projection
    for j, head in enumerate((1, 3)):

        def change(_module: Any, inputs: Any, head: int = head, j: int = j) -> torch.Tensor:
            z = inputs[0].clone()
            z.view(3, 5, tiny.HEADS, -1)[:, -1, head] = new[:, j]
            return z

        with projection.register_forward_pre_hook(change):
            whole = model(torch.tensor(SEQUENCES)).logits[:, -1]
        torch.testing.assert_close(found[:, j], whole, atol=1e-4, rtol=1e-4)
        assert (whole - plain).abs().max() > 0.01
    torch.testing.assert_close(model(torch.tensor(SEQUENCES)).logits[:, -1], plain)
    assert all("forward" not in vars(block) for block in blocks(model))


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_direct_writing_adds_up_to_the_step_of_the_stream(kind: str) -> None:
    """Over the heads of a layer: ⟨(what attention adds for A) − (for B), ê⟩ / distance."""
    model = tiny.model(kind)
    written: list[torch.Tensor] = []
    places = list(attention_outputs(model))
    for place in places:
        (place.norm or place.projection).register_forward_hook(lambda *call: written.append(call[-1][:, -1]))
    _, *read = read_word(model, SEQUENCES[:2])
    step = torch.stack(written[-tiny.LAYERS :]).double().numpy()
    direction = np.random.default_rng(0).standard_normal((1, tiny.LAYERS, tiny.WIDTH))
    z, gain = (each.double().numpy().swapaxes(0, 1) for each in read)
    W_O = np.stack([place.W_O.double().numpy() for place in places])
    found = direct_writing(z, gain, W_O, direction, np.full(tiny.LAYERS, 2.0))
    wanted = np.einsum("ld,ld->l", step[:, 0] - step[:, 1], direction[0]) / 2
    np.testing.assert_allclose(found[0].sum(axis=-1), wanted, atol=1e-4)


def test_what_decides_is_what_the_twin_has_not() -> None:
    own, twin = [0, 5, 6, 7, 8, 9], [0, 5, 3, 4, 4, 8, 9]
    assert deciding(own, twin).tolist() == [False, False, True, True, False, False]
    assert not deciding(own, own).any()


def test_where_a_head_looks() -> None:
    """Of six tokens the first is the BOS, the second and third decide and the last is the word."""
    looks = np.array([[[0.5, 0.1, 0.2, 0.0, 0.1, 0.1], [1.0, 0, 0, 0, 0, 0]]])
    shares = attention_shares(looks, [1, 5, 6, 7, 8, 9], [1, 3, 4, 7, 8, 9])
    wanted = {"attention": [0.3, 0], "attention_word": [0.1, 0], "attention_not_bos": [0.5, 0]}
    for name, values in (wanted | {"attention_deciding_rest": [0.6, 0]}).items():
        np.testing.assert_allclose(shares[name], [values])

"""The score metric: moments of the layer inputs, the kernel they define, gauge, and null spectra."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from permeation.models.families import attention_views
from permeation.models.fold import fold_norms
from permeation.weights.forms import circuit_kernel, gram_kernel, score_kernel, written_kernel
from permeation.weights.heads import Heads, gram_form, read_heads, writing_heads
from permeation.weights.inject import injected
from permeation.weights.moments import Moments, collect, symmetric_root, triangular_root
from permeation.weights.pca import fit_pca
from permeation.weights.random_heads import random_gram_kernel, random_heads, random_score_kernel, unit_norm
from tests.support import tiny

WINDOWS = torch.randint(2, 90, (6, 16), generator=torch.Generator().manual_seed(3))


def folded(family: str) -> tuple[object, Heads, Moments]:
    network = tiny.model(family)
    fold_norms(network)
    return network, read_heads(network), collect(network, WINDOWS.split(4))


def inputs(network: object) -> Tensor:
    """What W_Q of each layer reads at every token, (layers, tokens, d_model)."""
    seen: list[Tensor] = []
    handles = [
        layer.norm.register_forward_hook(lambda _m, _i, out: seen.append(out.flatten(0, 1).double()))
        for layer in attention_views(network)
    ]
    network.base_model(WINDOWS)  # type: ignore[attr-defined]
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


def test_streamed_moments_are_those_of_all_tokens_at_once(family: str) -> None:
    network, _, moments = folded(family)
    x = inputs(network)
    tight = {"atol": 1e-6, "rtol": 1e-6}
    assert moments.tokens == WINDOWS.numel()
    torch.testing.assert_close(moments.mean, x.mean(1), **tight)
    torch.testing.assert_close(moments.second, x.mT @ x / x.shape[1], **tight)
    for layer, sample in enumerate(x):
        covariance, a = ledoit_wolf(sample.numpy())
        assert moments.shrinkage[layer].item() == pytest.approx(a, rel=1e-4)
        expected = torch.from_numpy(covariance) + torch.outer(sample.mean(0), sample.mean(0))
        torch.testing.assert_close(moments.shrunk[layer], expected, atol=1e-5, rtol=1e-5)


def test_roots_are_roots() -> None:
    half = torch.randn(3, 5, 9, dtype=torch.float64)
    S = half @ half.mT
    root, F = symmetric_root(S), triangular_root(S)
    torch.testing.assert_close(root, root.mT)
    torch.testing.assert_close(root @ root, S)
    torch.testing.assert_close(F.mT @ F, S)
    assert torch.equal(F, F.triu())


def test_the_score_norm_is_the_mean_squared_score_or_its_variance_over_keys(family: str) -> None:
    """‖A‖² = E (q·k)² over independent queries and keys, biases included; without the mean key, E_q Var_k (q·k)."""
    network, heads, moments = folded(family)
    moments = replace(moments, tokens=torch.tensor(10**12))  # no shrinkage: the identity is exact
    x = inputs(network).float()[:, None]
    q, k = x @ heads.W_Q, x @ heads.W_K.repeat_interleave(heads.W_Q.shape[1] // heads.W_K.shape[1], 1)
    if heads.b_Q is not None and heads.b_K is not None:
        q, k = q + heads.b_Q[:, :, None], k + heads.b_K[:, :, None]
    scores = (q @ k.mT).double()
    expected = scores.square().mean(dim=(2, 3)), scores.var(dim=3, correction=0).mean(dim=2)
    for mean_key, squares in zip((True, False), expected, strict=True):
        kernel = score_kernel(heads, moments, mean_key)
        torch.testing.assert_close(kernel.diagonal(), squares.flatten(), atol=1e-4, rtol=1e-4)


def turned(heads: Heads, pairs: list[tuple[int, int]] | None) -> Heads:
    """Every head's queries and keys turned alike: within pairs of coordinates, or (None) by any orthogonal matrix."""
    d_head = heads.W_Q.shape[-1]
    generator = torch.Generator().manual_seed(1)
    if pairs is None:
        R = torch.linalg.qr(torch.randn(d_head, d_head, generator=generator)).Q
    else:
        R = torch.eye(d_head)
        for i, j in pairs:
            angle = 6 * torch.rand((), generator=generator)
            R[i, i] = R[j, j] = angle.cos()
            R[i, j] = angle.sin()
            R[j, i] = -angle.sin()
    return Heads(*(None if part is None else part @ R for part in (heads.W_Q, heads.W_K, heads.b_Q, heads.b_K)))


def frequency_pairs(family: str, d_head: int) -> list[tuple[int, int]]:
    """The coordinates that rotary positions turn together (GPT-NeoX turns the first quarter only)."""
    turning = {"llama": d_head, "gpt_neox": d_head // 4, "gpt2": 0}[family]
    return [(i, i + turning // 2) for i in range(turning // 2)]


def test_a_rotation_that_leaves_the_model_leaves_circuit_and_score_form_but_not_the_gram_form(family: str) -> None:
    network, heads, moments = folded(family)
    before = network(WINDOWS).logits  # type: ignore[operator]
    pairs = frequency_pairs(family, heads.W_Q.shape[-1]) or None
    same = turned(heads, pairs)
    with injected(network, **same.tensors()):
        torch.testing.assert_close(network(WINDOWS).logits, before, atol=1e-4, rtol=1e-4)  # type: ignore[operator]
    exact = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(circuit_kernel(same), circuit_kernel(heads), **exact)
    torch.testing.assert_close(score_kernel(same, moments), score_kernel(heads, moments), **exact)
    # One rotation for all heads turns all gram forms alike and keeps their inner products; the forms themselves move.
    assert not torch.allclose(gram_form(same), gram_form(heads), atol=1e-2)


def test_written_kernel_is_how_much_heads_write_of_their_input(family: str) -> None:
    """‖S^½ W_OV‖²_F = E ‖W_OVᵀ x‖², with S as it is, not shrunk."""
    network, _, moments = folded(family)
    heads, x = writing_heads(read_heads(network, whole=True)), inputs(network)
    many = replace(moments, tokens=torch.tensor(10**12))
    for head, (W_O, W_V) in enumerate(zip(heads.queries.double(), heads.keys.double(), strict=True)):
        written = x[head // heads.W_Q.shape[1]] @ W_V @ W_O.mT
        expected = written.square().sum(1).mean()
        torch.testing.assert_close(written_kernel(heads, many)[head, head], expected, rtol=1e-3, atol=1e-6)


def test_unit_norm_heads_have_unit_norm() -> None:
    heads = read_heads(tiny.model("llama"))
    flat = torch.nn.functional.normalize(gram_form(heads).flatten(1), dim=1)
    torch.testing.assert_close(unit_norm(gram_kernel(heads)), flat @ flat.T)


def test_random_heads_keep_the_singular_values_and_the_sharing_of_keys() -> None:
    heads = read_heads(tiny.model("llama"))
    generator = torch.Generator().manual_seed(0)
    for own, null in (
        (gram_kernel(heads), random_gram_kernel(heads, generator)),
        (circuit_kernel(heads), circuit_kernel(random_heads(heads, generator))),
    ):
        torch.testing.assert_close(null.diagonal(), own.diagonal(), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(null, own, atol=1e-2)
    # Two query heads of a group read the same span of keys, so they are more alike than heads of different groups.
    alone = Heads(heads.W_Q[:1, :1].repeat(200, 2, 1, 1), heads.W_K[:1, :1].repeat(200, 1, 1, 1))
    kernel = circuit_kernel(random_heads(alone, generator))
    pairs = torch.arange(200) * 2
    assert kernel[pairs, pairs + 1].square().mean() > 2 * kernel[pairs, pairs.roll(1)].square().mean()


@pytest.mark.parametrize("mean_key", [True, False])
def test_random_heads_share_what_their_inputs_share(family: str, mean_key: bool) -> None:
    """With inputs along one direction all W_QK are alike in the score metric, random ones too."""
    _, heads, moments = folded(family)
    generator = torch.Generator().manual_seed(0)
    own = score_kernel(heads, moments, mean_key)
    null = random_score_kernel(heads, moments, own, generator, mean_key)
    torch.testing.assert_close(null.diagonal(), own.diagonal())
    assert not torch.allclose(null, own, atol=1e-2)
    wide = fit_pca(unit_norm(null), center=False).components_for(0.9)
    direction = torch.nn.functional.normalize(torch.randn(tiny.WIDTH, generator=generator).double(), dim=0)
    second = moments.second + 1e6 * direction[:, None] * direction
    narrow = replace(moments, second=second, tokens=torch.tensor(10**12))  # no shrinkage
    null = random_score_kernel(heads, narrow, own, generator, mean_key)
    assert fit_pca(unit_norm(null), center=False).components_for(0.9) < wide / 2


def test_shared_components_exceed_the_null() -> None:
    """Heads mixed from two matrices need two components; the same singular values in random frames need many."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(2, 32, 4, generator=generator), torch.randn(32, 4, generator=generator)
    W_Q = torch.einsum("lhk,kij->lhij", torch.randn(3, 8, 2, generator=generator), basis[0])
    heads = Heads(W_Q, basis[1].expand(3, 8, 32, 4))
    assert fit_pca(circuit_kernel(heads), center=False).components_for(0.999) == 2
    assert fit_pca(circuit_kernel(random_heads(heads, generator)), center=False).components_for(0.999) > 15


def test_real_gpt2_shares_more_than_random_heads_in_circuit_form(gpt2_heads: Heads) -> None:
    """20 / 68 / 94 / 111 components against 34 / 79 / 102 / 115 of random frames with the same singular values."""
    null = fit_pca(circuit_kernel(random_heads(gpt2_heads, torch.Generator().manual_seed(0))), center=True)
    counts = list(null.share_table((0.5, 0.8, 0.9, 0.95)).values())
    np.testing.assert_allclose(counts, [34, 79, 102, 115], atol=1)

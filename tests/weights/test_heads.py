"""The weight axis: identities of W_QK, its kernels, its principal components and its injection."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from permeation.frame.errors import PermeationError
from permeation.models.fold import fold_norms
from permeation.models.load import load_bridge, load_folded
from permeation.weights.cluster import between_clusters, k_means, sharing
from permeation.weights.forms import circuit_kernel, gram_kernel
from permeation.weights.heads import Heads, gram_form, read_heads
from permeation.weights.inject import GramInjection, injected
from permeation.weights.pca import KernelPca, fit_pca
from tests.support import tiny

TOKENS = torch.arange(2, 34).view(2, 16)


def random_heads(layers: int = 3, heads: int = 4, kv_heads: int = 2, d_model: int = 12, d_head: int = 4) -> Heads:
    generator = torch.Generator().manual_seed(0)
    shapes = ((layers, heads, d_model, d_head), (layers, kv_heads, d_model, d_head))
    return Heads(*(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes))


def test_query_heads_pair_with_their_group_of_key_heads() -> None:
    heads = random_heads()
    for i in range(heads.count):
        layer, head = divmod(i, 4)
        torch.testing.assert_close(heads.keys[i], heads.W_K[layer, head // 2])
        torch.testing.assert_close(gram_form(heads)[i], heads.W_Q[layer, head].T @ heads.W_K[layer, head // 2])


def test_the_circuit_kernel_is_the_inner_product_of_the_matrices_it_never_forms() -> None:
    heads = random_heads()
    circuit = (heads.queries @ heads.keys.mT).flatten(1)
    torch.testing.assert_close(circuit_kernel(heads), circuit @ circuit.T)


@pytest.mark.parametrize("center", [True, False])
def test_kernel_pca_is_sklearns_pca(center: bool) -> None:
    heads = random_heads()
    flat = gram_form(heads).flatten(1)
    pca = fit_pca(gram_kernel(heads), center)
    if center:
        reference = PCA().fit(flat.numpy())
        np.testing.assert_allclose(
            pca.explained_variance_ratio[:11], reference.explained_variance_ratio_[:11], atol=1e-12
        )
        for k in (1, 3, 7):
            kept = PCA(k).fit(flat.numpy())
            rebuilt = kept.inverse_transform(kept.transform(flat.numpy()))
            np.testing.assert_allclose(pca.mixing(k) @ flat, rebuilt, atol=1e-10)
    else:
        U, S, Vh = torch.linalg.svd(flat, full_matrices=False)
        torch.testing.assert_close(pca.eigenvalues, S**2)
        torch.testing.assert_close(pca.mixing(3) @ flat, U[:, :3] * S[:3] @ Vh[:3])
    torch.testing.assert_close(pca.mixing(pca.count), torch.eye(pca.count, dtype=torch.float64))
    torch.testing.assert_close(torch.cdist(pca.coefficients, pca.coefficients), torch.cdist(flat, flat))


def test_a_k_list_takes_counts_shares_and_all() -> None:
    pca = KernelPca(torch.tensor([5.0, 3.0, 1.0, 1.0]).double(), torch.eye(4).double(), centred=False)
    assert pca.share_table((0.5, 0.8, 0.81, 0.99)) == {"50": 1, "80": 2, "81": 3, "99": 4}
    assert [pca.number_of(asked) for asked in (1, 4, 5, "50%", "80%", "81%", "all")] == [1, 4, None, 1, 2, 3, 4]
    alike = KernelPca(torch.zeros(4).double(), torch.eye(4).double(), centred=True)
    assert alike.share_table((0.5, 0.99)) == {"50": 0, "99": 0}
    assert not alike.explained_variance_ratio.any()


@pytest.mark.parametrize("center", [True, False])
def test_bands_are_what_the_components_before_and_behind_leave(center: bool) -> None:
    pca = fit_pca(gram_kernel(random_heads()), center)
    bands = pca.bands(3)
    assert [i for band in bands for i in band] == list(range(12 - center))
    M = gram_form(random_heads()).flatten(1)
    without = [M - pca.mixing_without(band) @ M for band in bands]
    torch.testing.assert_close(sum(without), M - M.mean(dim=0) if center else M)
    torch.testing.assert_close(without[0], pca.mixing(len(bands[0])) @ M - (M.mean(dim=0) if center else 0))


def test_heads_planted_in_two_dimensions_need_two_components() -> None:
    basis = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    W_K = torch.linalg.qr(random_heads(kv_heads=4).W_K).Q  # W_Kᵀ W_K = 1, so that W_Q = W_K Mᵀ has the gram form M
    M = torch.einsum("lhk,kij->lhij", torch.randn(3, 4, 2, dtype=torch.float64), basis)
    pca = fit_pca(gram_kernel(Heads(W_K @ M.mT, W_K)), center=False)
    assert pca.components_for(1 - 1e-9) == 2


def test_injection_gives_the_wanted_gram_form_and_leaves_the_rest() -> None:
    heads = random_heads()
    injection = GramInjection.fit(heads)
    target = torch.randn_like(gram_form(heads))
    W_Q = injection.queries_for(target)
    torch.testing.assert_close(gram_form(Heads(W_Q, heads.W_K)), target)
    outside = torch.eye(12, dtype=torch.float64) - heads.keys @ torch.linalg.pinv(heads.keys)
    torch.testing.assert_close(outside @ W_Q.flatten(0, 1), outside @ heads.queries)
    torch.testing.assert_close(injection.queries_for(injection.own), heads.W_Q)


def test_a_key_matrix_of_lower_rank_is_named() -> None:
    heads = random_heads()
    heads.W_K[1, 0, :, 3] = heads.W_K[1, 0, :, 2]
    with pytest.raises(PermeationError, match=r"W_K of key head 1\.0 has linearly dependent columns"):
        GramInjection.fit(heads)


def test_injection_changes_the_logits_and_is_undone_however_it_ends(family: str) -> None:
    network = tiny.model(family)
    fold_norms(network)
    before = network.requires_grad_()(TOKENS).logits
    injection = GramInjection.fit(read_heads(network))
    pca = fit_pca(gram_kernel(injection.heads), center=True)
    with pytest.raises(KeyboardInterrupt), injected(network, W_Q=injection.mixed(pca.mixing(1))):
        assert not torch.allclose(network(TOKENS).logits, before, atol=1e-2)
        raise KeyboardInterrupt
    assert torch.equal(network(TOKENS).logits, before)
    with injected(network, W_Q=injection.mixed(pca.mixing(pca.count))):
        torch.testing.assert_close(network(TOKENS).logits, before, atol=1e-5, rtol=1e-5)


def test_any_part_can_be_replaced(family: str) -> None:
    network = tiny.model(family)
    before, heads = network(TOKENS).logits, read_heads(network).tensors()
    with injected(network, **heads):
        assert torch.equal(network(TOKENS).logits, before)
    for name, own in heads.items():
        with injected(network, **{name: torch.randn_like(own)}):
            changed = not torch.allclose(network(TOKENS).logits, before, atol=1e-3)
            # Without rotation a key bias adds the same to all scores of a query, which the softmax takes out again.
            assert changed != (family == "gpt2" and name == "b_K")
            assert not torch.equal(read_heads(network).tensors()[name], own)
        assert torch.equal(network(TOKENS).logits, before)


def test_a_bridge_sees_the_injected_heads(checkpoint: Path) -> None:
    """The same W_Q written into a TransformerBridge changes its logits by as much."""
    plain = load_folded(checkpoint, fold_norm=True, device=torch.device("cpu"))
    injection = GramInjection.fit(read_heads(plain))
    W_Q = injection.mixed(fit_pca(gram_kernel(injection.heads), center=True).mixing(2)).float()
    bridge: Any = load_bridge(checkpoint, torch.device("cpu"))
    bridge.enable_compatibility_mode(disable_warnings=True)
    with torch.no_grad():
        for block, new in zip(bridge.blocks, W_Q, strict=True):
            for head, weight in enumerate(new):
                block.attn.W_Q[head] = weight
        theirs = bridge(TOKENS, return_type="logits").log_softmax(-1)
    with injected(plain, W_Q=W_Q):
        torch.testing.assert_close(plain(TOKENS).logits.log_softmax(-1), theirs, atol=1e-4, rtol=1e-4)


def test_clusters_share_their_mean() -> None:
    heads = random_heads()
    pca = fit_pca(gram_kernel(heads), center=True)
    labels = k_means(pca.coefficients.numpy(), 3, seed=0)
    M = gram_form(heads).flatten(1)
    for label in range(3):
        members = M[labels == label]
        torch.testing.assert_close((sharing(labels) @ M)[labels == label], members.mean(dim=0).expand_as(members))


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_heads_that_are_alike_are_one_cluster() -> None:
    assert k_means(np.ones((5, 2)), 3, seed=0).tolist() == [0] * 5
    assert between_clusters(fit_pca(torch.ones(5, 5).double(), True), 3, seed=0) == 0


def test_the_variance_between_clusters_is_what_their_means_hold() -> None:
    pca = fit_pca(gram_kernel(random_heads()), center=True)
    C = pca.coefficients.numpy()
    fitted = KMeans(n_clusters=3, n_init=10, random_state=0).fit(C)
    assert between_clusters(pca, 3, seed=0) == pytest.approx(1 - fitted.inertia_ / (C**2).sum())
    assert between_clusters(pca, pca.count, seed=0) == pytest.approx(1)


def test_real_gpt2_needs_the_published_number_of_components_in_gram_form(gpt2_heads: Heads) -> None:
    shares, gram, circuit = (0.5, 0.8, 0.9, 0.95), gram_kernel(gpt2_heads), circuit_kernel(gpt2_heads)
    assert list(fit_pca(gram, center=True).share_table(shares).values()) == [9, 54, 82, 103]
    assert list(fit_pca(circuit, center=True).share_table(shares).values()) == [20, 68, 94, 111]


def test_signs_of_components_and_numbers_of_clusters_are_not_left_to_chance() -> None:
    pca = fit_pca(gram_kernel(random_heads()), center=True)
    largest = pca.vectors.gather(0, pca.vectors.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    labels = k_means(pca.coefficients.numpy(), 4, seed=0)
    assert list(dict.fromkeys(labels.tolist())) == [0, 1, 2, 3]

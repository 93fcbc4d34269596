"""The rivals: full size gives the model back, storage follows the formulas, and each is best at what it minimises."""

from dataclasses import replace
from typing import Any

import pytest
import scipy.linalg
import torch
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.models.fold import fold_norms
from permeation.rivals import blocks
from permeation.rivals.base import Problem, original_parameters, size_within, sizes_near
from permeation.rivals.low_rank import LayerSubspace, low_rank_parameters
from permeation.rivals.mixing import GramMixing
from permeation.rivals.quantised import Integers
from permeation.rivals.registry import LONG, METHODS
from permeation.rivals.rounded import RoundedFactors
from permeation.weights.heads import Heads, gram_form, read_heads
from permeation.weights.inject import injected
from permeation.weights.moments import collect
from tests.support import tiny

FAMILIES = ("gpt2", "llama", "gpt_neox", "qwen3")  # biases; grouped queries; partly rotated; norms of q and k
WINDOWS = torch.randint(2, 90, (6, 16), generator=torch.Generator().manual_seed(3))
# Largest errors of logits at the largest size of methods that round.
LOSSY = {"gguf_q8_0": 0.5} | {name: 0.5 for name in LONG if name.startswith("int")}
LOSSY |= {name: 4.0 for name in LONG if name.startswith(("gguf_q4", "gguf_q5"))}  # their only size is 4 or 5 bits
LOSSY |= {name: 2.0 for name in LONG if name.endswith("bit")}
BIASED = 3 * (4 + 4) * 8  # b_Q and b_K of the small GPT-2 and GPT-NeoX

Posed = dict[str, tuple[Any, Problem]]


def pose(network: Any) -> Problem:
    fold_norms(network)
    return Problem(read_heads(network).to(torch.float64), collect(network, [WINDOWS]), seed=0)


@pytest.fixture(scope="module")
def problems() -> Posed:
    networks = {family: tiny.model(family) for family in FAMILIES}
    return {family: (network, pose(network)) for family, network in networks.items()}


def error_of_logits(network: Any, heads: Heads) -> float:
    before = network(WINDOWS).logits
    with injected(network, **heads.tensors()):
        return float((network(WINDOWS).logits - before).abs().max())


def inputs_error(problem: Problem, changed: Heads) -> float:
    """Σ E ‖(Ŵ − W)ᵀ x‖² over queries and keys."""
    root = torch.linalg.cholesky(problem.moments.shrunk).mT[:, None]
    sides = ((changed.W_Q, problem.heads.W_Q), (changed.W_K, problem.heads.W_K))
    return float(sum((root @ (new - old)).square().sum() for new, old in sides))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [name for name in LONG if not name.startswith("nf4")])
def test_full_size_gives_the_model_back_and_storage_never_falls(problems: Posed, name: str, family: str) -> None:
    network, problem = problems[family]
    rival = METHODS[name].fit(problem)
    sizes = range(rival.smallest, rival.largest + 1)
    bits = [rival.stored_bits(size) for size in sizes]
    assert bits == sorted(bits)
    errors = [error_of_logits(network, rival.apply(size)) for size in (sizes[0], sizes[-1])]
    if name in LOSSY:
        assert 1e-6 < errors[1] < LOSSY[name]
    else:
        assert errors[1] < 2e-4
    assert len(sizes) == 1 or errors[0] > max(1e-2, errors[1])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_rounded_factors_are_stored_as_counted(problems: Posed, family: str) -> None:
    network, problem = problems[family]
    fine, coarse = (RoundedFactors.fit(problem, bits) for bits in (16, 4))
    errors = [error_of_logits(network, rounded.apply(rounded.largest)) for rounded in (fine, coarse)]
    assert errors[0] < 0.1
    assert errors[1] > 20 * errors[0]
    half, biases = coarse.largest // 2, 0 if problem.heads.b_Q is None else BIASED
    factors = [codes for layer in coarse.stored(half) for codes in (layer.P, layer.B) if codes is not None]
    numbers, columns = sum(codes.q.numel() for codes in factors), sum(codes.scale.numel() for codes in factors)
    assert coarse.stored_bits(half) == 4 * numbers + 16 * (columns + biases)


def test_a_matrix_of_rank_r_is_held_by_as_many_numbers_as_are_counted() -> None:
    generator = torch.Generator().manual_seed(0)
    W = (torch.randn(9, 4, generator=generator) @ torch.randn(4, 7, generator=generator)).double().numpy()
    order = scipy.linalg.qr(W.T, pivoting=True)[2]
    kept, others = sorted(order[:4]), sorted(order[4:])
    T = scipy.linalg.lstsq(W[kept].T, W[others].T)[0].T
    rebuilt = W.copy()
    rebuilt[others] = T @ W[kept]
    torch.testing.assert_close(torch.from_numpy(rebuilt), torch.from_numpy(W), atol=1e-6, rtol=1e-6)
    assert low_rank_parameters(9, 7, 4) == W[kept].size + T.size + len(kept)
    assert low_rank_parameters(9, 7, 7) == 9 * 7


def test_storage_is_counted_by_the_formulas(problems: Posed) -> None:
    """Small Llama: 3 layers, 4 query and 2 key heads, d_model 32, d_head 8. Small GPT-2: 4 key heads, and biases."""
    llama, gpt2 = problems["llama"][1], problems["gpt2"][1]
    assert original_parameters(llama.heads) == 3 * 6 * 32 * 8
    assert original_parameters(gpt2.heads) == 3 * 8 * 32 * 8 + BIASED
    keys, columns = 3 * 2 * 32 * 8, 3 * 6 * 8
    numbers = {
        ("pca_gram", 2): keys + 12 * (32 - 8) * 8 + 3 * 64 + 12 * 2,
        ("random_components", 2): keys + 12 * (32 - 8) * 8 + 3 * 64 + 12 * 2,
        ("matrix_atoms", 2): 2 * (6 * 32 * 8 + 2 * 3),
        ("layer_subspace_random", 20): 3 * (20 * (32 + 48 - 20) + 12),
    }
    weights = 3 * 6 * 32 * 8
    bits = {key: 16 * count for key, count in numbers.items()} | {
        ("int_column", 4): 4 * weights + 16 * columns,
        ("int_rows", 4): 4 * weights + 16 * (columns + 3 * 32),
        ("int_g64_offset_rotated", 3): 3 * weights + 2 * 16 * columns,
        ("int_g64_offset_awq", 3): 3 * weights + 16 * (2 * columns + 3 * 32),
        ("gguf_q4_0", 4): weights // 32 * 8 * (16 + 2),
        ("gguf_q4_1_rows", 4): weights // 32 * 8 * (16 + 2 + 2) + 16 * 3 * 32,
        ("gguf_q5_1", 5): weights // 32 * 8 * (20 + 2 + 2),
        ("gguf_q8_0", 8): weights // 32 * 8 * (32 + 2),
        ("int3_residual", 5): 3 * weights + 16 * (columns + 3 * 32) + 3 * (8 * 5 * (32 + 48) + 16 * 2 * 5),
        ("layer_subspace_score_6bit", 5): 3 * (6 * 5 * (32 + 48) + 16 * 2 * 5),
    }
    for (name, size), count in bits.items():
        assert METHODS[name].fit(llama).stored_bits(size) == count, name
    # Biases are kept and counted.
    assert METHODS["int_column"].fit(gpt2).stored_bits(4) == 4 * 3 * 8 * 32 * 8 + 16 * (3 * 8 * 8 + BIASED)


def test_break_even_points(problems: Posed) -> None:
    """The size from which on storing the rival costs more than storing the weights."""
    for _, problem in problems.values():
        n, _, e = problem.heads.queries.shape
        budget = 16 * original_parameters(problem.heads)
        gram = GramMixing.fit(problem)
        assert size_within(gram, budget) == int((n - 1) * e * e / (e * e + n))
        assert size_within(gram, gram.stored_bits(0) - 1) is None
        full = LayerSubspace.fit(problem)
        assert size_within(full, budget) == full.largest
        assert full.stored_bits(full.largest) == budget


def test_the_sizes_nearest_to_a_budget_are_taken() -> None:
    class Steps:
        smallest, largest = 2, 6

        def stored_bits(self, size: int) -> int:
            return 10 * size

        def apply(self, size: int) -> Heads:
            raise NotImplementedError

    assert sizes_near(Steps(), [1.0, 24.0, 25.0, 26.0, 90.0]) == [2, 3, 6]


def test_the_score_metric_finds_the_best_subspace_for_its_inputs(problems: Posed) -> None:
    """Eckart and Young: the first r singular directions leave the squares of the others."""
    problem = problems["gpt2"][1]
    rivals = {metric: LayerSubspace.fit(problem, metric) for metric in ("score", "random")}
    W = torch.cat([problem.heads.W_Q, problem.heads.W_K], dim=1).movedim(1, 2).flatten(2)
    S = torch.linalg.svdvals(torch.linalg.cholesky(problem.moments.shrunk).mT @ W)
    error = {metric: inputs_error(problem, rival.apply(16)) for metric, rival in rivals.items()}
    assert error["score"] == pytest.approx(float(S[:, 16:].square().sum()))
    assert error["score"] < error["random"]


def test_a_planted_subspace_is_found(problems: Posed) -> None:
    problem = problems["llama"][1]
    generator = torch.Generator().manual_seed(0)
    P = torch.randn(32, 5, dtype=torch.float64, generator=generator)
    W_Q, W_K = (P @ torch.randn(3, heads, 5, 8, dtype=torch.float64, generator=generator) for heads in (4, 2))
    problem = replace(problem, heads=Heads(W_Q, W_K))
    rival = LayerSubspace.fit(problem)
    torch.testing.assert_close(rival.apply(5).W_Q, W_Q)
    assert not torch.allclose(rival.apply(4).W_Q, W_Q, atol=1e-2)


def test_no_component_leaves_the_mean_head_and_random_ones_less_than_their_own(problems: Posed) -> None:
    problem = problems["llama"][1]
    own, random = (GramMixing.fit(problem, kind) for kind in ("components", "random"))
    M, found = gram_form(problem.heads), gram_form(own.apply(0))
    torch.testing.assert_close(found, M.mean(0).expand(12, -1, -1))
    torch.testing.assert_close(gram_form(random.apply(0)), found)
    losses = [float((gram_form(rival.apply(4)) - M).square().sum()) for rival in (own, random)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("name", ["int_rows", "int_g64_offset_rows", "int_g64_offset_rows_rotated"])
def test_a_coordinate_that_nothing_reads_stays_0(problems: Posed, name: str) -> None:
    problem = problems["llama"][1]
    W_Q, W_K = problem.heads.W_Q.clone(), problem.heads.W_K.clone()
    W_Q[1, :, 5] = W_K[1, :, 5] = 0
    back = METHODS[name].fit(replace(problem, heads=Heads(W_Q, W_K))).apply(4)
    assert torch.isfinite(back.W_Q).all()
    assert (back.W_Q[1, :, 5] == 0).all()
    assert (back.W_K[1, :, 5] == 0).all()


def test_a_rotation_takes_away_what_a_grid_of_the_weights_own_gives(problems: Posed) -> None:
    """Weights that were rounded to 4 bits before are rounded again without loss, but not in other coordinates."""
    problem = problems["llama"][1]
    plain: dict[str, Any] = {"group": 64, "offset": True}
    once = Integers.fit(problem, **plain).apply(4)
    again = replace(problem, heads=once)

    def error(given: Problem, **options: Any) -> Tensor:
        back = Integers.fit(given, **options, **plain).apply(4)
        return (back.W_Q - given.heads.W_Q).norm() / given.heads.W_Q.norm()

    assert error(again) < 0.2 * error(problem)
    assert error(again, way="rotated") > 0.7 * error(problem)
    assert error(problem, way="rotated") == pytest.approx(float(error(problem)), rel=0.3)


def test_scales_by_the_inputs_lose_less_of_what_large_inputs_give(problems: Posed) -> None:
    """Without a scale AWQ is plain rounding, so that it never loses more; with one large input it loses far less."""
    problem = problems["llama"][1]
    second = problem.moments.second.clone()
    second[:, 3, 3] *= 1e4
    uneven = replace(problem, moments=replace(problem.moments, second=second, tokens=torch.tensor(10**12)))
    for given, part in ((problem, 1.0), (uneven, 0.5)):
        plain, scaled = (
            inputs_error(given, METHODS[f"int_g64_offset{end}"].fit(given).apply(3)) for end in ("", "_awq")
        )
        assert scaled <= part * plain


def test_layers_mixed_from_two_matrices_come_back_from_two_atoms(problems: Posed) -> None:
    heads, generator = problems["llama"][1].heads, torch.Generator().manual_seed(0)
    mixed = (
        torch.einsum("lk,k...->l...", torch.randn(3, 2, generator=generator).double(), W[:2])
        for W in (heads.W_Q, heads.W_K)
    )
    planted = replace(problems["llama"][1], heads=Heads(*mixed))
    rival = METHODS["matrix_atoms"].fit(planted)
    torch.testing.assert_close(rival.apply(2).W_K, planted.heads.W_K)
    assert (rival.apply(1).W_Q - planted.heads.W_Q).norm() > 0.1 * planted.heads.W_Q.norm()


def test_nf4_is_bitsandbytes_own(problems: Posed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 along the input: 16 values times the largest of a block, in 4.5 bits."""
    generator = torch.Generator().manual_seed(0)
    heads = Heads(*(torch.randn(1, 2, 64, 8, generator=generator) for _ in "QK"))
    problem = replace(problems["llama"][1], heads=heads)
    with monkeypatch.context() as without:
        without.setattr(blocks, "find_spec", lambda _: None)
        with pytest.raises(PermeationError, match="nf4 needs the package bitsandbytes"):
            METHODS["nf4"].fit(problem)
    pytest.importorskip("bitsandbytes")
    rival = METHODS["nf4"].fit(problem)
    back = rival.apply(4).W_Q
    assert rival.stored_bits(4) == 4.5 * 2 * heads.W_Q.numel()
    assert max(len(column.unique()) for column in back.mT.flatten(0, 2)) <= 16
    torch.testing.assert_close(back.abs().amax(2), heads.W_Q.abs().amax(2))


def test_blocks_of_llama_cpp_are_within_half_a_step_along_the_input(problems: Posed) -> None:
    """Q4_1: s = (max − min) / 15 of 32 numbers of a column, as float16."""
    heads = problems["llama"][1].heads
    back = METHODS["gguf_q4_1"].fit(problems["llama"][1]).apply(4)
    step = (heads.W_Q.amax(2, keepdim=True) - heads.W_Q.amin(2, keepdim=True)) / 15
    assert ((back.W_Q - heads.W_Q).abs() <= 0.51 * step + 1e-3).all()
    assert max(len(column.unique()) for column in back.W_K.mT.flatten(0, 2)) <= 16


def test_blocks_of_llama_cpp_need_whole_blocks(problems: Posed) -> None:
    problem = problems["llama"][1]
    heads = Heads(problem.heads.W_Q[:, :, :24], problem.heads.W_K[:, :, :24])
    with pytest.raises(PermeationError, match="blocks of 32, and d_model is 24"):
        METHODS["gguf_q4_0"].fit(replace(problem, heads=heads))

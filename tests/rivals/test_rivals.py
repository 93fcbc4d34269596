"""The rivals: full size gives the model back, storage is what the formulas say, and each does what it is named for."""

from dataclasses import replace
from functools import partial

import pytest
import scipy.linalg
import torch
from torch import Tensor

from permeation.frame.errors import PermeationError
from permeation.models.families import geometry_of
from permeation.models.fold import fold_norms
from permeation.rivals.base import Problem, low_rank_parameters, original_parameters, pairs_of, size_within, sizes_near
from permeation.rivals.form_error import RelativeErrors
from permeation.rivals.low_rank import HeadRanks, LayerSubspace, SharedSubspace
from permeation.rivals.mixing import CircuitMixing, GramComponents
from permeation.rivals.registry import FACTORED, METHODS, ROUNDED
from permeation.rivals.rotary_pairs import RotaryPairs
from permeation.rivals.rounded import RoundedFactors
from permeation.rivals.tucker import Tucker
from permeation.weights.forms import circuit_kernel, whitened
from permeation.weights.heads import Heads, gram_form, read_heads
from permeation.weights.inject import injected
from permeation.weights.moments import collect
from tests.support import tiny

FAMILIES = ("gpt2", "llama", "gpt_neox", "qwen3")  # biases; grouped queries; partly rotated; norms of q and k
WINDOWS = torch.randint(2, 90, (6, 16), generator=torch.Generator().manual_seed(3))
# Largest errors of logits at the largest size of those that do not give the model back: of 8-bit numbers.
LOSSY = {"mean": 100.0} | {name: 0.5 for name in METHODS if name.startswith("int")}
PLAIN = [name for name, method in METHODS.items() if method.place != ROUNDED]
WITH_FACTORS = [name for name, method in METHODS.items() if method.place in FACTORED]
REFUSAL = "this model( rotates queries and keys by position: an SVD of W_Q|'s positions rotate no coordinates)"
BIASED = 3 * (4 + 4) * 8  # b_Q and b_K of the small GPT-2 and GPT-NeoX


def pose(network: object) -> Problem:
    fold_norms(network)
    heads = Heads(*(None if part is None else part.double() for part in vars(read_heads(network)).values()))
    moments = collect(network, WINDOWS, 6, lambda _: None)
    sizes = geometry_of(network)
    pairs = pairs_of(sizes.d_head, sizes.rotated, sizes.interleaved) if sizes.rotary else None
    return Problem(heads, moments, pairs, seed=0)


@pytest.fixture(scope="module")
def problems() -> dict[str, tuple[object, Problem]]:
    networks = {family: tiny.model(family) for family in FAMILIES}
    return {family: (network, pose(network)) for family, network in networks.items()}


def test_a_circuit_without_biases_comes_back_too(problems: dict[str, tuple[object, Problem]]) -> None:
    _, problem = problems["gpt2"]
    heads = Heads(problem.heads.W_Q, problem.heads.W_K)
    rival = METHODS["circuit_svd_score"].fit(replace(problem, heads=heads))
    back = rival.apply(rival.largest)
    torch.testing.assert_close(back.queries @ back.keys.mT, heads.queries @ heads.keys.mT)
    assert back.b_Q is None


@pytest.mark.parametrize("name", ["int_rows", "int_g64_offset_rows"])
def test_a_coordinate_that_nothing_reads_stays_0(problems: dict[str, tuple[object, Problem]], name: str) -> None:
    _, problem = problems["llama"]
    W_Q, W_K = problem.heads.W_Q.clone(), problem.heads.W_K.clone()
    W_Q[1, :, 5] = W_K[1, :, 5] = 0
    back = METHODS[name].fit(replace(problem, heads=Heads(W_Q, W_K))).apply(4)
    assert torch.isfinite(back.W_Q).all()
    assert (back.W_Q[1, :, 5] == 0).all()
    assert (back.W_K[1, :, 5] == 0).all()


def fits(name: str, problem: Problem) -> bool:
    """Whether the model allows the method; where it does not, that it says so."""
    pairs, circuit = (METHODS[name].place.startswith(place) for place in ("rotary_pairs", "circuit_svd"))
    if (problem.pairs is None and not pairs) or (problem.pairs is not None and not circuit):
        return True
    with pytest.raises(PermeationError, match=REFUSAL):
        METHODS[name].fit(problem)
    return False


def error_of_logits(network: object, heads: Heads) -> float:
    before = network(WINDOWS).logits  # type: ignore[operator]
    with injected(network, **heads.tensors()):
        return float((network(WINDOWS).logits - before).abs().max())  # type: ignore[operator]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PLAIN)
def test_full_size_gives_the_model_back_and_smaller_ones_are_smaller(
    problems: dict[str, tuple[object, Problem]], name: str, family: str
) -> None:
    network, problem = problems[family]
    if not fits(name, problem):
        return
    rival = METHODS[name].fit(problem)
    sizes = range(rival.smallest, rival.largest + 1)
    bits = [rival.stored_bits(size) for size in sizes]
    assert bits == sorted(bits)
    errors = [error_of_logits(network, rival.apply(size)) for size in (sizes[0], sizes[len(sizes) // 2], sizes[-1])]
    if name in LOSSY:
        assert 1e-6 < errors[-1] < LOSSY[name]
    else:
        assert errors[-1] < 2e-4
    assert len(sizes) == 1 or errors[0] > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", WITH_FACTORS)
def test_rounded_factors_at_full_size_give_the_model_back_and_cost_what_is_rounded(
    problems: dict[str, tuple[object, Problem]], name: str, family: str
) -> None:
    network, problem = problems[family]
    if not fits(name, problem):
        return
    fine, coarse = (RoundedFactors.fit(problem, name, bits) for bits in (16, 4))
    errors = [error_of_logits(network, rounded.apply(rounded.largest)) for rounded in (fine, coarse)]
    assert errors[0] < 0.1
    assert errors[1] > 20 * errors[0]
    rival = METHODS[name].fit(problem)
    half = rival.largest // 2
    each = rival.factors(half)  # type: ignore[attr-defined]
    factors = [torch.cat(parts) for parts in zip(*each, strict=True)]
    columns = sum(int((factor != 0).any(dim=-2).sum()) for factor in factors)
    kept = [factor.shape[-2] * int((factor != 0).any(dim=-2).sum()) for factor in factors]
    numbers, scales = rival.factor_sizes(half)  # type: ignore[attr-defined]
    if isinstance(rival, SharedSubspace):  # a group's P stands once for each of its layers
        spare = len(problem.heads.W_Q) - len(rival.P)
        columns, kept[0] = columns - spare * half, kept[0] - spare * half * rival.P.shape[1]
    if isinstance(rival, Tucker):  # of the core only the kept ranks are stored, not whole columns
        kept[-1] = int((factors[-1] != 0).sum())
    assert (numbers, scales) == (sum(kept), columns)
    extra = (0 if problem.heads.b_Q is None else BIASED) + rival.rank_numbers  # type: ignore[attr-defined]
    assert coarse.stored_bits(half) == 4 * numbers + 16 * (scales + extra)


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


def test_storage_is_counted_by_the_formulas(problems: dict[str, tuple[object, Problem]]) -> None:
    """Small Llama: 3 layers, 4 query and 2 key heads, d_model 32, d_head 8. Small GPT-2: 4 key heads, and biases."""
    llama, gpt2 = problems["llama"][1], problems["gpt2"][1]
    assert original_parameters(llama.heads) == 3 * 6 * 32 * 8
    assert original_parameters(gpt2.heads) == 3 * 8 * 32 * 8 + BIASED
    keys = 3 * 2 * 32 * 8
    expected = {
        ("pca_gram", 2): keys + 12 * (32 - 8) * 8 + 3 * 64 + 12 * 2,
        ("pca_circuit", 2): keys + 3 * 32 * 32 + 12 * 2,
        ("pca_score", 2): keys + 3 * 32 * 32 + 12 * 2,
        ("random_components", 2): keys + 3 * 32 * 32 + 12 * 2,
        ("mean", 0): keys + 32 * 32,
        ("kmeans_centroid", 2): keys + 2 * 32 * 32 + 12,
        ("kmeans_medoid", 2): keys + 2 * 32 * 8 + 12,
        ("svd_plain", 3): 18 * (3 * (32 + 8 - 3) + 3),
        ("svd_plain_greedy", 144): 18 * (32 * 8 + 1),
        ("layer_subspace_score", 20): 3 * (20 * (32 + 48 - 20) + 12),
        ("model_subspace_plain", 20): 20 * 12 + 12 + 3 * 20 * 48,
        ("tucker_model_plain", 18 + 32 + 8): 3 * 6 * 32 * 8,
        ("tucker_layer_plain", 9): 3 * (1 + 5 + 1 + 31 + 1 + 7 + 1),
        ("layer_ranks_score", 96): 3 * 32 * 48 + 3,
        ("subspace_of_2_score", 20): 2 * (20 * 12 + 12) + 3 * 20 * 48,
        ("pca_gram_first_kept", 2): keys + 12 * (32 - 8) * 8 + 3 * 64 + 8 * 2 + 4 * 64,
        ("rotary_pairs", 3): 6 * 3 * (2 * 3 * 32 + 1),
        ("rotary_pairs", 4): 3 * 6 * 32 * 8,
        ("rotary_pairs_greedy", 7): 7 * (2 * 3 * 32 + 1),
    }
    for (name, size), numbers in expected.items():
        assert METHODS[name].fit(llama).stored_bits(size) == 16 * numbers, name
    weights, columns = 3 * 6 * 32 * 8, 3 * 6 * 8
    in_bits = {
        ("int_column", 4): 4 * weights + 16 * columns,
        ("int_rows", 4): 4 * weights + 16 * (columns + 3 * 32),
        ("int_g64", 3): 3 * weights + 16 * columns,
        ("int_g32_offset", 3): 3 * weights + 2 * 16 * columns,
        ("int3_residual", 5): 3 * weights + 16 * (columns + 3 * 32) + 3 * (8 * 5 * (32 + 48) + 16 * 2 * 5),
        ("layer_subspace_score_6bit", 5): 3 * (6 * 5 * (32 + 48) + 16 * 2 * 5),
    }
    for (name, size), bits in in_bits.items():
        assert METHODS[name].fit(llama).stored_bits(size) == bits, name
    # Biases: kept and counted, or rows of what is decomposed.
    biased = {
        ("svd_plain", 8): 16 * original_parameters(gpt2.heads),
        ("circuit_svd_score", 3): 16 * 12 * (3 * (33 + 33 - 3) + 3),
        ("int_column", 4): 4 * 3 * 8 * 32 * 8 + 16 * (3 * 8 * 8 + BIASED),
    }
    for (name, size), bits in biased.items():
        assert METHODS[name].fit(gpt2).stored_bits(size) == bits, name
    half = BIASED // 2
    assert METHODS["pca_score"].fit(gpt2).stored_bits(0) == 16 * (3 * 4 * 32 * 8 + half + 33 * 33)
    assert METHODS["pca_circuit"].fit(gpt2).stored_bits(0) == 16 * (3 * 4 * 32 * 8 + 2 * half + 32 * 32)


def test_break_even_points(problems: dict[str, tuple[object, Problem]]) -> None:
    """Where storing the rival starts to cost more than storing the weights."""
    for _, problem in problems.values():
        heads = problem.heads
        n, d, e = heads.queries.shape
        budget = 16 * original_parameters(heads)
        gram = GramComponents.fit(problem)
        assert size_within(gram, budget) == int((n - 1) * e * e / (e * e + n))
        circuit = CircuitMixing.fit(problem, "components")
        assert size_within(circuit, budget) == int((n * d * e - d * d) / (d * d + n))
        for full in (
            HeadRanks.fit(problem, "plain", False),
            LayerSubspace.fit(problem, "score"),
            SharedSubspace.fit(problem, "score"),
            Tucker.fit(problem, "layer", "plain"),
        ):
            assert size_within(full, budget) == full.largest
            assert full.stored_bits(full.largest) == budget
    assert size_within(gram, gram.stored_bits(0) - 1) is None


def test_gauge_freedom_is_what_the_circuit_svd_saves_at_full_rank(problems: dict[str, tuple[object, Problem]]) -> None:
    problem = problems["gpt2"][1]
    saved = original_parameters(problem.heads) - METHODS["circuit_svd_plain"].fit(problem).stored_bits(8) / 16
    assert saved == 12 * (8 * 8 - 8)


@pytest.mark.parametrize(("plain", "score", "form"), [
    ("circuit_svd_plain", "circuit_svd_score", "all"),
    ("svd_plain", "svd_score", "inputs"),
    ("svd_plain_greedy", "svd_score_greedy", "inputs"),
    ("layer_subspace_plain", "layer_subspace_score", "inputs"),
    ("layer_subspace_random", "layer_subspace_plain", "weights"),
])  # fmt: skip
def test_each_is_best_in_its_own_metric(
    problems: dict[str, tuple[object, Problem]], plain: str, score: str, form: str
) -> None:
    """The one named second has the smaller error in the metric that it minimises, at the same size."""
    problem = problems["gpt2"][1]
    root = torch.linalg.cholesky(problem.moments.shrunk).mT[:, None]

    def error(name: str) -> float:
        rival = METHODS[name].fit(problem)
        changed = rival.apply(rival.largest // 2)
        if form == "all":
            return RelativeErrors.fit(problem.heads, problem.moments).of(changed)["score"]
        metric = root if form == "inputs" else torch.eye(32, dtype=torch.float64)
        differences = ((changed.W_Q, problem.heads.W_Q), (changed.W_K, problem.heads.W_K))
        return float(sum((metric @ (new - old)).square().sum() for new, old in differences))

    assert error(score) < error(plain)


def test_greedy_ranks_beat_equal_ones_at_the_same_sum(problems: dict[str, tuple[object, Problem]]) -> None:
    problem = problems["llama"][1]
    equal, greedy = (HeadRanks.fit(problem, "plain", choice) for choice in (False, True))

    def error(changed: Heads) -> Tensor:
        return (changed.W_Q - problem.heads.W_Q).square().sum() + (changed.W_K - problem.heads.W_K).square().sum()

    assert error(greedy.apply(18 * 4)) < error(equal.apply(4))


def test_a_planted_subspace_is_found_by_those_that_look_for_it(problems: dict[str, tuple[object, Problem]]) -> None:
    problem = problems["llama"][1]
    generator = torch.Generator().manual_seed(0)
    P = torch.randn(32, 5, dtype=torch.float64, generator=generator)
    planted = Heads(*(
        P @ torch.randn(3, heads, 5, 8, dtype=torch.float64, generator=generator) for heads in (4, 2)
    ))  # fmt: skip
    problem = Problem(planted, problem.moments, problem.pairs, seed=0)
    for fit in (partial(SharedSubspace.fit, metric="score"), partial(LayerSubspace.fit, metric="plain")):
        torch.testing.assert_close(fit(problem).apply(5).W_Q, planted.W_Q)
        assert not torch.allclose(fit(problem).apply(4).W_Q, planted.W_Q, atol=1e-2)


def test_the_keys_kept_give_the_best_queries_for_the_wanted_circuit(
    problems: dict[str, tuple[object, Problem]],
) -> None:
    problem = problems["gpt_neox"][1]
    rival = CircuitMixing.fit(problem, "components")
    R = rival.mixing(4)
    A = problem.heads.queries @ problem.heads.keys.mT
    wanted = (R @ A.flatten(1)).view_as(A)
    expected = torch.linalg.lstsq(problem.heads.keys, wanted.mT).solution.mT
    torch.testing.assert_close(rival.apply(4).queries, expected)


def test_relative_errors_are_those_of_the_matrices(problems: dict[str, tuple[object, Problem]]) -> None:
    problem = problems["gpt2"][1]
    own, changed = problem.heads, METHODS["int_column"].fit(problem).apply(4)
    found = RelativeErrors.fit(own, problem.moments).of(changed)
    assert found["gram"] == pytest.approx(float((gram_form(changed) - gram_form(own)).norm() / gram_form(own).norm()))
    for form, (before, after) in {
        "circuit": (own, changed),
        "score": (whitened(own, problem.moments), whitened(changed, problem.moments)),
        "score_centred": (whitened(own, problem.moments, False), whitened(changed, problem.moments, False)),
    }.items():
        A, B = (heads.queries @ heads.keys.mT for heads in (before, after))
        assert found[form] == pytest.approx(float((B - A).norm() / A.norm()))
        assert circuit_kernel(before).trace() == pytest.approx(float(A.square().sum()))


def test_the_sizes_nearest_to_a_budget_are_taken() -> None:
    class Steps:
        smallest, largest = 2, 6

        def stored_bits(self, size: int) -> int:
            return 10 * size

        def apply(self, size: int) -> Heads:
            raise NotImplementedError

    assert sizes_near(Steps(), [1.0, 24.0, 25.0, 26.0, 90.0]) == [2, 3, 6]


@pytest.mark.parametrize("family", [f for f in tiny.ALL_CONFIGS if not f.startswith(("gpt2", "qwen3", "gemma3"))])
def test_pairs_are_what_positions_rotate_together(family: str) -> None:
    """A pair left out of the queries alone takes out of the scores what it does when left out of the keys alone."""
    network = tiny.model(family)
    sizes = geometry_of(network)
    heads = read_heads(network)
    if not sizes.rotary or family in ("olmo2", "cohere", "stablelm, parallel"):  # norms of whole queries and keys
        return
    pairs = pairs_of(sizes.d_head, sizes.rotated, sizes.interleaved)
    assert sorted(pairs.flatten().tolist()) == list(range(sizes.d_head))
    mask = torch.ones(sizes.d_head)
    mask[pairs[0]] = 0
    before = network(WINDOWS).logits
    changed = []
    for side in "QK":
        weights = {f"W_{side}": getattr(heads, f"W_{side}") * mask}
        if (bias := getattr(heads, f"b_{side}")) is not None:
            weights[f"b_{side}"] = bias * mask
        with injected(network, **weights):
            changed.append(network(WINDOWS).logits)
    torch.testing.assert_close(changed[0], changed[1], atol=2e-4, rtol=2e-4)
    assert not torch.allclose(changed[0], before, atol=1e-3)


def test_the_pairs_that_scores_need_least_go_first(problems: dict[str, tuple[object, Problem]]) -> None:
    _, problem = problems["llama"]
    errors = RelativeErrors.fit(problem.heads, problem.moments)
    equal = RotaryPairs.fit(problem, greedy=False)
    kept = equal.apply(3)
    assert problem.pairs is not None
    others = []
    for pair in problem.pairs:  # of all heads the same one left out
        mask = torch.ones(8, dtype=torch.float64).index_fill(0, pair, 0)
        others.append(errors.of(Heads(problem.heads.W_Q * mask, problem.heads.W_K * mask))["score"])
    assert errors.of(kept)["score"] < min(others)

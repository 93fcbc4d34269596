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
from permeation.rivals.base import Problem, low_rank_parameters, original_parameters, size_within
from permeation.rivals.form_error import RelativeErrors
from permeation.rivals.low_rank import HeadRanks, LayerSubspace, ModelSubspace
from permeation.rivals.mixing import CircuitMixing, GramComponents
from permeation.rivals.quantised import round_to_nearest
from permeation.rivals.registry import METHODS
from permeation.rivals.tucker import Tucker
from permeation.weights.forms import circuit_kernel, whitened
from permeation.weights.heads import Heads, gram_form, read_heads
from permeation.weights.inject import injected
from permeation.weights.moments import collect
from tests.support import tiny

WINDOWS = torch.randint(2, 90, (6, 16), generator=torch.Generator().manual_seed(3))
EXACT = [name for name in METHODS if name not in ("mean", "int8", "int4")]
BIASED = 3 * (4 + 4) * 8  # b_Q and b_K of the small GPT-2 and GPT-NeoX


def pose(network: object) -> Problem:
    fold_norms(network)
    heads = Heads(*(None if part is None else part.double() for part in vars(read_heads(network)).values()))
    moments = collect(network, WINDOWS, 6, lambda _: None)
    return Problem(heads, moments, geometry_of(network).rotary, seed=0)


@pytest.fixture(scope="module")
def problems() -> dict[str, tuple[object, Problem]]:
    networks = {family: tiny.model(family) for family in tiny.CONFIGS}
    return {family: (network, pose(network)) for family, network in networks.items()}


def test_a_circuit_without_biases_comes_back_too(problems: dict[str, tuple[object, Problem]]) -> None:
    _, problem = problems["gpt2"]
    heads = Heads(problem.heads.W_Q, problem.heads.W_K)
    rival = METHODS["circuit_svd_score"].fit(replace(problem, heads=heads))
    back = rival.apply(rival.largest)
    torch.testing.assert_close(back.queries @ back.keys.mT, heads.queries @ heads.keys.mT)
    assert back.b_Q is None


@pytest.mark.parametrize("name", METHODS)
def test_full_size_gives_the_model_back_and_smaller_ones_are_smaller(
    problems: dict[str, tuple[object, Problem]], name: str, family: str
) -> None:
    network, problem = problems[family]
    if name.startswith("circuit_svd") and problem.rotary:
        with pytest.raises(PermeationError, match="this model rotates queries and keys by position: an SVD of W_Q"):
            METHODS[name].fit(problem)
        return
    rival = METHODS[name].fit(problem)
    sizes = range(rival.smallest, rival.largest + 1)
    numbers, size_bytes = ([count(size) for size in sizes] for count in (rival.stored_parameters, rival.stored_bytes))
    assert numbers == sorted(numbers)
    assert size_bytes == sorted(size_bytes)
    before = network(WINDOWS).logits  # type: ignore[operator]
    errors = []
    for size in {sizes[0], sizes[len(sizes) // 2], sizes[-1]}:
        with injected(network, **rival.apply(size).tensors()):
            errors.append((size, float((network(WINDOWS).logits - before).abs().max())))  # type: ignore[operator]
    errors = [error for _, error in sorted(errors)]
    if name in EXACT:
        assert errors[-1] < 2e-4
        assert min(errors[:-1]) > 1e-2
    else:
        assert 1e-4 < errors[-1] < {"int8": 0.5, "int4": 10, "mean": 100}[name]


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
        ("int8", 8): 3 * 6 * (32 * 8 + 8),
    }
    for (name, size), numbers in expected.items():
        assert METHODS[name].fit(llama).stored_parameters(size) == numbers, name
        if name != "int8":
            assert METHODS[name].fit(llama).stored_bytes(size) == 2 * numbers
    assert METHODS["int4"].fit(llama).stored_bytes(4) == 3 * 6 * (32 * 8 // 2 + 2 * 8)
    # Biases: kept and counted, or rows of what is decomposed.
    assert METHODS["svd_plain"].fit(gpt2).stored_parameters(8) == original_parameters(gpt2.heads)
    assert METHODS["circuit_svd_score"].fit(gpt2).stored_parameters(3) == 12 * (3 * (33 + 33 - 3) + 3)
    half = BIASED // 2
    assert METHODS["pca_score"].fit(gpt2).stored_parameters(0) == 3 * 4 * 32 * 8 + half + 33 * 33
    assert METHODS["pca_circuit"].fit(gpt2).stored_parameters(0) == 3 * 4 * 32 * 8 + 2 * half + 32 * 32


def test_break_even_points(problems: dict[str, tuple[object, Problem]]) -> None:
    """Where storing the rival starts to cost more than storing the weights."""
    for _, problem in problems.values():
        heads = problem.heads
        n, d, e = heads.queries.shape
        budget = 2 * original_parameters(heads)
        gram = GramComponents.fit(problem)
        assert size_within(gram, budget) == int((n - 1) * e * e / (e * e + n))
        circuit = CircuitMixing.fit(problem, "components")
        assert size_within(circuit, budget) == int((n * d * e - d * d) / (d * d + n))
        for full in (
            HeadRanks.fit(problem, "plain", False),
            LayerSubspace.fit(problem, "score"),
            ModelSubspace.fit(problem, "score"),
            Tucker.fit(problem, "layer", "plain"),
        ):
            assert size_within(full, budget) == full.largest
            assert full.stored_bytes(full.largest) == budget
    assert size_within(gram, gram.stored_bytes(0) - 1) is None


def test_gauge_freedom_is_what_the_circuit_svd_saves_at_full_rank(problems: dict[str, tuple[object, Problem]]) -> None:
    problem = problems["gpt2"][1]
    saved = original_parameters(problem.heads) - METHODS["circuit_svd_plain"].fit(problem).stored_parameters(8)
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
    problem = Problem(planted, problem.moments, rotary=True, seed=0)
    for fit in (partial(ModelSubspace.fit, metric="score"), partial(LayerSubspace.fit, metric="plain")):
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
    own, changed = problem.heads, METHODS["int4"].fit(problem).apply(4)
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


def test_integers_are_within_half_a_step() -> None:
    W = torch.randn(2, 3, 16, 4, dtype=torch.float64)
    for bits in (4, 8):
        step = W.abs().amax(dim=2, keepdim=True) / (2 ** (bits - 1) - 1)
        rounded = round_to_nearest(W, bits)
        assert ((rounded - W).abs() <= step / 2 + 1e-12).all()
        assert (rounded / step).round().unique().numel() <= 2**bits - 1
        torch.testing.assert_close(round_to_nearest(rounded, bits), rounded)

"""Matrices of models, the files they are read into, and the recipes of trained ones."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from permeation.frame.tables import write_json
from permeation.models.load import load_model
from permeation.universal.leave_out import added
from permeation.universal.stack import Member, Stack, input_moments, matrices
from permeation.universal.train import Recipe, held_out, said_of

TOKENS = torch.arange(40).view(2, 20) * 11 % 600


def test_a_matrix_multiplies_what_its_layer_reads(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    found = {matrix.key: matrix for matrix in matrices(model)}
    kinds = [kind for layer, kind in found if layer == 0]
    assert kinds[:4] == ["W_Q", "W_K", "W_V", "W_O"]
    assert len(kinds) == (7 if model.config.model_type == "llama" else 6)
    seen = {}

    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen[module] = inputs[0], output - (0 if module.bias is None else module.bias)

    for matrix in found.values():
        matrix.reader.register_forward_hook(keep)
    model(TOKENS)
    for (layer, kind), matrix in found.items():
        x, y = seen[matrix.reader]
        if kind not in ("W_Q", "W_K", "W_V"):  # these are parts of one projection in two of the families
            torch.testing.assert_close(x @ matrix.read().T, y)
        assert layer < 3 and matrix.read().shape[1] == x.shape[-1]


def test_added_changes_reach_the_model_and_go_again(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    places = {matrix.key: matrix for matrix in matrices(model)}
    before = model(TOKENS).logits
    weights = {key: matrix.read().clone() for key, matrix in places.items()}
    for key, W in weights.items():
        change = torch.randn(W.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with added(places, {key: change}):
            torch.testing.assert_close(places[key].read(), W + change.float())
            assert not torch.allclose(model(TOKENS).logits, before, atol=1e-6)
    assert torch.equal(model(TOKENS).logits, before)


def test_moments_are_those_of_what_the_matrices_read(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    keys = [(1, "W_V"), (2, "W_O")]
    found = input_moments(model, TOKENS, keys)
    seen = {}
    for matrix in matrices(model):
        if matrix.key in keys:
            key = matrix.key
            matrix.reader.register_forward_pre_hook(lambda _, x, key=key: seen.update({key: x[0].flatten(0, 1)}))
    model(TOKENS)
    for key, x in seen.items():
        torch.testing.assert_close(found[key], x.double().T @ x.double() / len(x), rtol=1e-4, atol=1e-6)


def test_a_stack_holds_every_model(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = checkpoints["llama"]
    members = [Member("trained", folder), *(Member(f"untrained {i}", folder, seed=i) for i in (1, 1, 2))]
    stack = Stack.read(members, tmp_path / "stack")
    for matrix in matrices(load_model(folder)):
        X = stack[matrix.key]
        assert torch.equal(X[0], matrix.read())
        assert torch.equal(X[1], X[2]) and not torch.equal(X[2], X[3])  # a seed gives one model
        assert float(X[3].std()) == pytest.approx(0.02, rel=0.1)  # LlamaConfig's initializer_range


def recipe(**changes: object) -> Recipe:
    made = Recipe.of("scratch", "wiki", 1, 10, TOKENS, "base@revision")
    return Recipe(**(asdict(made) | changes))


def test_a_finished_model_counts_for_its_own_recipe_alone(tmp_path: Path) -> None:
    assert not recipe().finished(tmp_path)
    (tmp_path / "scratch" / "wiki-1").mkdir(parents=True)
    write_json(tmp_path / "scratch" / "wiki-1" / "recipe.json", asdict(recipe()))
    assert recipe().finished(tmp_path)
    for other in ({"steps": 11}, {"tokens": "other"}, {"training": {"learning_rate": 1.0}}, {"libraries": {}}):
        assert not recipe(**other).finished(tmp_path)


def test_no_two_models_share_a_draw() -> None:
    recipes = [recipe(seed=seed, text=text, series=series) for seed in (0, 1) for text in "ab" for series in "cd"]
    draws = {each.draws(what) for each in recipes for what in ("weights", "order")}
    assert len(draws) == 2 * len(recipes)


def test_every_seventh_window_is_held_out() -> None:
    assert held_out(torch.zeros(15, 2, dtype=torch.long)).nonzero().flatten().tolist() == [6, 13]


@pytest.mark.parametrize(
    ("losses", "said"), [((3, 2, 1.9), "learned"), ((3, 2, 2.5), "overfitted"), ((3, 2, 3.1), "diverged")]
)
def test_what_is_said_of_a_training(losses: tuple[float, ...], said: str) -> None:
    assert said_of({str(step): float(loss) for step, loss in enumerate(losses)}) == said

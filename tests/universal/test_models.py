"""Matrices of models, the files they are read into, and the recipes of trained ones."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from permeation.frame.errors import PermeationError
from permeation.frame.tables import write_json
from permeation.models.load import load_model
from permeation.universal.stack import Member, Stack, input_moments, layers, weight
from permeation.universal.train import Recipe, said_of, split

TOKENS = torch.arange(40).view(2, 20) * 11 % 600


def test_a_matrix_multiplies_what_its_layer_reads(checkpoint: Path) -> None:
    model, seen = load_model(checkpoint), {}
    found = layers(model)
    assert {key.partition(".")[0] for key in found} == {"0", "1", "2"}
    for key, layer in found.items():
        layer.register_forward_hook(
            lambda part, x, y, key=key: seen.update({key: (x[0], y - getattr(part, "bias", 0))})
        )
        if layer.bias is None:
            layer.bias = torch.nn.Parameter(weight(layer).new_zeros(len(weight(layer))))
    moments = input_moments(model, TOKENS, found)
    model(TOKENS)
    for key, (x, y) in seen.items():
        torch.testing.assert_close(x @ weight(found[key]).T, y)
        flat = x.double().flatten(0, 1)
        torch.testing.assert_close(moments[key], flat.T @ flat / len(flat), rtol=1e-4, atol=1e-6)
    assert seen.keys() == found.keys()


def test_a_stack_holds_every_model(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = checkpoints["llama"]
    members = [Member("trained", folder), *(Member(f"untrained {i}", folder, seed=i) for i in (1, 1, 2))]
    stack = Stack.read(members, tmp_path / "stack")
    for key, layer in layers(load_model(folder)).items():
        X = stack[key]
        assert torch.equal(X[0], weight(layer))
        assert torch.equal(X[1], X[2]) and not torch.equal(X[2], X[3])  # a seed gives one model
        assert float(X[3].std()) == pytest.approx(0.02, rel=0.1)  # LlamaConfig's initializer_range
    with pytest.raises(PermeationError, match="b has another shape than a"):
        Stack.read([Member("a", folder), Member("b", checkpoints["gpt2"])], tmp_path / "others")


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
    inputs, held = split(torch.arange(15)[:, None])
    assert held.flatten().tolist() == [6, 13] and len(inputs) == 13


@pytest.mark.parametrize(
    ("losses", "said"), [((3, 2, 1.9), "learned"), ((3, 2, 2.5), "overfitted"), ((3, 2, 3.1), "diverged")]
)
def test_what_is_said_of_a_training(losses: tuple[float, ...], said: str) -> None:
    assert said_of([*map(float, losses)]) == said

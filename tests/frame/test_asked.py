"""What is asked is compared with what is there, whoever runs a stage and with whatever settings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from permeation.config import Config
from permeation.frame.asked import asked_of, differences, read_asked
from permeation.frame.errors import PermeationError
from stages import Stage
from tests.conftest import PROJECT

Change = Callable[[Config, Path], Config]


def write(config: Config, root: Path, name: str, *inputs: str, output: str | None = None) -> Path:
    """Let a stage read its inputs and write an empty output."""
    stage = Stage(name, config, PROJECT, root)
    for each in inputs:
        stage.input(each)
    with stage.output(output):
        pass
    return root / "data" / (output or name)


@pytest.fixture
def chain(config: Config, tmp_path: Path) -> Path:
    """A model, activations made of it, and σ made of these."""
    write(config, tmp_path, "fetch_model", output="model")
    write(config, tmp_path, "extract_activations", "model")
    write(config, tmp_path, "compute_sigma", "extract_activations")
    return tmp_path


def test_an_input_is_checked_once(config: Config, chain: Path) -> None:
    stage = Stage("compute_sigma", config, PROJECT, chain)
    assert stage.input("model") == stage.input("model") == chain / "data" / "model"


def test_an_output_names_what_it_depends_on_and_nothing_else(config: Config, chain: Path) -> None:
    assert set(read_asked(chain / "data" / "model")) == {"model"}
    assert read_asked(chain / "data" / "compute_sigma") == {
        "model": "smollm2-135m",
        "words": "data/words.yaml",
        "words.sha256": asked_of(PROJECT, config)["words.sha256"],
        "activations.prepend_bos": True,
        "sigma.direction_layer": -1,
        "definitions": "own",
    }


def other_words(config: Config, root: Path) -> Config:
    """A words file of the same name in another place."""
    (root / "words.yaml").write_text("other: {}")
    return replace(config, words=str(root / "words.yaml"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config, _: replace(config, model="other"), "model was smollm2-135m and is other"),
        (
            lambda config, _: replace(config, activations=replace(config.activations, prepend_bos=False)),
            "activations.prepend_bos was true and is false",
        ),
        (
            lambda config, _: replace(config, sigma=replace(config.sigma, direction_layer=3)),
            "sigma.direction_layer was -1 and is 3",
        ),
        (other_words, "words was data/words.yaml and is words.yaml"),
    ],
)
def test_what_was_made_for_something_else_is_refused(config: Config, chain: Path, change: Change, said: str) -> None:
    """Also where the change came in several stages before."""
    asked = change(config, chain)
    with pytest.raises(PermeationError, match=f"compute_sigma is not what is asked for: {said}"):
        Stage("fit_g", asked, PROJECT, chain).input("compute_sigma")
    unrelated = replace(config, corpus="other", device="cuda", seed=7)
    assert Stage("fit_g", unrelated, PROJECT, chain).input("compute_sigma")


def test_two_of_one_name_are_told_apart_and_no_path_is_written(config: Config, tmp_path: Path) -> None:
    one, other = (replace(config, model=str(tmp_path / place / "model")) for place in ("one", "other"))
    write(one, tmp_path, "fetch_model", output="model")
    assert str(tmp_path) not in (tmp_path / "data" / "model" / "parameters.json").read_text()
    Stage("extract_wqk", one, PROJECT, tmp_path).input("model")
    with pytest.raises(PermeationError, match="model was another model, in another place"):
        Stage("extract_wqk", other, PROJECT, tmp_path).input("model")
    again = replace(config, model=f"{tmp_path}/one/../one/model")
    Stage("extract_wqk", again, PROJECT, tmp_path).input("model")


def test_a_words_file_that_was_edited_is_noticed(config: Config, tmp_path: Path) -> None:
    settings = replace(config, words=str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("bank: 1")
    before = asked_of(PROJECT, settings)
    (tmp_path / "mine.yaml").write_text("bank: 2")
    assert differences(before, asked_of(PROJECT, settings)) == ["the words file mine.yaml was another one"]


def test_a_parameter_that_one_side_does_not_know_is_no_difference() -> None:
    assert differences({"a": 1, "old": 1}, {"a": 1, "new": 2}) == []


def test_a_relative_path_is_found_from_an_experiment_in_a_temporary_copy(config: Config, tmp_path: Path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1234"
    copy.mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    stage = Stage("fetch_model", config, copy, copy)
    assert stage.place("mine") == str(tmp_path / "mine")
    assert stage.place("org/name") == "org/name"
    assert stage.place(str(tmp_path)) == str(tmp_path)
    assert Stage("fetch_model", config, tmp_path, tmp_path).place("mine") == "mine"

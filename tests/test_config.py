"""params.yaml: what is accepted, and what the message says where it is not."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from permeation import config as configuration
from permeation.frame.errors import PermeationError
from permeation.report.asking import asked_at
from permeation.report.results import Place
from tests.conftest import PROJECT


def load_with(tmp_path: Path, key: str, value: Any) -> configuration.Config:
    """The shipped parameters with one key set, read back from a file."""
    mapping = yaml.safe_load((PROJECT / "params.yaml").read_text())
    *sections, last = key.split(".")
    inner = mapping
    for name in sections:
        inner = inner[name]
    inner[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(mapping))
    return configuration.load(path)


def test_the_shipped_parameters_are_accepted() -> None:
    settings = configuration.load(PROJECT / "params.yaml")
    assert settings.model == "smollm2-135m"
    assert settings.reconstruct.components == (1, 2, 3, 5, 8, 10, 16, 32, 64, "50%", "80%", "90%", "95%", "99%", "all")


def test_the_command_line_overrides_and_is_checked_too() -> None:
    assert configuration.load(PROJECT / "params.yaml", device="cpu").device == "cpu"
    with pytest.raises(PermeationError, match=r"device is 'tpu'; accepted: auto \| cpu \| cuda \| mps"):
        configuration.load(PROJECT / "params.yaml", device="tpu")


def test_published_definitions_take_the_published_settings(tmp_path: Path) -> None:
    own, published = (load_with(tmp_path, "definitions", name) for name in ("own", "published"))
    assert (own.response.threshold, own.cluster.share, own.cluster.components) == (0.1, "centroid", "all")
    assert (published.response.threshold, published.cluster.share, published.cluster.components) == (0.05, "medoid", 20)


def test_what_published_definitions_gave_is_what_is_asked_for(tmp_path: Path) -> None:
    load_with(tmp_path, "definitions", "published")
    asked = asked_at(Place(".", tmp_path))
    assert asked is not None
    assert (asked["response.threshold"], asked["cluster.components"]) == (0.05, 20)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", None, "model is None; accepted: a non-empty name or path"),
        ("model", "", "model is ''"),
        ("model", " gpt2", "model is ' gpt2'"),
        ("corpus", 3, "corpus is 3"),
        ("seed", -1, "seed is -1; accepted: a whole number of at least 0"),
        ("seed", True, "seed is True"),
        ("wqk.fold_norm", "yes", "wqk.fold_norm is 'yes'; accepted: true or false"),
        ("perplexity.context", 1, "perplexity.context is 1; accepted: a whole number of at least 2"),
        ("perplexity.max_tokens", "many", "perplexity.max_tokens is 'many'"),
        ("perplexity.tolerance", 0, "perplexity.tolerance is 0; accepted: a number above 0"),
        ("perplexity.relative_tolerance", -0.1, "is -0.1; accepted: a number of at least 0 and below 1"),
        ("perplexity.relative_tolerance", 1, "is 1; accepted: a number of at least 0 and below 1"),
        ("perplexity.dtype", "float16", "perplexity.dtype is 'float16'; accepted: float32 | bfloat16"),
        ("reconstruct.components", [], "reconstruct.components is []; accepted: a list of counts, then shares"),
        ("reconstruct.components", [0, 1], "reconstruct.components is [0, 1]; accepted: a list of counts"),
        ("reconstruct.components", [2, 1], "reconstruct.components is [2, 1]; accepted: a list of counts"),
        ("reconstruct.components", [1, 1], "reconstruct.components is [1, 1]"),
        ("reconstruct.components", ["all", 1], "reconstruct.components is ['all', 1]"),
        ("reconstruct.components", 5, "reconstruct.components is 5"),
        ("reconstruct.components", [1.5], "reconstruct.components is [1.5]"),
        ("reconstruct.components", ["90%", 5], "reconstruct.components is ['90%', 5]"),
        ("reconstruct.components", ["100%"], "reconstruct.components is ['100%']"),
        ("perplexity.prepend_bos", "yes", "perplexity.prepend_bos is 'yes'; accepted: auto | true | false"),
        ("rivals.methods", "int_column", "rivals.methods is 'int_column'; accepted: a non-empty list"),
        ("rivals.methods", ["int_rows", "int_rows"], "is ['int_rows', 'int_rows']; accepted: a list without repeats"),
        ("cluster.k", [0], "cluster.k[0] is 0"),
        ("cluster.k", [4, 4], "cluster.k is [4, 4]; accepted: a non-empty list in rising order"),
        ("cluster.k", [4, "all"], "cluster.k[1] is 'all'"),
        ("cluster.share", "mean", "cluster.share is 'mean'; accepted: centroid | medoid"),
        ("sigma", None, "sigma is None; accepted: a mapping with the keys direction_layer"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(PermeationError, match=re.escape(message)):
        load_with(tmp_path, key, value)


def test_a_relative_tolerance_of_zero_is_one_that_never_counts(tmp_path: Path) -> None:
    assert load_with(tmp_path, "perplexity.relative_tolerance", 0).perplexity.relative_tolerance == 0.0


def test_the_long_list_of_rivals_has_those_that_are_measured_first(tmp_path: Path) -> None:
    rivals = load_with(tmp_path, "rivals.methods", "long").rivals
    assert len(rivals.methods) > 30
    assert set(rivals.calibrate) <= set(rivals.methods)


def test_an_unknown_key_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(PermeationError, match=r"unknown key cluster\.K; cluster accepts: k, share, components"):
        load_with(tmp_path, "cluster.K", [4])


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    mapping = yaml.safe_load((PROJECT / "params.yaml").read_text())
    del mapping["pca"]["center"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(mapping))
    with pytest.raises(PermeationError, match=r"pca\.center is missing"):
        configuration.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "model: [", "model: gpt2\nmodel: gpt2-xl\n", "\x00"])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(PermeationError, match=r"params\.yaml"):
        configuration.load(tmp_path / "params.yaml")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PermeationError, match="No such file"):
        configuration.load(tmp_path / "params.yaml")

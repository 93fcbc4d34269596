"""params.yaml: what is accepted, and what the message says where it is not."""

import re
from typing import Any

import pytest
import yaml

from permeation import settings
from permeation.frame.errors import PermeationError
from permeation.rivals.registry import LONG
from tests.conftest import PROJECT

SHIPPED = PROJECT / "params.yaml"
RISING = "it should be a list in rising order (numbers before shares before all)"


def with_key(key: str, value: Any) -> settings.Config:
    """The shipped parameters with one key set."""
    mapping = inner = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    *sections, last = key.split(".")
    for name in sections:
        inner = inner[name]
    inner[last] = value
    return settings.checked(mapping)


def test_the_command_line_overrides_and_is_checked_too() -> None:
    assert settings.load(SHIPPED, device="cpu").device == "cpu"
    with pytest.raises(PermeationError, match="device is 'tpu'; it should be 'auto', 'cpu', 'cuda' or 'mps'"):
        settings.load(SHIPPED, device="tpu")


def test_a_quick_run_is_accepted() -> None:
    (listed,) = re.findall(r"^QUICK := ((?:.*\\\n)*.*)$", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    for setting in listed.replace("\\\n", " ").split():
        key, value = setting.split("=")
        with_key(key, yaml.safe_load(value))


def test_the_long_list_of_rivals_is_a_name_for_all() -> None:
    assert with_key("rivals.methods", "long").rivals.methods == LONG


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", " gpt2", "model is ' gpt2'; it should be a name without blanks around it"),
        ("model", "gpt2\nmedium", "it should be a name without blanks around it"),
        ("seed", -1, "seed is -1; it should be greater than or equal to 0"),
        ("seed", True, "seed is True"),
        ("perplexity.tolerance", float("nan"), "perplexity.tolerance is nan; it should be a finite number"),
        ("reconstruct.components", [], "reconstruct.components is []; it should have at least 1 item"),
        ("reconstruct.components", [0, 1], "reconstruct.components has 0"),
        ("reconstruct.components", [2, 1], f"is [2, 1]; {RISING}"),
        ("reconstruct.components", ["all", 1], "reconstruct.components is ['all', 1]"),
        ("reconstruct.components", ["90%", 5], "reconstruct.components is ['90%', 5]"),
        ("reconstruct.components", ["100%"], "reconstruct.components has '100%'"),
        ("reconstruct.components", ["0%", "50%"], "reconstruct.components has '0%'"),
        ("reconstruct.components", ["0.0%"], "reconstruct.components has '0.0%'"),
        ("rivals.methods", ["pca_gram", "pca_gram"], "it should be 'long', or be a list that names each once"),
        ("rivals.methods", "int_column", "rivals.methods is 'int_column'; it should be 'long', or be a list"),
        ("rivals.methods", ["none"], "rivals.methods has 'none'; it should be one of int_column, "),
        ("rivals.matrices", ["v"], "rivals.matrices is ['v']; it should be [q, k] or [q, k, v, o]"),
        ("cluster.k", [4, 4], "cluster.k is [4, 4]; it should be a list in rising order"),
        ("cluster.K", [4], "unknown key cluster.K"),
        ("resposne", {"field": "rank"}, "unknown key resposne"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(key: str, value: Any, message: str) -> None:
    with pytest.raises(PermeationError, match=f"^params.yaml: .*{re.escape(message)}"):
        with_key(key, value)


def test_a_missing_key_is_named_and_an_unknown_one_before_it() -> None:
    mapping = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    del mapping["pca"]["center"]
    with pytest.raises(PermeationError, match=r"pca\.center is missing"):
        settings.checked(mapping)
    mapping["pca"]["centre"] = True
    with pytest.raises(PermeationError, match=r"unknown key pca\.centre"):
        settings.checked(mapping)

"""params.yaml, checked at the door by pydantic. Every key stands in the file: there are no defaults here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_yaml
from permeation.rivals.registry import LONG, METHODS


def _rank(item: Any) -> tuple[bool, float]:
    """Where an entry of a list stands: numbers, then shares of the variance as "90%", then all."""
    share = isinstance(item, str)
    return share, math.inf if item == "all" else float(item.rstrip("%") if share else item)


def _checked(accepts: Callable[[Any], object], said: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not accepts(value):
            raise ValueError(f"should be {said}")
        return value

    return AfterValidator(check)


def _rising(items: tuple[Any, ...]) -> bool:
    return all(_rank(a) < _rank(b) for a, b in pairwise(items))


RISING = _checked(_rising, "a list in rising order (numbers before shares before all)")
EACH_ONCE = _checked(lambda names: len(set(names)) == len(names), "a list that names each once")
ATTENTION = _checked(lambda names: names in (("q", "k"), ("q", "k", "v", "o")), "[q, k] or [q, k, v, o]")
SOME = Field(min_length=1)
Count = Annotated[int, Field(ge=1)]
Windows = Annotated[int, Field(ge=2)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, _checked(re.compile(r"\S(.*\S)?").fullmatch, "a name without blanks around it")]
Method = Annotated[str, _checked(METHODS.__contains__, f"one of {', '.join(METHODS)}")]
Share = Annotated[str, _checked(re.compile(r"([1-9]\d?(\.\d+)?|0\.\d*[1-9]\d*)%").fullmatch, "a share as 90%")]


@dataclass_transform(frozen_default=True)
class Section:
    """A mapping of params.yaml: a frozen dataclass that knows its keys and their types."""

    def __init_subclass__(cls) -> None:
        """Make the subclass a dataclass that pydantic checks."""
        dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))(cls)


class Config(Section):
    """The whole of params.yaml; what each key means stands there."""

    class Engine(Section):
        kind: Literal["local", "ray"]
        workers: Count | Literal["auto"]
        address: Text | None

    class Activations(Section):
        prepend_bos: bool
        batch_size: Count

    class Sigma(Section):
        direction_layer: int

    class Response(Section):
        field: Literal["final", "rank"]

    class G(Section):
        exclude_final: Annotated[int, Field(ge=0)]

    class Bootstrap(Section):
        resamples: Count

    class Nulls(Section):
        draws: Count
        permutations: Count

    class Decode(Section):
        threshold: Fraction

    class Intervene(Section):
        layers: Count | Literal["all"]
        clean_auc: Fraction

    class Moments(Section):
        tokens: Windows
        context: Windows

    class Pca(Section):
        center: bool

    class Perplexity(Section):
        context: Windows
        max_tokens: Windows | None
        prepend_bos: bool | Literal["auto"]
        tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
        batch_size: Count | Literal["auto"]
        dtype: Literal["float32", "bfloat16"]

    class Reconstruct(Section):
        components: Annotated[tuple[Count | Share | Literal["all"], ...], SOME, RISING]
        bands: Windows
        layers: Count | Literal["all"]
        windows: Windows

    class Cluster(Section):
        k: Annotated[tuple[Count, ...], SOME, RISING]
        components: Count | Literal["all"]

    class Rivals(Section):
        methods: Annotated[
            Literal["long"] | Annotated[tuple[Method, ...], SOME, EACH_ONCE],
            AfterValidator(lambda asked: LONG if asked == "long" else asked),
        ]
        bits: Annotated[tuple[Annotated[float, Field(ge=0, lt=16)], ...], SOME, RISING]
        matrices: Annotated[tuple[str, ...], ATTENTION]

        @property
        def whole(self) -> bool:
            """Whether W_V and W_O are stored, too."""
            return "o" in self.matrices

    class Heads(Section):
        pairs: Windows
        permutations: Count

    class Compressed(Section):
        ratios: Annotated[tuple[Annotated[float, Field(gt=1)], ...], SOME, RISING]
        methods: Count
        layers: Count

    class Universal(Section):
        models: Literal["made"] | Annotated[tuple[Text, ...], Field(min_length=2)]
        scratch_seeds: Count
        scratch_steps: Windows
        adapter_seeds: Count
        shuffled_seeds: Count
        adapter_steps: Windows
        components: Annotated[tuple[Count, ...], SOME, RISING]
        tokens: Windows

    model: Text
    corpus: Text
    words: Text
    device: Literal["auto", "cpu", "cuda", "mps"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # scikit-learn takes 32 bits
    quick: bool
    engine: Engine
    activations: Activations
    sigma: Sigma
    response: Response
    g: G
    bootstrap: Bootstrap
    nulls: Nulls
    decode: Decode
    intervene: Intervene
    moments: Moments
    pca: Pca
    perplexity: Perplexity
    reconstruct: Reconstruct
    cluster: Cluster
    rivals: Rivals
    heads: Heads
    compressed: Compressed
    universal: Universal


def load(path: Path, **overrides: Any) -> Config:
    """Read and check a params.yaml; `overrides` replace top-level values before the check.

    Raises PermeationError for a file that cannot be read, an unknown or missing key, or a value that is not accepted.
    """
    return checked({**read_yaml(path), **overrides})


def checked(content: Any) -> Config:
    """What a params.yaml holds, checked as `load` does."""
    try:
        return TypeAdapter(Config).validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise PermeationError(f"params.yaml: {_said(error)}") from error


def _said(error: ValidationError) -> str:
    """One key that is wrong, its value, and what each of the kinds that it may have accepts, in one line."""
    found = error.errors()
    # A key that is unknown before the one that it may stand for; an entry of a list before the list.
    wrong = max(found, key=lambda each: (each["type"] == "unexpected_keyword_argument", len(each["loc"])))
    place, value = wrong["loc"], wrong["input"]
    key = ".".join(map(str, place[:2]))
    if wrong["type"] == "unexpected_keyword_argument":
        return f"unknown key {key}"
    if wrong["type"] == "missing":
        return f"{key} is missing"
    said = [each["msg"] for each in found if (each["loc"][:2], each["input"]) == (place[:2], value)]
    accepted = dict.fromkeys(message.partition("should ")[2].replace("valid array", "list") for message in said)
    verb = "has" if any(isinstance(part, int) for part in place) else "is"
    return f"{key} {verb} {value!r}; it should {', or '.join(accepted)}"

"""params.yaml, checked at the door by pydantic. Every key stands in the file: there are no defaults here."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_yaml
from permeation.rivals.registry import LONG, METHODS


def _check(holds: Callable[[Any], bool], accepts: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"should be {accepts}")
        return value

    return AfterValidator(check)


def _rank(item: int | str) -> tuple[int, float]:
    """Where an entry of reconstruct.components stands: counts, then shares of the variance, then all."""
    if item == "all":
        return 2, 0.0
    return (0, float(item)) if isinstance(item, int) else (1, float(item.rstrip("%")))


LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
RISING = _check(lambda items: all(a < b for a, b in pairwise(items)), "a list in rising order")
Count = Annotated[StrictInt, Field(ge=1)]
Windows = Annotated[StrictInt, Field(ge=2)]
Positive = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[StrictFloat, Field(gt=0, lt=1)]
Text = Annotated[
    StrictStr, _check(lambda text: bool(text) and text == text.strip() and text.isprintable(), "a name or a path")
]
Share = Annotated[
    StrictStr,
    _check(lambda text: bool(re.fullmatch(r"\d{1,2}(\.\d+)?%", text)) and _rank(text)[1] > 0, 'a share as "90%"'),
]
Components = Count | Share | Literal["all"]
Method = Annotated[StrictStr, _check(lambda name: name in METHODS, "one of " + ", ".join(METHODS))]

section = dataclass(frozen=True, config=ConfigDict(extra="forbid"))


@section
class Engine:
    kind: Literal["local", "ray"]
    workers: Count | Literal["auto"]
    address: Text | None


@section
class Activations:
    prepend_bos: StrictBool
    batch_size: Count


@section
class Sigma:
    direction_layer: StrictInt


@section
class Response:
    field: Literal["final", "rank"]
    threshold: Fraction


@section
class G:
    exclude_final: Annotated[StrictInt, Field(ge=0)]


@section
class Bootstrap:
    resamples: Count


@section
class Nulls:
    draws: Count
    permutations: Count


@section
class Decode:
    threshold: Fraction


@section
class Intervene:
    layers: Count | Literal["all"]
    clean_auc: Fraction


@section
class Moments:
    tokens: Windows
    context: Windows


@section
class Pca:
    center: StrictBool


@section
class Perplexity:
    context: Windows
    max_tokens: Windows | None
    prepend_bos: StrictBool | Literal["auto"]
    tolerance: Positive | None
    batch_size: Count | Literal["auto"]
    dtype: Literal["float32", "bfloat16"]


@section
class Reconstruct:
    components: Annotated[
        tuple[Components, ...],
        LIST,
        Field(min_length=1),
        _check(
            lambda items: all(_rank(a) < _rank(b) for a, b in pairwise(items)),
            'counts, then shares such as "90%", each rising, then all',
        ),
    ]
    bands: Windows
    layers: Count | Literal["all"]
    windows: Windows


@section
class Cluster:
    k: Annotated[tuple[Count, ...], LIST, Field(min_length=1), RISING]
    share: Literal["centroid", "medoid"]
    components: Count | Literal["all"]


@section
class Rivals:
    methods: Annotated[
        tuple[Method, ...],
        BeforeValidator(lambda value: LONG if value == "long" else value),
        LIST,
        Field(min_length=1),
        _check(lambda names: len(set(names)) == len(names), "names without repeats, or long"),
    ]
    bits: Annotated[tuple[Annotated[StrictFloat, Field(ge=0, lt=16)], ...], LIST, Field(min_length=1), RISING]


@section
class Heads:
    pairs: Windows
    permutations: Count
    windows: Windows
    context: Windows


@section
class Compressed:
    ratios: Annotated[tuple[Annotated[StrictFloat, Field(gt=1)], ...], LIST, Field(min_length=1), RISING]
    methods: Count
    layers: Count


@section
class Universal:
    models: Literal["made"] | Annotated[tuple[Text, ...], LIST, Field(min_length=2)]
    scratch_seeds: Count
    scratch_steps: Windows
    adapter_seeds: Count
    shuffled_seeds: Count
    adapter_steps: Windows
    components: Annotated[tuple[Count, ...], LIST, Field(min_length=1), RISING]
    tokens: Windows


@section
class Config:
    """The whole of params.yaml; what each key means stands there."""

    model: Text
    corpus: Text
    words: Text
    device: Literal["auto", "cpu", "cuda", "mps"]
    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)]  # scikit-learn takes 32 bits
    quick: StrictBool
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
        return TypeAdapter(Config).validate_python(content)
    except ValidationError as error:
        raise PermeationError(f"params.yaml: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in one line; of a choice between kinds, what each of them accepts."""
    found = error.errors()
    first = found[0]
    place = [str(part) for part in first["loc"] if not (isinstance(part, str) and not part.isidentifier())]
    depth = next((i for i, part in enumerate(first["loc"]) if isinstance(part, int)), min(2, len(first["loc"])))
    key = ".".join(str(part) for part in first["loc"][: max(1, depth)])
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown key {'.'.join(place)}"
    if first["type"] == "missing":
        return f"{'.'.join(place)} is missing"
    if first["type"] == "dataclass_type":
        return f"{key} is {first['input']!r}; it should be a mapping"
    said = [
        re.sub(r"^.*?should | after validation.*", "", each["msg"])
        for each in found
        if each["loc"][:1] == first["loc"][:1]
    ]
    verb = "has" if any(isinstance(part, int) for part in first["loc"]) else "is"
    return f"{key} {verb} {first['input']!r}; it should {', or '.join(dict.fromkeys(said))}".replace("tuple", "list")

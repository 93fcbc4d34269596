"""params.yaml as frozen dataclasses: each value is checked before its section is built.

A section lists its keys once, each with the check it must pass. params.yaml holds every key (there are no
defaults here), so that what a run used can be read in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

from permeation.errors import PermeationError
from permeation.files import read_yaml

Check = Callable[[str, Any], Any]
Count = int | Literal["all"]

S = TypeVar("S", bound="Section")

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16")
RIVALS = (
    "pca_gram",
    "pca_circuit",
    "pca_score",
    "random_components",
    "mean",
    "kmeans_centroid",
    "kmeans_medoid",
    "svd_plain",
    "svd_score",
    "svd_plain_greedy",
    "svd_score_greedy",
    "layer_subspace_plain",
    "layer_subspace_score",
    "layer_subspace_random",
    "model_subspace_plain",
    "model_subspace_score",
    "circuit_svd_plain",
    "circuit_svd_score",
    "circuit_svd_plain_greedy",
    "circuit_svd_score_greedy",
    "tucker_layer_plain",
    "tucker_layer_score",
    "tucker_model_plain",
    "tucker_model_score",
    "int8",
    "int4",
)


def _reject(key: str, value: object, accepts: str) -> NoReturn:
    raise PermeationError(f"params.yaml: {key} is {value!r}; accepted: {accepts}")


def text(key: str, value: Any) -> str:
    """A non-empty printable string (no path has a NUL in it) without surrounding blanks."""
    if not isinstance(value, str) or not value.isprintable() or not value or value != value.strip():
        _reject(key, value, "a non-empty name or path")
    return value


def boolean(key: str, value: Any) -> bool:
    """true or false, and nothing that merely looks like it."""
    if not isinstance(value, bool):
        _reject(key, value, "true or false")
    return value


def integer(minimum: int | None = None, maximum: int | None = None) -> Check:
    """A whole number from `minimum` to `maximum`."""
    accepts = "a whole number" + (f" of at least {minimum}" if minimum is not None else "")
    accepts += f" and at most {maximum}" if maximum is not None else ""

    def check(key: str, value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or (minimum is not None and value < minimum)
            or (maximum is not None and value > maximum)
        ):
            _reject(key, value, accepts)
        return value

    return check


def number(above: float, below: float = float("inf"), or_equal: bool = False) -> Check:
    """A finite number strictly between `above` and `below`, or equal to `above` where that is said."""
    accepts = f"a number {'of at least' if or_equal else 'above'} {above:g}"
    accepts += f" and below {below:g}" if below < float("inf") else ""

    def check(key: str, value: Any) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (above < value < below or (or_equal and value == above))
        ):
            _reject(key, value, accepts)
        return float(value)

    return check


def choice(*options: str) -> Check:
    """One of a few names."""

    def check(key: str, value: Any) -> str:
        if value not in options or not isinstance(value, str):
            _reject(key, value, " | ".join(options))
        return value

    return check


def optional(check: Check) -> Check:
    """null, or what `check` accepts."""
    return lambda key, value: None if value is None else check(key, value)


def count_or(word: str) -> Check:
    """A count of at least 1, or one word."""

    def check(key: str, value: Any) -> Any:
        if value != word and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            _reject(key, value, f"a whole number of at least 1, or {word}")
        return value

    return check


count_or_all = count_or("all")


def rising(check: Check) -> Check:
    """A non-empty list, strictly rising, with `all` (where `check` lets it through) last."""
    accepts = "a non-empty list in rising order without repeats" + (
        ", of whole numbers of at least 1 (all may come last)" if check is count_or_all else ""
    )

    def check_list(key: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            _reject(key, value, accepts)
        items = tuple(check(f"{key}[{i}]", item) for i, item in enumerate(value))
        ranks = [float("inf") if item == "all" else float(item) for item in items]
        if any(later <= earlier for earlier, later in pairwise(ranks)):
            _reject(key, value, accepts)
        return items

    return check_list


def distinct(check: Check) -> Check:
    """A non-empty list without repeats."""

    def check_list(key: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            _reject(key, value, "a non-empty list")
        items = tuple(check(f"{key}[{i}]", item) for i, item in enumerate(value))
        if len(set(items)) < len(items):
            _reject(key, value, "a list without repeats")
        return items

    return check_list


def checked(check: Check) -> Any:
    """A dataclass field whose value must pass `check`."""
    return field(metadata={"check": check})


@dataclass(frozen=True)
class Section:
    """A group of keys; `prefix` is how its keys are written in messages."""

    prefix: ClassVar[str] = ""


@dataclass(frozen=True)
class Activations(Section):
    prefix = "activations."
    prepend_bos: bool = checked(boolean)
    batch_size: int = checked(integer(1))


@dataclass(frozen=True)
class Sigma(Section):
    prefix = "sigma."
    direction_layer: int = checked(integer())


@dataclass(frozen=True)
class Response(Section):
    prefix = "response."
    field: Literal["final", "rank", "heldout"] = checked(choice("final", "rank", "heldout"))
    threshold: float = checked(number(0.0, 1.0))


@dataclass(frozen=True)
class G(Section):
    prefix = "g."
    exclude_final: int = checked(integer(0))


@dataclass(frozen=True)
class Bootstrap(Section):
    prefix = "bootstrap."
    resamples: int = checked(integer(1))


@dataclass(frozen=True)
class Nulls(Section):
    prefix = "nulls."
    draws: int = checked(integer(1))


@dataclass(frozen=True)
class Decode(Section):
    prefix = "decode."
    threshold: float = checked(number(0.5, 1.0))
    permutations: int = checked(integer(1))


@dataclass(frozen=True)
class LogitLens(Section):
    prefix = "logit_lens."
    top: int = checked(integer(1))


@dataclass(frozen=True)
class Wqk(Section):
    prefix = "wqk."
    fold_norm: bool = checked(boolean)


@dataclass(frozen=True)
class Moments(Section):
    prefix = "moments."
    tokens: int = checked(integer(2))
    context: int = checked(integer(2))


@dataclass(frozen=True)
class Pca(Section):
    prefix = "pca."
    center: bool = checked(boolean)


@dataclass(frozen=True)
class Perplexity(Section):
    prefix = "perplexity."
    context: int = checked(integer(2))
    max_tokens: int | None = checked(optional(integer(2)))
    batch_size: int | Literal["auto"] = checked(count_or("auto"))
    tolerance: float | None = checked(optional(number(0.0)))
    relative_tolerance: float = checked(number(0.0, 1.0, or_equal=True))
    dtype: str = checked(choice(*DTYPES))


@dataclass(frozen=True)
class Reconstruct(Section):
    prefix = "reconstruct."
    components: tuple[Count, ...] = checked(rising(count_or_all))


@dataclass(frozen=True)
class Rivals(Section):
    prefix = "rivals."
    methods: tuple[str, ...] = checked(distinct(choice(*RIVALS)))
    shares: tuple[float, ...] = checked(rising(number(0.0, 1.0)))
    max_tokens: int | None = checked(optional(integer(2)))


@dataclass(frozen=True)
class Locate(Section):
    prefix = "locate."
    components: float = checked(number(0.0, 1.0))
    bands: int = checked(integer(2))
    max_tokens: int | None = checked(optional(integer(2)))


@dataclass(frozen=True)
class Cluster(Section):
    prefix = "cluster."
    k: tuple[int, ...] = checked(rising(integer(1)))
    share: Literal["centroid", "medoid"] = checked(choice("centroid", "medoid"))
    components: Count = checked(count_or_all)


def section(cls: type[Section]) -> Check:
    """A mapping that holds exactly the keys of one section."""
    return lambda _, value: _build(cls, value)


@dataclass(frozen=True)
class Config(Section):
    """The whole of params.yaml."""

    model: str = checked(text)
    corpus: str = checked(text)
    words: str = checked(text)
    device: str = checked(choice(*DEVICES))
    seed: int = checked(integer(0, 2**32 - 1))  # numpy's legacy generator, which scikit-learn uses, takes 32 bits
    activations: Activations = checked(section(Activations))
    sigma: Sigma = checked(section(Sigma))
    response: Response = checked(section(Response))
    g: G = checked(section(G))
    bootstrap: Bootstrap = checked(section(Bootstrap))
    nulls: Nulls = checked(section(Nulls))
    decode: Decode = checked(section(Decode))
    logit_lens: LogitLens = checked(section(LogitLens))
    wqk: Wqk = checked(section(Wqk))
    moments: Moments = checked(section(Moments))
    pca: Pca = checked(section(Pca))
    perplexity: Perplexity = checked(section(Perplexity))
    reconstruct: Reconstruct = checked(section(Reconstruct))
    cluster: Cluster = checked(section(Cluster))
    rivals: Rivals = checked(section(Rivals))
    locate: Locate = checked(section(Locate))


def _build(cls: type[S], mapping: Any) -> S:
    where = cls.prefix.rstrip(".") or "the file"
    checks: dict[str, Check] = {each.name: each.metadata["check"] for each in fields(cls)}
    if not isinstance(mapping, Mapping):
        _reject(where, mapping, f"a mapping with the keys {', '.join(checks)}")
    for name in mapping:
        if name not in checks:
            raise PermeationError(f"params.yaml: unknown key {cls.prefix}{name}; {where} accepts: {', '.join(checks)}")
    for name in checks:
        if name not in mapping:
            raise PermeationError(f"params.yaml: {cls.prefix}{name} is missing")
    return cls(**{name: check(cls.prefix + name, mapping[name]) for name, check in checks.items()})


def load(path: Path, **overrides: Any) -> Config:
    """Read and check a params.yaml; `overrides` replace top-level values before the check.

    Raises PermeationError for a file that cannot be read, an unknown or missing key, or a value outside what
    its key accepts.
    """
    return _build(Config, {**read_yaml(path), **overrides})

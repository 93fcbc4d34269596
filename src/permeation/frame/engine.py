"""Where a stage's independent measurements run: one after the other in this process, or on `workers`.

A measurement is `run(task, progress)`: `run` knows what all tasks share, a task what is its own. Results come in the
order of the tasks, whatever runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from permeation.frame.checks import Settings, checked, choice, count_or, optional, text

Progress = Callable[[int], object]
T = TypeVar("T", contravariant=True)
R = TypeVar("R", covariant=True)


@runtime_checkable
class Run(Protocol[T, R]):
    """What measures one task; for workers it is pickled, so it reads what is large when it is first called."""

    def __call__(self, task: T, progress: Progress) -> R:
        """The task's result; `progress` is told how far it is, and may be told nothing."""


@dataclass(frozen=True)
class ModelRun:
    """What the runs that share a model have in common: it is read when it is first needed, and never pickled.

    Attributes:
        read: gives the model. folders: what `read` reads; a worker on another machine needs them too.
    """

    read: Callable[[], Any]
    folders: tuple[Path, ...] = field(default=(), kw_only=True)

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without the model and what else is kept."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def model(self) -> Any:
        """The untouched model."""
        return self.read()


@runtime_checkable
class Engine(Protocol):
    """What runs a list of tasks."""

    @property
    def workers(self) -> int:
        """How many tasks run at once."""

    def map(self, run: Run[Any, Any], tasks: Iterable[tuple[str, Any]], progress: Progress) -> Iterator[Any]:
        """The result of every (name, task), in their order; the tasks are drawn as they are needed."""


class Local:
    """Everything in this process, one task after the other."""

    workers = 1

    def map(self, run: Run[Any, Any], tasks: Iterable[tuple[str, Any]], progress: Progress) -> Iterator[Any]:
        """The result of every task; `progress` is told by `run` itself."""

        def result(named: tuple[str, Any]) -> Any:
            return run(named[1], progress)

        return map(result, tasks)  # in place of a loop, whose variable would hold a task while the next one is made


@dataclass(frozen=True)
class EngineSettings(Settings):
    """Which engine; no result depends on it."""

    prefix = "engine."
    kind: Literal["local", "ray"] = checked(
        choice("local", "ray"),
        "local: all in this process. ray: changed models and interventions are measured by workers (docs/cluster.md; "
        "`make setup RAY=1` installs Ray). It changes no result and runs nothing again.",
    )
    workers: int | Literal["auto"] = checked(
        count_or("auto"),
        "Workers, each with the whole model and its share of the processors; auto: one for each GPU, or for each four "
        "processors.",
    )
    address: str | None = checked(
        optional(text),
        "The running cluster to join: auto (the one this machine belongs to), or host:port; null: workers on this "
        "machine alone.",
    )


def engine_of(settings: EngineSettings, device: str) -> AbstractContextManager[Engine]:
    """The engine that params.yaml asks for, within a `with` block. Ray is imported only where it is asked for."""
    if settings.kind == "local":
        return nullcontext(Local())
    from permeation.frame.workers import RayEngine

    return RayEngine.started(settings, device)

"""Where a stage's independent measurements run: one after the other in this process, or on Ray workers.

A measurement is `run(task)`: `run` holds what all tasks share, a task what is its own. Results come in the order of the
tasks. docs/cluster.md says how to use workers.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from permeation.frame.errors import PermeationError
from permeation.frame.journal import library_versions

PROCESSORS_PER_WORKER = 4
PACKAGE = Path(__file__).parents[1]  # sent to workers on other machines


@dataclass(frozen=True)
class ModelRun:
    """What runs that share a model have in common; the model is read when it is first needed, and never pickled.

    Attributes:
        read: gives the model. folders: what `read` reads; workers on other machines need them at the same place.
    """

    read: Callable[[], Any]
    folders: tuple[Path, ...] = field(default=(), kw_only=True)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone, without what was read."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def model(self) -> Any:
        """The untouched model."""
        return self.read()


class Engine(Protocol):
    """What runs a list of tasks."""

    workers: int  # how many tasks run at once

    def map(self, run: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """The result of every task, in their order; tasks are drawn as they are needed."""


class Local:
    """Everything in this process."""

    workers = 1

    def map(self, run: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """The builtin map: unlike a loop, it drops a task's weights before the next one's are made."""
        return map(run, tasks)


@dataclass
class RayEngine:
    """Ray actors, each with the model and its share of the processors, and with one GPU where `cuda`."""

    workers: int
    resources: dict[str, Any]

    def map(self, run: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """The result of every task, in their order. Ray starts an actor that dies again and repeats its task."""
        import ray
        from ray.util import ActorPool

        shared, threads = ray.put(run), max(1, int(self.resources["num_cpus"]))
        actor = ray.remote(max_restarts=3, max_task_retries=2, **self.resources)(_Worker)
        actors: list[Any] = [actor.remote(shared, threads, library_versions()) for _ in range(self.workers)]
        pool: Any = ActorPool(actors)
        try:
            for task in tasks:
                if not pool.has_free():
                    yield pool.get_next()
                pool.submit(lambda worker, task: worker.measure.remote(task), task)
            while pool.has_next():
                yield pool.get_next()
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, PermeationError) else error from error
        except ray.exceptions.RayActorError as error:
            raise PermeationError(f"a worker ended, and again when it was started anew: {error}") from error
        finally:
            for each in actors:
                ray.kill(each)


class _Worker:
    """What runs in an actor."""

    def __init__(self, run: Callable[[Any], Any], threads: int, versions: dict[str, str]) -> None:
        import torch

        torch.set_num_threads(threads)
        self.run, self.versions = run, versions

    def measure(self, task: Any) -> Any:
        """One task; raises PermeationError where this node is not set up as the driver's is."""
        if (here := library_versions()) != self.versions:
            other = ", ".join(f"{name} {here[name]}" for name in here if here[name] != self.versions[name])
            raise PermeationError(f"a worker has other libraries: {other}; accepted: {self.versions}")
        for folder in getattr(self.run, "folders", ()):
            if not folder.is_dir():
                raise PermeationError(f"{folder} is missing on a worker; accepted: a folder that all nodes share")
        return self.run(task)


@contextmanager
def engine_of(kind: str, workers: int | str, address: str | None, device: str) -> Iterator[Engine]:
    """The engine that params.yaml asks for, until the block ends. Ray is imported where it is asked for alone.

    Raises PermeationError where Ray is not installed, no cluster answers at the address, or it is too small.
    """
    if kind == "local":
        yield Local()
        return
    try:
        import ray
    except ImportError as error:
        raise PermeationError("engine.kind is ray, which is not installed; make setup RAY=1 installs it") from error
    _check_address(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    code = {"env_vars": {"PYTHONPATH": path}} if address is None else {"py_modules": [str(PACKAGE)]}
    try:
        ray.init(
            address=address or "local",
            runtime_env=code,
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise PermeationError(f"engine.address is {address}; Ray says: {str(error).strip().splitlines()[0]}") from error
    try:
        yield _engine_on(ray.cluster_resources(), workers, device)
    finally:
        ray.shutdown()


def _engine_on(cluster: dict[str, float], workers: int | str, device: str) -> RayEngine:
    """Workers for a cluster: one for each GPU, or for each four processors, unless a number is asked for."""
    processors, gpus = int(cluster.get("CPU", 0)), int(cluster.get("GPU", 0))
    have, usual = (gpus, gpus) if device == "cuda" else (processors, max(1, processors // PROCESSORS_PER_WORKER))
    count = usual if workers == "auto" else int(workers)
    if not 1 <= count <= have:
        kind = "GPUs" if device == "cuda" else "processors"
        raise PermeationError(
            f"engine.workers is {workers}; the cluster has {have} {kind}; accepted: auto, or up to it"
        )
    share = max(1, processors // count) if device != "cuda" else processors // count
    return RayEngine(count, {"num_cpus": share, **({"num_gpus": 1} if device == "cuda" else {})})


def _check_address(address: str | None) -> None:
    """Raise PermeationError where nothing listens at host:port; Ray itself would wait for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise PermeationError(f"engine.address is {address}; nothing answers there: {error.strerror}") from error

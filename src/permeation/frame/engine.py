"""Where a stage's independent measurements run: in this process, or on Ray workers (docs/cluster.md).

A measurement is `run(task)`: `run` holds what all tasks share. Results come in the order of the tasks.
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
from typing import Any

import torch

from permeation.frame.errors import PermeationError, one_line

PROCESSORS_PER_WORKER = 4
PACKAGE = Path(__file__).parents[1]  # sent to the workers


@dataclass(frozen=True)
class ModelRun:
    """What runs that share a model have in common; `read` gives the model when it is first needed."""

    read: Callable[[], Any]

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: the model is never pickled."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def model(self) -> Any:
        """The untouched model."""
        return self.read()


class Local:
    """Everything in this process."""

    def map(self, run: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """The result of every task. Unlike a for loop, map() drops a task's weights before the next one's are made."""
        return map(run, tasks)


@dataclass
class RayEngine:
    """Ray actors: `workers` of them, each with its own copy of the model, so many processors and so many GPUs."""

    workers: int
    processors: int
    gpus: int
    # The run that the actors hold, they themselves, and their place in the cluster.
    _held: tuple[Any, list[Any], Any] | None = field(default=None, init=False, compare=False)

    def map(self, run: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """The result of every task, in their order. Ray starts an actor that dies again and repeats its task."""
        import ray

        try:
            pool: Any = ray.util.ActorPool(self._actors(run))
            for task in tasks:
                if not pool.has_free():
                    yield pool.get_next()
                pool.submit(lambda worker, task: worker.measure.remote(task), task)
            while pool.has_next():
                yield pool.get_next()
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, PermeationError) else error) from None
        except ray.exceptions.RayActorError as error:
            raise PermeationError(f"a worker ended, and again after each restart: {one_line(error)}") from error

    def _actors(self, run: Callable[[Any], Any]) -> list[Any]:
        """Workers that hold `run`. They stay until another run needs their place: loading the model takes seconds."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as Inside

        if self._held is None or self._held[0] is not run:
            if self._held is not None:
                ray.util.remove_placement_group(self._held[2])
            # Reserved at once: two runs that held half of a cluster each would wait for each other for ever.
            room = ray.util.placement_group([{"CPU": self.processors, "GPU": self.gpus}] * self.workers)
            ray.get(room.ready())
            share = {"num_cpus": self.processors, "num_gpus": self.gpus, "scheduling_strategy": Inside(room)}
            worker = ray.remote(_Worker).options(max_restarts=3, max_task_retries=2, **share)
            self._held = run, [worker.remote(run, max(1, self.processors)) for _ in range(self.workers)], room
        return self._held[1]


class _Worker:
    """What runs in an actor."""

    def __init__(self, run: Callable[[Any], Any], threads: int) -> None:
        torch.set_num_threads(threads)
        self.run = run

    def measure(self, task: Any) -> Any:
        return self.run(task)


Engine = Local | RayEngine


@contextmanager
def engine_of(kind: str, workers: int | str, address: str | None, device: str) -> Iterator[Engine]:
    """The engine that params.yaml asks for, until the block ends.

    Raises PermeationError if Ray is not installed, if no cluster answers at the address, or if it is too small.
    """
    if kind == "local":
        yield Local()
        return
    try:
        import ray
    except ImportError as error:
        raise PermeationError("engine.kind is ray; Ray is not installed; make setup RAY=1 installs it") from error
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    host, _, port = (address or "").rpartition(":")
    try:
        if host:  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            address=address or "local",
            runtime_env={"py_modules": [str(PACKAGE)]},
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise PermeationError(f"engine.address is {address}; nothing answers there: {one_line(error)}") from error
    try:
        yield _engine_on([node["Resources"] for node in ray.nodes() if node["Alive"]], workers, device)
    finally:
        ray.shutdown()  # gives the workers' place back


def _engine_on(nodes: list[dict[str, float]], workers: int | str, device: str) -> RayEngine:
    """Workers for a cluster: a number, or one per GPU, or one per four processors. Each fits on a node."""
    gpus, processors = ([int(node.get(name, 0)) for node in nodes] for name in ("GPU", "CPU"))
    kind, have = ("GPUs", sum(gpus)) if device == "cuda" else ("processors", sum(processors))
    usual = have if device == "cuda" else max(1, have // PROCESSORS_PER_WORKER)
    count = usual if workers == "auto" else int(workers)
    if not 1 <= count <= have:
        raise PermeationError(f"engine.workers is {workers}; the cluster has {have} {kind}")
    if device == "cuda":
        return RayEngine(count, min(cpu // gpu for cpu, gpu in zip(processors, gpus, strict=True) if gpu), 1)
    return RayEngine(count, max(n for n in range(1, have + 1) if sum(each // n for each in processors) >= count), 0)

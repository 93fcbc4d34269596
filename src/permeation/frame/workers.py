"""An engine of Ray actors: each holds what the tasks share and takes one task at a time; one that dies is replaced."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from permeation.frame.engine import EngineSettings, Progress, Run
from permeation.frame.errors import PermeationError
from permeation.frame.journal import library_versions
from permeation.frame.sealed import SEAL, replacing

try:
    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
except ImportError as error:
    raise PermeationError(
        "engine.kind is ray, and Ray is not installed; make setup RAY=1 installs it; accepted without it: local"
    ) from error

PROCESSORS_PER_WORKER = 4
TRIES = 2  # of a task whose worker died or that failed
SILENCE = 20.0  # seconds of waiting for room in the cluster before that is said
QUEUED = 2  # tasks that a worker has at hand: the next one is there when it is done
SOURCE = Path(__file__).parents[1]  # the package, which joins the job on other machines


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder and what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class _Worker:
    """What runs in an actor."""

    def __init__(self, run: Run[Any, Any], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.run = run

    def lacks(self, folders: list[tuple[str, bytes]]) -> list[str]:
        """Which of these folders this machine does not have, told by the seal of what they hold."""
        return [name for name, seal in folders if not (at := Path(name, SEAL)).is_file() or at.read_bytes() != seal]

    def receive(self, folder: str, files: dict[str, bytes]) -> None:
        """Put a folder where the driver has it: whole, or not at all."""
        with replacing(Path(folder)) as draft:
            for name, content in files.items():
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def versions(self) -> dict[str, str]:
        return library_versions()  # pragma: no cover (in a worker)

    def measure(self, task: Any) -> Any:
        return self.run(task, lambda _: None)  # pragma: no cover (in a worker)


@dataclass
class _Sent:
    name: str
    task: Any
    actor: int
    result: Any
    tries: int = 1


@dataclass
class RayEngine:
    """Ray actors, one for each GPU or share of processors.

    Attributes:
        workers: how many. resources: what each takes of the cluster. threads: of torch in each.
    """

    workers: int
    resources: dict[str, int]
    threads: int
    _run: Run[Any, Any] | None = None
    _shared: Any = None  # the run, in the object store
    _actors: list[Any] = field(default_factory=list)
    _room: Any = None  # what is reserved in the cluster

    @classmethod
    @contextmanager
    def started(cls, settings: EngineSettings, device: str) -> Iterator[RayEngine]:
        """Join a cluster or start one on this machine, and leave it at the end of the block, whatever happens in it.

        Raises PermeationError where no cluster is at the address, or it is of another version, or too small.
        """
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what a worker sees is what it was given
        path = os.pathsep.join(filter(None, (str(SOURCE.parent), os.environ.get("PYTHONPATH"))))
        there: dict[str, Any] = {"env_vars": {"PYTHONPATH": path}}
        if settings.address is not None:
            there = {"py_modules": [str(SOURCE)]}
        _reach(settings.address)
        try:
            ray.init(
                address=settings.address or "local",
                runtime_env=there,
                include_dashboard=False if settings.address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise PermeationError(f"engine.address is {settings.address}; Ray says: {first}") from error
        try:
            yield cls.within(settings, device, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        finally:
            ray.shutdown()

    @classmethod
    def within(cls, settings: EngineSettings, device: str, nodes: Sequence[Mapping[str, float]]) -> RayEngine:
        """The engine on a cluster whose nodes have these resources. No worker needs more than one node has."""
        processors, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
        kind, have, usual = "CPU", processors, max(1, processors // PROCESSORS_PER_WORKER)
        if device == "cuda":
            kind, have, usual = "GPU", gpus, gpus
        workers = usual if settings.workers == "auto" else settings.workers
        if not 1 <= workers <= have:
            raise PermeationError(
                f"engine.workers is {settings.workers}; the cluster has {have} {kind}; accepted: auto, or 1 to {have}"
            )
        shares = range(processors // workers, 0, -1)
        share = next((each for each in shares if _places(nodes, kind, each) >= workers), 0)
        resources: dict[str, int] = {"num_gpus": 1} if kind == "GPU" else {}
        return cls(workers, {"num_cpus": share, **resources}, max(1, share))

    def map(self, run: Run[Any, Any], tasks: Iterable[tuple[str, Any]], progress: Progress) -> Iterator[Any]:  # noqa: ARG002
        """The result of every task, in their order; nothing is told before one is done.

        A task whose worker died, or that failed, is given once more; then PermeationError names it. An error that is
        said in words (PermeationError) ends it at once.
        """
        sent = deque[_Sent]()
        for name, task in tasks:
            self._hold(run)
            busy = Counter(each.actor for each in sent if not _done(each))
            actor, kept = min(range(self.workers), key=busy.__getitem__), ray.put(task)
            sent.append(_Sent(name, kept, actor, self._actors[actor].measure.remote(kept)))
            if len(sent) == QUEUED * self.workers:
                yield self._result(sent.popleft(), sent)
        while sent:
            yield self._result(sent.popleft(), sent)

    def _result(self, first: _Sent, others: deque[_Sent]) -> Any:
        while True:
            try:
                return ray.get(first.result)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, PermeationError):
                    raise error.cause from error
                said: Exception = error
            except ray.exceptions.RayActorError as error:
                said = error
                self._replace(first.actor, others)
            if first.tries == TRIES:
                raise PermeationError(f"{first.name}: failed {TRIES} times on a worker: {_last_line(said)}") from said
            first.tries += 1
            first.result = self._actors[first.actor].measure.remote(first.task)

    def _hold(self, run: Run[Any, Any]) -> None:
        """Start the actors, unless they hold this run already."""
        if self._run is not run:
            for actor in self._actors:
                ray.kill(actor)  # it holds the processors that the new ones need
            self._run, self._shared = run, ray.put(run)
            self._room = self._room or self._reserve()
            self._actors = [self._start() for _ in range(self.workers)]

    def _reserve(self) -> Any:
        """Room for all workers, taken at once: two stages that held half of it each would wait for ever.

        It is given back when the stage leaves the cluster; until then other stages wait.
        """
        names = {"num_cpus": "CPU", "num_gpus": "GPU"}
        each = {names[name]: float(number) for name, number in self.resources.items() if number}
        room = placement_group([each] * self.workers)
        if not room.wait(SILENCE):
            sys.stderr.write(f"the cluster has no room for {self.workers} workers now; waiting\n")
            ray.get(room.ready())
        return room

    def _start(self) -> Any:
        inside = PlacementGroupSchedulingStrategy(self._room)
        options = {**self.resources, "scheduling_strategy": inside}
        actor: Any = ray.remote(_Worker).options(**options).remote(self._shared, self.threads)
        if (theirs := ray.get(actor.versions.remote())) != (ours := library_versions()):
            other = ", ".join(
                f"{name} {theirs[name]} (here {ours[name]})" for name in ours if theirs[name] != ours[name]
            )
            raise PermeationError(
                f"a worker of the cluster has other libraries: {other}; accepted: the same everywhere"
            )
        folders = [Path(folder) for folder in getattr(self._run, "folders", ())]
        seals = [(str(folder), (folder / SEAL).read_bytes()) for folder in folders]
        for lacking in ray.get(actor.lacks.remote(seals)):  # pragma: no cover (on another machine)
            ray.get(actor.receive.remote(lacking, files_of(Path(lacking))))
        return actor

    def _replace(self, dead: int, others: deque[_Sent]) -> None:
        """A new actor in the place of a dead one; what else it had at hand is given to the new one."""
        self._actors[dead] = self._start()
        for each in others:
            if each.actor == dead:
                each.result = self._actors[dead].measure.remote(each.task)


def _reach(address: str | None) -> None:
    """Raise PermeationError where nothing listens at host:port; Ray itself would wait for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise PermeationError(f"engine.address is {address}; nothing answers there: {error.strerror}") from error


def _places(nodes: Sequence[Mapping[str, float]], kind: str, share: int) -> int:
    """How many workers find a place, each with a share of one node's processors and, where `kind` is GPU, a GPU."""
    return sum(int(min(node.get("CPU", 0) // share, node.get(kind, 0))) for node in nodes)


def _done(sent: _Sent) -> bool:
    ready, _ = ray.wait([sent.result], timeout=0)
    return bool(ready)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__

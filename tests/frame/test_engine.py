"""Tasks on Ray's workers: the same results in the same order, whatever happens to a worker."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from permeation.frame.engine import ModelRun, RayEngine, _engine_on, engine_of
from permeation.frame.errors import PermeationError
from tests.conftest import PROJECT

# Files that Ray leaves open at its end.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
NO_RAY = "Ray is not installed (make setup RAY=1)"


@dataclass(frozen=True)
class Square(ModelRun):
    """Squares its task, and misbehaves as it is told."""

    folder: Path

    def __call__(self, task: int) -> int:
        once = self.folder / str(task)
        if task % 10 == 3 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 1000:
            raise ValueError("no thousand")
        if task == 2000:
            raise PermeationError("two thousand is refused")
        time.sleep(0.01 * (task % 3))
        return int(self.model) * task * task


def one() -> int:
    return 1


def pid(_: int) -> int:
    return os.getpid()


def other_pid(_: int) -> int:
    return os.getpid()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two nodes of one processor each, made with Ray's own utilities in one process tree."""
    utils: Any = pytest.importorskip("ray.cluster_utils", reason=NO_RAY)
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes do not have the tests
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made.address
    ray.shutdown()
    made.shutdown()


def test_a_model_is_read_once_and_never_pickled(tmp_path: Path) -> None:
    square = Square(one, folder=tmp_path)
    assert square.model == 1
    assert "model" in vars(square)
    assert "model" not in vars(pickle.loads(pickle.dumps(square)))


def test_the_results_of_a_cluster_come_in_order_though_workers_die(address: str, tmp_path: Path) -> None:
    numbers = range(14)
    with engine_of("ray", 2, address, "cpu") as engine:
        assert list(engine.map(Square(one, folder=tmp_path), [])) == []
        assert list(engine.map(Square(one, folder=tmp_path), numbers)) == [n * n for n in numbers]
    assert (tmp_path / "3").exists()
    assert (tmp_path / "13").exists()


def test_tasks_are_drawn_as_workers_take_them(address: str, tmp_path: Path) -> None:
    drawn: list[int] = []
    with engine_of("ray", 2, address, "cpu") as engine:
        found = engine.map(Square(one, folder=tmp_path), (drawn.append(n) or n for n in (4, 5, 6, 7)))
        assert next(found) == 16
        assert drawn == [4, 5, 6]


def test_workers_stay_for_the_next_list_of_the_same_run(address: str) -> None:
    """And make place for those of another run."""
    with engine_of("ray", 2, address, "cpu") as engine:
        first, second = ({*engine.map(pid, [1, 2])} for _ in range(2))
        assert len(first) == 2
        assert first == second
        assert first.isdisjoint(engine.map(other_pid, [1, 2]))


def test_an_error_on_a_worker_is_raised_here(address: str, tmp_path: Path) -> None:
    with engine_of("ray", 2, address, "cpu") as engine:
        with pytest.raises(PermeationError, match=r"^two thousand is refused$"):
            list(engine.map(Square(one, folder=tmp_path), [1, 2000, 2]))
        with pytest.raises(ValueError, match="no thousand"):
            list(engine.map(Square(one, folder=tmp_path), [1, 1000, 2]))


def test_two_runs_that_want_the_whole_cluster_take_turns(address: str, tmp_path: Path) -> None:
    """With a worker each they would wait for each other."""
    script = tmp_path / "other.py"
    script.write_text(
        "from permeation.frame.engine import engine_of\n"
        "def twice(task):\n"
        "    return 2 * task\n"
        f"with engine_of('ray', 2, {address!r}, 'cpu') as engine:\n"
        "    for found in engine.map(twice, [1, 2]): print(found, flush=True)\n"
    )
    with engine_of("ray", 2, address, "cpu") as engine:
        assert list(engine.map(Square(one, folder=tmp_path), [1, 2])) == [1, 4]
        other = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(8)
    assert other.communicate(timeout=120)[0] == "2\n4\n"


def test_an_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    (tmp_path / "long.py").write_text(
        "import time\n"
        "from permeation.frame.engine import engine_of\n"
        "from permeation.stage import run\n"
        "def main(stage):\n"
        "    with engine_of('ray', 1, None, 'cpu') as engine:\n"
        "        for _ in engine.map(time.sleep, [0, 600]): print('begun', flush=True)\n"
        "run('__main__')\n"
    )
    command = [sys.executable, str(tmp_path / "long.py"), "--output-dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    mine = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in each.name() for each in mine)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    process.stdout.close()
    _, alive = psutil.wait_procs(mine, timeout=20)
    assert alive == []


def test_a_cluster_that_is_not_there_is_an_error() -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    with (
        pytest.raises(PermeationError, match=r"engine.address is 127.0.0.1:1; nothing answers there"),
        engine_of("ray", 1, "127.0.0.1:1", "cpu"),
    ):
        pass


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(PermeationError, match="Ray is not installed; make setup RAY=1 installs it"),
        engine_of("ray", 1, None, "cpu"),
    ):
        pass


BIG, SMALL, HEAD = {"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 1.0}, {"node:__internal_head__": 1.0}


@pytest.mark.parametrize(
    ("nodes", "workers", "device", "expected"),
    [
        ([BIG, SMALL, HEAD], "auto", "cpu", RayEngine(3, 4, 0)),
        ([BIG, SMALL, HEAD], 1, "cpu", RayEngine(1, 8, 0)),  # a worker has to fit on a node
        ([BIG, SMALL, HEAD], 2, "cpu", RayEngine(2, 4, 0)),
        ([BIG, SMALL, HEAD], 12, "cpu", RayEngine(12, 1, 0)),
        ([BIG, SMALL, HEAD], "auto", "cuda", RayEngine(3, 4, 1)),
        ([{"CPU": 1.0, "GPU": 2.0}], "auto", "cuda", RayEngine(2, 0, 1)),
        ([{"CPU": 2.0}], "auto", "cpu", RayEngine(1, 2, 0)),
    ],
)
def test_workers_share_the_nodes(nodes: list[dict[str, float]], workers: Any, device: str, expected: RayEngine) -> None:
    assert _engine_on(nodes, workers, device) == expected


@pytest.mark.parametrize(
    ("workers", "device", "message"),
    [(13, "cpu", "engine.workers is 13; the cluster has 12 processors"), ("auto", "cuda", "the cluster has 0 GPUs")],
)
def test_more_workers_than_there_is_room_for_are_refused(workers: Any, device: str, message: str) -> None:
    with pytest.raises(PermeationError, match=message):
        _engine_on([{"CPU": 12.0}], workers, device)

"""Tasks on Ray's workers: the same results in the same order, whatever happens to a worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from permeation.frame.engine import EngineSettings, Local, engine_of
from permeation.frame.errors import PermeationError
from tests.conftest import PROJECT

HERE = EngineSettings("ray", 2, None)
# Files that Ray leaves open at its end.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@dataclass(frozen=True)
class Square:
    """Squares its task, and misbehaves the first times as it is told."""

    folder: Path

    def __call__(self, task: int, progress: Callable[[int], object]) -> int:
        progress(1)
        once = self.folder / str(task)
        if task < 0 or (task % 10 == 3 and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 1000:
            raise ValueError("no thousand")
        if task == 2000:
            raise PermeationError("two thousand is refused")
        time.sleep(0.01 * (task % 3))
        return task * task


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, made with Ray's own utilities in one process tree."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed (make setup RAY=1)")
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes do not have the tests
    made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield replace(HERE, address=made.address)
    ray.shutdown()
    made.shutdown()


def tasks(*numbers: int) -> list[tuple[str, int]]:
    return [(f"task {number}", number) for number in numbers]


def test_one_process_takes_the_tasks_as_they_come(tmp_path: Path) -> None:
    told: list[int] = []
    assert list(Local().map(Square(tmp_path), tasks(1, 2, 4), told.append)) == [1, 4, 16]
    assert told == [1, 1, 1]
    with engine_of(EngineSettings("local", "auto", None), "cpu") as engine:
        assert isinstance(engine, Local)


def test_the_results_of_a_cluster_come_in_order_though_workers_die(cluster: EngineSettings, tmp_path: Path) -> None:
    with engine_of(cluster, "cpu") as engine:
        assert engine.workers == 2
        assert list(engine.map(Square(tmp_path), tasks(5), lambda _: None)) == [25]
        assert list(engine.map(Square(tmp_path), [], lambda _: None)) == []
        numbers = range(14)
        found = list(engine.map(Square(tmp_path), tasks(*numbers), lambda _: None))
    assert found == [number * number for number in numbers]
    assert (tmp_path / "3").exists()
    assert (tmp_path / "13").exists()


def test_what_fails_twice_ends_with_its_name(cluster: EngineSettings, tmp_path: Path) -> None:
    square = Square(tmp_path)  # one for all: the workers keep it
    with engine_of(cluster, "cpu") as engine:
        for number, message in (
            (2000, "two thousand is refused"),
            (1000, "task 1000: failed 2 times on a worker: ValueError: no thousand"),
            (-1, "task -1: failed 2 times on a worker"),
        ):
            with pytest.raises(PermeationError, match=message):
                list(engine.map(square, tasks(1, number, 2), lambda _: None))


def test_other_libraries_on_a_worker_are_said(
    cluster: EngineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from permeation.frame import workers as module

    ours = module.library_versions()
    monkeypatch.setattr(module, "library_versions", lambda: ours | {"torch": "1.0"})
    with engine_of(cluster, "cpu") as engine, pytest.raises(PermeationError, match=r"other libraries: torch 2.*1\.0"):
        list(engine.map(Square(tmp_path), tasks(1), lambda _: None))


@pytest.mark.parametrize(
    ("workers", "device", "message"),
    [(3, "cpu", "engine.workers is 3; the cluster has 2 CPU; accepted"), ("auto", "cuda", "the cluster has 0 GPU")],
)
def test_more_workers_than_there_is_room_for_are_refused(
    cluster: EngineSettings, workers: Any, device: str, message: str
) -> None:
    with pytest.raises(PermeationError, match=message), engine_of(replace(cluster, workers=workers), device):
        pass


def test_a_cluster_that_is_not_there_is_an_error() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    absent = replace(HERE, address="127.0.0.1:1")
    environment = {"RAY_ADDRESS": "", "RAY_TMPDIR": "/tmp/no-ray-here"}
    script = f"from permeation.frame.engine import EngineSettings, engine_of\nwith engine_of({absent!r}, 'cpu'): pass\n"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert "PermeationError: engine.address is 127.0.0.1:1; nothing answers there: Connection refused" in done.stderr


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "permeation.frame.workers", raising=False)
    with pytest.raises(PermeationError, match="Ray is not installed; make setup RAY=1 installs it"):
        engine_of(HERE, "cpu")


def test_a_worker_takes_a_gpu_or_four_processors() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    from permeation.frame.workers import RayEngine

    usual = replace(HERE, workers="auto")
    on_gpus = RayEngine.within(usual, "cuda", [{"CPU": 16.0, "GPU": 4.0}])
    assert (on_gpus.workers, on_gpus.threads, on_gpus.resources) == (4, 4, {"num_cpus": 4, "num_gpus": 1})
    on_processors = RayEngine.within(usual, "cpu", [{"CPU": 16.0, "GPU": 4.0}])
    assert (on_processors.workers, on_processors.resources) == (4, {"num_cpus": 4})
    assert RayEngine.within(usual, "cpu", [{"CPU": 2.0}]).threads == 2


def test_a_worker_fits_on_a_node() -> None:
    """A worker that asked for the processors of two nodes would never start."""
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    from permeation.frame.workers import RayEngine

    nodes = [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}, {"node:__internal_head__": 1.0}]
    threads = [RayEngine.within(replace(HERE, workers=workers), "cpu", nodes).threads for workers in (1, 2, 3, 12)]
    assert threads == [8, 4, 4, 1]
    assert RayEngine.within(replace(HERE, workers="auto"), "cuda", nodes).resources == {"num_cpus": 4, "num_gpus": 1}
    poor = RayEngine.within(replace(HERE, workers="auto"), "cuda", [{"CPU": 1.0, "GPU": 2.0}])
    assert (poor.threads, poor.resources) == (1, {"num_cpus": 0, "num_gpus": 1})


def test_one_worker_of_a_cluster_of_small_nodes_starts(cluster: EngineSettings, tmp_path: Path) -> None:
    with engine_of(replace(cluster, workers=1), "cpu") as engine:
        assert list(engine.map(Square(tmp_path), tasks(5), lambda _: None)) == [25]


def test_two_that_want_the_whole_cluster_take_turns(cluster: EngineSettings, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    script = tmp_path / "other.py"
    script.write_text(
        "from permeation.frame import workers\n"
        "from permeation.frame.engine import EngineSettings, engine_of\n"
        "workers.SILENCE = 0.5\n"
        "class Twice:\n"
        "    def __call__(self, task, progress):\n"
        "        return 2 * task\n"
        f"with engine_of({cluster!r}, 'cpu') as engine:\n"
        "    print(list(engine.map(Twice(), [('one', 1), ('two', 2)], print)), flush=True)\n"
    )
    with engine_of(cluster, "cpu") as engine:
        assert list(engine.map(Square(tmp_path), tasks(5), lambda _: None)) == [25]
        pipe = subprocess.PIPE
        other = subprocess.Popen([sys.executable, str(script)], stdout=pipe, stderr=pipe, text=True)
        assert other.stderr is not None
        assert any(line == "the cluster has no room for 2 workers now; waiting\n" for line in other.stderr)
        assert list(engine.map(Square(tmp_path), tasks(6), lambda _: None)) == [36]
        assert other.poll() is None
    output, _ = other.communicate(timeout=60)
    assert output == "[2, 4]\n"


def test_what_ray_says_of_another_version_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")

    def refuse(**_: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n  Ray: 2.1")

    monkeypatch.setattr(ray, "init", refuse)
    said = "engine.address is None; Ray says: Version mismatch: The cluster was started with:"
    with pytest.raises(PermeationError, match=said), engine_of(HERE, "cpu"):
        pass


def test_a_folder_that_a_worker_lacks_is_told_by_its_seal_and_sent_whole(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    from permeation.frame.workers import SEAL, _Worker, files_of

    source, copy = tmp_path / "model", tmp_path / "copy"
    (source / "deep").mkdir(parents=True)
    (source / SEAL).write_bytes(b"seal")
    (source / "deep" / "weights").write_bytes(b"many")
    worker = _Worker(Square(tmp_path), 1)
    asked = [(str(source), b"seal"), (str(source), b"other"), (str(copy), b"seal")]
    assert worker.lacks(asked) == [str(source), str(copy)]
    worker.receive(str(copy), files_of(source))
    assert worker.lacks(asked[2:]) == []
    assert (copy / "deep" / "weights").read_bytes() == b"many"


def test_nothing_of_ray_is_imported_unless_it_is_asked_for() -> None:
    stages = [path.stem for path in (PROJECT / "stages").glob("*.py") if path.stem != "__init__"]
    script = f"import sys\nfor name in {stages}: __import__('stages.' + name)\nassert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True)


def test_an_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    script = tmp_path / "long.py"
    script.write_text(
        "import time\n"
        "from permeation.frame.engine import EngineSettings, engine_of\n"
        "from permeation.frame.signals import leaving_in_order\n"
        "class Slow:\n"
        "    def __call__(self, task, progress):\n"
        "        time.sleep(task)\n"
        # As a stage does: Ray may swallow what a signal's handler raises.
        f"with leaving_in_order(), engine_of({replace(HERE, workers=1)!r}, 'cpu') as engine:\n"
        "    for _ in engine.map(Slow(), [('short', 0), ('long', 600)], print): print('begun', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    mine = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in each.name() for each in mine)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) != 0
    gone, alive = psutil.wait_procs(mine, timeout=20)
    assert alive == []
    assert gone

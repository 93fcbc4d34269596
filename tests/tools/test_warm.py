"""Stages that a server starts run as `python -m stages.…` runs them, and end as they end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from permeation.frame.pipeline import ASKED_FOR, stages_of
from permeation.frame.tables import read_yaml
from tests.support.project import PROJECT
from tools import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server is for Linux")

SHOW = """
import json, os, signal, sys
import helper
print(json.dumps({
    "argv": sys.argv, "name": __name__, "spec": __spec__.name, "path": sys.path[:3], "folder": os.getcwd(),
    "value": os.environ["VALUE"], "read": sys.stdin.read(), "helper": helper.NAME, "parent": os.getppid(),
    "hears Ctrl-C": signal.getsignal(signal.SIGINT) is signal.default_int_handler, "torch": "torch" in sys.modules,
}))
print("to stderr", file=sys.stderr)
"""
STAGES = {
    "show": SHOW,
    "fail": "import sys; sys.exit('it is said why')",
    "three": "import sys; sys.exit(3)",
    "crash": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "raise": "1 / 0",
    "wait": "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "stages").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "helper.py").write_text("NAME = 'of the project'\n")
    for name, code in STAGES.items():
        (tmp_path / "stages" / f"{name}.py").write_text(code)
    return tmp_path


@pytest.fixture
def server() -> Iterator[int]:
    """A server, started as tools/dvc does, for a process that stands for DVC; with that it is gone."""
    serve = f"{sys.executable} -I {PROJECT}/tools/warm.py serve $$ & exec sleep 600"
    with subprocess.Popen(["sh", "-c", serve], stderr=subprocess.PIPE, text=True) as dvc:
        while f"@semantic-permeation-{dvc.pid}" not in Path("/proc/net/unix").read_text():
            assert dvc.poll() is None
            time.sleep(0.01)
        (process,) = psutil.Process(dvc.pid).children()
        yield dvc.pid
        assert process.is_running()
        dvc.kill()
        process.wait(10)
        assert dvc.stderr is not None
        assert dvc.stderr.read() == ""


def start(project: Path, dvc: int, stage: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-IS", str(PROJECT / "tools" / "warm.py"), "run", str(dvc), stage]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PYTHONPATH": "src:.", "VALUE": "12", "PATH": path}
    return subprocess.Popen(command, cwd=project, env=os.environ | own, text=True, **pipes, **options)  # type: ignore[call-overload, no-any-return]


def test_a_stage_has_what_python_gives_it(project: Path, server: int) -> None:
    """The same with a server and without one, but for its parent."""
    with start(project, server, "show") as warm_stage, start(project, 2**22 + 1, "show") as cold_stage:
        said = [each.communicate("some text") for each in (warm_stage, cold_stage)]
    (found, cold), errors = [json.loads(out) for out, _ in said], [err for _, err in said]
    assert errors == ["to stderr\n"] * 2
    assert warm_stage.returncode == cold_stage.returncode == 0
    assert found["argv"] == [str(project / "stages" / "show.py")]
    assert (found["helper"], found["read"], found["hears Ctrl-C"]) == ("of the project", "some text", True)
    assert cold.pop("parent") == os.getpid()
    assert psutil.Process(found.pop("parent")).ppid() == server
    assert found == cold


@pytest.mark.parametrize(
    ("stage", "code", "said"),
    [("fail", 1, "it is said why"), ("three", 3, ""), ("crash", 137, ""), ("raise", 1, "ZeroDivisionError")],
)
def test_a_stage_that_fails_is_heard(project: Path, server: int, stage: str, code: int, said: str) -> None:
    with start(project, server, stage) as process:
        _, errors = process.communicate()
    assert process.returncode == code
    assert said in errors


def interrupted(client: subprocess.Popen[str], stage: psutil.Process) -> None:
    stage.send_signal(signal.SIGINT)
    client.send_signal(signal.SIGINT)  # a terminal sends it to both


def killed(client: subprocess.Popen[str], _: psutil.Process) -> None:
    client.kill()


@pytest.mark.parametrize(("how", "code"), [(interrupted, 130), (killed, -9)])
def test_client_and_stage_end_together(
    project: Path, server: int, how: Callable[[subprocess.Popen[str], psutil.Process], None], code: int
) -> None:
    with start(project, server, "wait") as client:
        while not (project / "pid").is_file() or not (pid := (project / "pid").read_text()):
            time.sleep(0.01)
        stage = psutil.Process(int(pid))
        how(client, stage)
        assert client.wait(10) == code
    stage.wait(10)


def test_a_stage_that_hears_no_interrupt_hears_none_here(project: Path, server: int) -> None:
    deaf = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    with start(project, server, "show", **deaf) as process:
        out, _ = process.communicate("")
    assert json.loads(out)["hears Ctrl-C"] is False


def test_a_request_too_large_is_run_without_the_server(
    project: Path, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        monkeypatch.setenv(f"LARGE_{i}", "x" * 100_000)
    with start(project, server, "show") as process:
        out, _ = process.communicate("")
    assert json.loads(out)["parent"] == os.getpid()


def test_the_libraries_are_for_stages_with_a_model() -> None:
    light = {"fetch_corpus", "compute_sigma", "fit_g", "nulls", "decode", "controls", "pca"}
    light |= {"report_meaning", "report_weights", "report", "report_heads"}
    on_demand = read_yaml(PROJECT / ASKED_FOR)["stages"]
    asked = {stage: f"{ASKED_FOR}:{stage}" if stage in on_demand else stage for stage in stages_of(PROJECT)}
    heavy = {
        stage
        for stage, name in asked.items()
        if warm.has_model({"folder": str(PROJECT), "environment": {"DVC_STAGE": name}})
    }
    assert heavy == asked.keys() - light


def test_a_stage_that_dvc_does_not_know_has_no_model(tmp_path: Path) -> None:
    for stage in ("none", "heads/dvc.yaml:none", ""):
        assert not warm.has_model({"folder": str(PROJECT), "environment": {"DVC_STAGE": stage}})
    assert not warm.has_model({"folder": str(tmp_path), "environment": {"DVC_STAGE": "pca"}})

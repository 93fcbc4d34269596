"""docs/cluster.md, Many experiments: two queued experiments at once on one running Ray cluster."""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.project import call, duplicate, environment

pytestmark = pytest.mark.end_to_end
PATIENCE = 120  # seconds


@pytest.fixture
def project(finished_project: Path, tmp_path: Path) -> Iterator[Path]:
    """A project that was run once; what still runs in it at the end is ended."""
    mine = duplicate(finished_project, tmp_path)
    yield mine
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(mine):
                process.kill()


@pytest.fixture
def address(project: Path) -> Iterator[str]:
    """A node with two processors, started by the documented command on a port of its own."""
    pytest.importorskip("ray", reason="Ray is not installed (make setup RAY=1)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the paths of sockets may not be long
    command = [project / ".venv" / "bin" / "ray", "start", "--head", f"--port={port}", "--num-cpus=2", "--block"]
    options = ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--include-dashboard=false"]
    with subprocess.Popen(
        [*command, *options, "--disable-usage-stats"],
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as node:
        assert node.stdout is not None
        for line in node.stdout:
            if "--block" in line:
                break
        started = psutil.Process(node.pid).children(recursive=True)
        yield f"127.0.0.1:{port}"
        node.terminate()
        _, alive = psutil.wait_procs(started, timeout=20)
        for process in alive:
            process.kill()
        node.stdout.read()
    shutil.rmtree(folder, ignore_errors=True)


def test_two_queued_experiments_share_a_cluster(project: Path, address: str) -> None:
    """Both want all of its workers. The ratios are those that one process measured, to the last digit."""
    engine = ("-S", "engine.kind=ray", "-S", "engine.workers=2", "-S", f"engine.address={address}")
    local = json.loads((project / "metrics" / "perplexity.json").read_text())
    for name, components in (("one", "[1,all]"), ("two", "[2,all]")):
        asked = ("--name", name, *engine, "-S", f"reconstruct.components={components}")
        assert "Queued experiment" in call(project, "dvc", "exp", "run", "--queue", *asked, "report_weights")
    call(project, "dvc", "queue", "start", "--jobs", "2")
    end, kept = time.monotonic() + PATIENCE, {}
    while len(kept) < 2 and time.monotonic() < end:
        time.sleep(1)  # and not `dvc queue status`, which takes a processor for seconds
        done = call(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
        kept = {each.rpartition("/")[2]: each for each in done if each.endswith(("/one", "/two"))}
    assert len(kept) == 2, call(project, "dvc", "queue", "status")
    for name, component in (("one", "1"), ("two", "2")):
        experiment = kept[name]
        found = json.loads(call(project, "git", "show", f"{experiment}:metrics/perplexity.json"))
        assert list(found["ratio"]) == [component, "all"]
        for column in ("ratio", "ratio_low", "ratio_high"):
            assert found[column][component] == local[column][component]

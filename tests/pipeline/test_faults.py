"""The pipeline under DVC when it is interrupted, when disk or cache fail, and when two runs meet.

Each test ends with a `dvc repro` that has to give what an undisturbed run gives, byte for byte.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from permeation.frame.sealed import md5
from tests.support.interrupt import SIGNALS, interrupt, start, wait_for
from tests.support.project import call, duplicate, environment, stages_run

REPORTS = {"report_meaning", "report_weights", "report"}
pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, for these tests to disturb; each leaves it as it was."""
    return duplicate(finished_project, tmp_path_factory.mktemp("faults"))


def results(project: Path) -> dict[str, bytes]:
    """What the pipeline publishes, by file."""
    files = [path for name in ("metrics", "plots") for path in (project / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(project)): path.read_bytes() for path in [*files, project / "report.html"]}


def forget(project: Path, *stages: str) -> None:
    """Let it be as if these stages had never run, whatever an earlier test left."""
    call(project, "git", "checkout", "-q", ".")
    (project / ".dvc" / "config.local").unlink(missing_ok=True)
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    for stage in stages:
        for out in lock["stages"].pop(stage)["outs"]:
            path = project / out["path"]
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    (project / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    for kept in (project / ".dvc" / "cache" / "runs", project / "data" / ".journal"):
        shutil.rmtree(kept, ignore_errors=True)


def set_components(project: Path, *components: str) -> None:
    settings = (project / "params.yaml").read_text()
    listed = "".join(f"    - {k}\n" for k in components)
    head = r"^(reconstruct:\n(?:  #.*\n)*  components:\n)(?:    - .+\n)+"
    settings, count = re.subn(head, rf"\g<1>{listed}", settings, flags=re.M)
    assert count == 1
    (project / "params.yaml").write_text(settings)


@pytest.mark.parametrize(
    ("stage", "how", "moment"),
    [
        ("fetch_model", "Ctrl-C", "writing"),
        ("extract_activations", "SIGKILL to dvc", "starting"),
        ("fit_g", "SIGTERM to dvc", "working"),
        ("baseline", "SIGKILL to all", "writing"),
        ("rivals", "SIGKILL to all", "working"),
        ("locate", "SIGTERM to dvc", "starting"),
        ("report_meaning", "SIGKILL to dvc", "writing"),
        ("report", "Ctrl-C", "working"),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_results(
    finished_project: Path, project: Path, tmp_path: Path, stage: str, how: str, moment: str
) -> None:
    forget(project, stage)
    interrupt(project, stage, how, moment, np.random.default_rng(0), tmp_path / "log")
    assert set(stages_run(call(project, "dvc", "repro"))) <= {stage, *REPORTS}
    assert results(project) == results(finished_project)


def test_files_that_dvc_left_cut_off_do_not_end_the_next_run(finished_project: Path, project: Path) -> None:
    forget(project)
    lock = project / "dvc.lock"
    whole = lock.read_text()
    lock.write_text(whole[: whole.index("\n  report_weights:") + 100])
    (project / ".dvc" / "tmp" / "rwlock").write_text("")
    output = call(project, "dvc", "repro")
    assert "report_weights" in stages_run(output) and set(stages_run(output)) <= REPORTS
    assert yaml.safe_load(lock.read_text()) == yaml.safe_load(whole)
    assert results(project) == results(finished_project)


def test_a_long_stage_measures_only_what_is_missing(finished_project: Path, project: Path, tmp_path: Path) -> None:
    """Of the first three K of `reconstruct`, killed after the third entry of its journal was written."""
    forget(project, "reconstruct")
    journal = project / "data" / ".journal" / "reconstruct"
    dvc = start(project, tmp_path / "log")
    assert wait_for(dvc, "reconstruct") is not None
    while len(kept := list(journal.glob("*.json"))) < 3:
        assert dvc.poll() is None
    SIGNALS["SIGKILL to all"](dvc.pid)
    dvc.wait()
    written = {path: path.stat().st_mtime_ns for path in kept}
    call(project, "dvc", "repro")
    assert results(project) == results(finished_project)
    assert {path: path.stat().st_mtime_ns for path in kept} == written
    assert len(list(journal.glob("*.json"))) > 3


def damage(path: Path, kind: str) -> None:
    """Damage a file of the cache as a failing disk does; `silent`: size, time and mode stay."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.chmod(0o644)
    path.write_bytes(content[: len(content) // 2] if kind == "truncated" else content)
    path.chmod(before.st_mode)
    if kind == "silent":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("link", "kind", "name"),
    [
        ("hardlink", "silent", "gram.safetensors"),
        ("copy", "truncated", "SHA256SUMS"),
    ],
)
def test_a_damaged_object_of_the_cache_stops_one_run_and_the_next_heals(
    finished_project: Path, project: Path, link: str, kind: str, name: str
) -> None:
    forget(project)
    call(project, "dvc", "config", "--local", "cache.type", link)
    digest = md5(project / "data" / "pca" / name)
    damage(project / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:], kind)
    shutil.rmtree(project / "data" / "pca")  # as going to other parameters and back does
    set_components(project, "8", "all")
    output = call(project, "dvc", "repro", check=False)
    assert "Stage 'pca' is cached" in output
    assert re.search(r"^reconstruct: \S+/data/pca/\S+ was damaged or changed since it was written", output, re.M), (
        output
    )
    assert "pca" in stages_run(call(project, "dvc", "repro"))
    ratio, expected = (
        json.loads((each / "metrics" / "perplexity.json").read_text())["ratio"] for each in (project, finished_project)
    )
    assert ratio == {k: expected[k] for k in ("8", "all")}
    call(project, "git", "checkout", "-q", ".")
    call(project, "dvc", "repro")
    assert results(project) == results(finished_project)


def in_a_namespace(project: Path, script: str, *arguments: object) -> str:
    """Run a shell script that mounts what only it sees; gives what it printed."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Linux), to mount without anybody else's seeing it")
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=project, env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if "unshare failed" in done.stdout or done.returncode == 99:
        pytest.skip(f"this machine lets nobody mount anything: {done.stdout}")
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_full_disk_is_named_and_the_next_run_heals(finished_project: Path, project: Path) -> None:
    forget(project, "extract_activations")
    script = """
        cp -a data "$1" && mount -t tmpfs -o size=100m none data && cp -a "$1"/data/. data || exit 99
        mount -o remount,size=$(($(du -sk data | cut -f1) + 100))k data || exit 99
        .venv/bin/dvc repro && exit 1
        echo "left: $(ls -A data | grep extract_activations)"
        mount -o remount,size=100m data
        .venv/bin/dvc repro && cp -a data/. "$1"/data
    """
    (kept := project.parent / "kept").mkdir()
    output = in_a_namespace(project, script, kept)
    assert re.search(
        r"^extract_activations: \S+/data/extract_activations: cannot be written: .*\(0\.\d MiB", output, re.M
    ), output
    assert "left: \n" in output
    shutil.rmtree(project / "data")
    (kept / "data").rename(project / "data")
    assert results(project) == results(finished_project)


def test_a_read_only_data_folder_is_named_and_the_next_run_heals(finished_project: Path, project: Path) -> None:
    forget(project, "extract_wqk")
    script = """
        mount --bind data data && mount -o remount,bind,ro data || exit 99
        .venv/bin/dvc repro && exit 1
        exit 0
    """
    output = in_a_namespace(project, script)
    assert re.search(r"^extract_wqk: \[Errno 30\] Read-only file system: '\S+/data/\.extract_wqk\.", output, re.M), (
        output
    )
    assert stages_run(call(project, "dvc", "repro")) == ["extract_wqk"]
    assert results(project) == results(finished_project)


def test_two_runs_at_once_end_in_the_same_results(finished_project: Path, project: Path, tmp_path: Path) -> None:
    """DVC says to the second who is at work; a stage by hand beside them has a draft of its own.

    Where it takes its place just as DVC moves the same folder into its cache, DVC ends with an error, and no harm done.
    """
    forget(project, "extract_wqk", "pca")
    first = start(project, tmp_path / "first")
    assert wait_for(first, "extract_wqk") is not None
    output = call(project, "dvc", "repro", check=False)
    assert "is busy, it is being blocked by" in output or "Unable to acquire lock" in output
    call(project, "stages/run", "extract_wqk")
    assert first.wait() == 0 or "does not exist" in (tmp_path / "first").read_text(), (tmp_path / "first").read_text()
    call(project, "dvc", "repro")
    assert results(project) == results(finished_project)


def test_the_same_inputs_give_the_same_bytes(finished_project: Path, project: Path) -> None:
    """The stages that no test above runs again; other bytes in their outputs would make DVC run their readers too."""
    again = {"fetch_corpus", "tokenize_corpus", "moments", "compute_sigma", "nulls", "decode", "logit_lens"}
    again |= {"controls", "intervene"}
    forget(project, *again)
    assert set(stages_run(call(project, "dvc", "repro"))) == again
    assert results(project) == results(finished_project)

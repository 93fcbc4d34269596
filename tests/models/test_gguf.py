"""What a GGUF file says and holds is in the checkpoint, or is an error that names it.

Each file is written from a small model in transformers, whose logits the checkpoint has to give.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from permeation.frame.errors import PermeationError
from permeation.models.gguf import _carry
from permeation.models.load import load_model
from permeation.models.sources import fetch_model
from permeation.models.tokenizer import load_tokenizer
from tests.support import tiny

Writer = gguf.GGUFWriter
VOCABULARY = ["<pad>", "<eos>", "<bos>", "<unk>", *(chr(ord("A") + i) for i in range(55)), "\u2581"]
TOKENS = torch.randint(4, 60, (2, 50), generator=torch.Generator().manual_seed(1))


def model(name: str, **more: Any) -> Any:
    """A random model of the class transformers.<name>Config."""
    torch.manual_seed(0)
    sizes = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "vocab_size": len(VOCABULARY),
    }
    config = getattr(transformers, f"{name}Config")(**(sizes | more))
    network = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    network.tie_weights()
    return network


def llama(**more: Any) -> Any:
    return model("Llama", tie_word_embeddings=True, **more)


def write_gguf(
    path: Path, network: Any, change: Callable[[Writer], object] = lambda _: None, kind: str = "F32", arch: str = ""
) -> Path:
    """The model as a GGUF file, its projections of one kind of numbers; `change` adds what else the file says."""
    config, arch = network.config, arch or network.config.model_type.removesuffix("_text")
    writer = Writer(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(VOCABULARY)
    writer.add_token_scores([0.0] * len(VOCABULARY))
    writer.add_token_types([3, 3, 3, 2, *[1] * (len(VOCABULARY) - 4)])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    change(writer)
    known = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    names = gguf.get_tensor_name_map(known, config.num_hidden_layers)
    for name, tensor in network.named_parameters():
        stem, suffix = name.rsplit(".", 1)
        theirs = names.get_name(stem) or names.get_name(stem.removeprefix("model."))
        stored = tensor.numpy() + (arch.startswith("gemma") and name.endswith("norm.weight"))
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if arch == "llama" and part in stem:  # GGUF keeps rotary pairs side by side
                stored = stored.reshape(heads, 2, -1, *stored.shape[1:]).swapaxes(1, 2).reshape(stored.shape)
        if kind != "F32" and "_proj" in name:
            number = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(f"{theirs}.{suffix}", gguf.quantize(stored, number), raw_dtype=number)
        else:
            writer.add_tensor(f"{theirs}.{suffix}", np.ascontiguousarray(stored, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def converted(tmp_path: Path, network: Any, change: Callable[[Writer], object] = lambda _: None, **more: Any) -> Any:
    folder = tmp_path / "out"
    folder.mkdir()
    fetch_model(write_gguf(tmp_path / "my.gguf", network, change, **more), folder)
    return load_model(folder)


def assert_same(found: Any, network: Any) -> None:
    torch.testing.assert_close(found(TOKENS).logits, network(TOKENS).logits)


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("Q4_0", 4.5), ("Q4_1", 5.0), ("Q5_0", 5.5), ("Q5_1", 6.0), ("Q8_0", 8.5), ("F16", None), ("BF16", None)],
)
def test_every_type_that_the_loader_reads_is_read(tmp_path: Path, kind: str, bits: float | None) -> None:
    network, number = llama(), gguf.GGMLQuantizationType[kind]
    weight = network.model.layers[1].mlp.down_proj.weight.numpy()
    file = write_gguf(tmp_path / "my.gguf", network, kind=kind)
    assert fetch_model(file, tmp_path / "out").attention_bits == bits
    found = load_model(tmp_path / "out").model.layers[1].mlp.down_proj.weight.numpy()
    np.testing.assert_array_equal(found, gguf.dequantize(gguf.quantize(weight, number), number))


def scaled(kind: str) -> Callable[[Writer], object]:
    def change(writer: Writer) -> None:
        writer.add_rope_scaling_factor(4.0)
        if kind:
            writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(16)

    return change


DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    ("more", "change"),
    [
        ({"attention_bias": True}, lambda _: None),
        ({"rope_parameters": DEFAULT | {"rope_theta": 500.0}}, lambda w: w.add_rope_freq_base(500.0)),
        ({"rope_parameters": LINEAR}, scaled("linear")),
        ({"rope_parameters": LINEAR}, scaled("")),
        ({"rope_parameters": YARN}, scaled("yarn")),
        ({"rope_parameters": DEFAULT}, lambda w: w.add_string("llama.rope.scaling.type", "none")),
        ({"rope_parameters": DEFAULT}, lambda w: w.add_sliding_window(0)),
    ],
)
def test_biases_and_positions_are_what_the_file_says(tmp_path: Path, more: dict[str, Any], change: Any) -> None:
    network = llama(**more)
    assert_same(converted(tmp_path, network, change), network)


def test_factors_of_the_frequencies_are_carried_over(tmp_path: Path) -> None:
    network = llama(rope_parameters=tiny.LLAMA3)
    plain = 10000.0 ** -(np.arange(0, 8, 2) / 8)
    factors = (plain / network.model.rotary_emb.inv_freq.numpy()).astype(np.float32)
    assert_same(converted(tmp_path, network, lambda w: w.add_tensor("rope_freqs.weight", factors)), network)


@pytest.mark.parametrize(
    ("name", "blocks", "scalar", "d_head", "local"),
    [
        ("Gemma2", 3, 16, 16, 10000.0),
        ("Gemma2", 3, 128, 128, 10000.0),
        ("Gemma2", 46, 8, 16, 10000.0),  # 27B: hidden_size / heads
        ("Gemma3Text", 62, 8, 16, 10000.0),  # 27B
        ("Gemma3Text", 6, 16, 16, 500.0),  # another base in the sliding layers
    ],
)
def test_gemmas_scale_is_that_of_its_shape(
    tmp_path: Path, name: str, blocks: int, scalar: int, d_head: int, local: float
) -> None:
    more: dict[str, Any] = {"num_hidden_layers": blocks, "head_dim": d_head, "query_pre_attn_scalar": scalar}
    if name == "Gemma3Text":
        bases = {"full_attention": 1e6, "sliding_attention": local}
        more["rope_parameters"] = {part: {"rope_type": "default", "rope_theta": base} for part, base in bases.items()}
    network = model(name, sliding_window=24, pad_token_id=0, **more)

    def change(writer: Writer) -> None:
        writer.add_key_length(d_head)
        writer.add_value_length(d_head)
        writer.add_sliding_window(24)
        if name == "Gemma3Text":
            writer.add_rope_freq_base(1e6)
            writer.add_float32("gemma3.rope.freq_base_swa", local)
        else:
            writer.add_attn_logit_softcapping(50.0)
            writer.add_final_logit_softcapping(30.0)

    assert_same(converted(tmp_path, network, change), network)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_parallel_residual_has_a_place(parallel: bool) -> None:
    config = transformers.StableLmConfig()
    _carry({"general.architecture": "stablelm", "stablelm.use_parallel_residual": parallel}, config)
    assert config.use_parallel_residual is parallel


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.add_tensor("blk.1.attn_sinks.weight", np.ones(4, np.float32)), "no place .* blk.1.attn_sinks"),
        (lambda w: w.add_float32("llama.attention.scale", 0.3), r"says llama.attention.scale = 0\.3.*, which has no"),
        (lambda w: w.add_sliding_window(16), "says llama.attention.sliding_window = 16"),
        (lambda w: w.add_float32("llama.rope.freq_base_swa", 4.0), "says llama.rope.freq_base_swa"),
        (lambda w: (w.add_rope_dimension_count(4), w.add_key_length(8)), "says llama.rope.dimension_count = 4"),
        (lambda w: w.add_string("llama.rope.scaling.type", "dynamic"), "says llama.rope.scaling.type = 'dynamic'"),
        (lambda w: w.add_float32("llama.rope.scaling.attn_factor", 1.5), "says llama.rope.scaling.attn_factor = 1.5"),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones(9, np.float32)), "cannot be loaded"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of transformers, about factors that are too many
def test_what_has_no_place_is_named(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PermeationError, match=message):
        converted(tmp_path, llama(), change)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_configuration_implies_needs_no_place() -> None:
    bare = type("Bare", (), {"hidden_size": 64, "num_attention_heads": 4, "model_type": "bare"})()
    said = {"general.architecture": "x", "x.context_length": 9, "x.attention.head_count_kv": [4, 4]}
    _carry(said | {"x.attention.key_length": 16, "x.feed_forward_length": 256}, bare)
    for key, value in (("attention.key_length", 17), ("attention.head_count_kv", [4, 2]), ("rope.freq_base", 500.0)):
        with pytest.raises(PermeationError, match=rf"says x\.{key} = .*, which has no place in bare"):
            _carry(said | {f"x.{key}": value}, bare)
    partial = transformers.StableLmConfig(hidden_size=64, num_attention_heads=4)
    _carry({"general.architecture": "x", "x.rope.dimension_count": 8}, partial)
    assert partial.rope_parameters["partial_rotary_factor"] == 0.5


@pytest.mark.parametrize("keep", [3, 2000, -200])
@pytest.mark.filterwarnings("ignore")  # of numpy, about the end of a file
def test_a_truncated_file_is_an_error(tmp_path: Path, keep: int) -> None:
    file = write_gguf(tmp_path / "short.gguf", llama())
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(PermeationError, match=r"short\.gguf"):
        fetch_model(file, tmp_path)


def test_what_lies_next_to_a_file_is_not_read_and_the_tokenizer_keeps_its_bos(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "generation_config.json", "adapter_config.json"):
        (tmp_path / name).write_text('{"model_type": "bert", "auto_map": {"AutoTokenizer": ["evil.T", null]}}')
    network = llama()
    assert_same(converted(tmp_path, network), network)
    assert load_tokenizer(tmp_path / "out")("C").input_ids[0] == 2

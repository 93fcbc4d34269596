"""What a GGUF file says and holds is in the checkpoint, or is an error that names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from permeation.frame.errors import PermeationError
from permeation.models.gguf import _carry, _carry_positions
from permeation.models.load import load_model
from permeation.models.sources import fetch_model
from permeation.models.tokenizer import load_tokenizer
from tests.models.test_sources import write_gguf

Writer = gguf.GGUFWriter


def converted(tmp_path: Path, change: Callable[[Writer], object] = lambda _: None, **more: Any) -> Path:
    write_gguf(tmp_path / "my.gguf", change, **more)
    folder = tmp_path / "out"
    folder.mkdir()
    fetch_model(str(tmp_path / "my.gguf"), folder)
    return folder


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
def test_every_type_that_the_loader_reads_is_read(tmp_path: Path, kind: str) -> None:
    found = load_model(converted(tmp_path, kind=kind)).state_dict()["model.layers.1.mlp.down_proj.weight"]
    tensor = write_gguf(tmp_path / "plain.gguf")["model.layers.1.mlp.down_proj.weight"]
    quantised = gguf.GGMLQuantizationType[kind]
    np.testing.assert_array_equal(found.numpy(), gguf.dequantize(gguf.quantize(tensor, quantised), quantised))


def test_factors_of_the_frequencies_are_carried_over(tmp_path: Path) -> None:
    factors = np.array([1, 1, 2, 8], np.float32)
    model = load_model(converted(tmp_path, lambda w: w.add_tensor("rope_freqs.weight", factors)))
    expected = 10000.0 ** -(torch.arange(0, 8, 2) / 8) / torch.from_numpy(factors)
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, expected)
    assert model.model.rotary_emb.attention_scaling == 1


@pytest.mark.parametrize("kind", ["linear", None])
def test_linear_scaling_is_carried_over_and_is_what_a_factor_alone_means(tmp_path: Path, kind: str | None) -> None:
    def change(writer: Writer) -> None:
        writer.add_rope_scaling_factor(4.0)
        if kind is not None:
            writer.add_rope_scaling_type(gguf.RopeScalingType(kind))

    model = load_model(converted(tmp_path, change))
    expected = 10000.0 ** -(torch.arange(0, 8, 2) / 8) / 4
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, expected)


def test_yarn_is_carried_over(tmp_path: Path) -> None:
    def change(writer: Writer) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(16)

    said = load_model(converted(tmp_path, change)).config.rope_parameters
    assert (said["rope_type"], said["factor"], said["original_max_position_embeddings"]) == ("yarn", 4.0, 16)


def test_biases_of_queries_keys_and_values_are_carried_over(tmp_path: Path) -> None:
    def change(writer: Writer) -> None:
        for layer in range(2):
            for part, width in (("q", 32), ("k", 16), ("v", 16), ("output", 32)):
                writer.add_tensor(f"blk.{layer}.attn_{part}.bias", np.full(width, layer + 1, np.float32))

    model = load_model(converted(tmp_path, change))
    assert (model.model.layers[1].self_attn.k_proj.bias == 2).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.add_tensor("blk.1.attn_sinks.weight", np.ones(4, np.float32)), "no place .* blk.1.attn_sinks"),
        (
            lambda w: w.add_float32("llama.attention.scale", 0.3),
            r"says llama.attention.scale = 0\.3.*, which has no pl",
        ),
        (lambda w: w.add_float32("llama.logit_scale", 0.3), "says llama.logit_scale"),
        (lambda w: w.add_sliding_window(16), "says llama.attention.sliding_window = 16"),
        (lambda w: w.add_float32("llama.rope.scale_linear", 4.0), "says llama.rope.scale_linear"),
        (
            lambda w: (w.add_rope_dimension_count(4), w.add_key_length(8)),
            "says llama.rope.dimension_count = 4; llama rotates all 8",
        ),
        (lambda w: w.add_string("llama.rope.scaling.type", "dynamic"), "scaling of the positions is not one .*dynamic"),
        (
            lambda w: w.add_float32("llama.rope.scaling.yarn_log_multiplier", 0.1),
            "scaling of the positions is not one .*yarn_log_multiplier",
        ),
        (
            lambda w: (w.add_string("llama.rope.scaling.type", "dynamic"), w.add_rope_scaling_factor(2.0)),
            "scaling of the positions is not one .*dynamic",
        ),
        (lambda w: w.add_string("llama.rope.scaling.type", "yarn"), "scaling of the positions is not one"),
        (lambda w: w.add_tensor("rope_factors_long.weight", np.ones(4, np.float32)), "not one .*rope_factors_long"),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones(9, np.float32)), "more than there are frequencies"),
        (lambda w: w.add_tensor("rope_freqs.weight", np.ones(4, np.float16)), "are no float32 numbers"),
        (lambda w: w.add_uint16("split.count", 3), "my.gguf: it is part 1 of 3 of a split file; accepted: the whole"),
    ],
)
def test_what_has_no_place_is_named(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(PermeationError, match=message):
        converted(tmp_path, change)
    assert list((tmp_path / "out").iterdir()) == []


def positions(config: LlamaConfig, said: dict[str, Any], factors: dict[str, list[float]]) -> dict[str, Any]:
    _carry_positions({"general.architecture": "x"} | {f"x.rope.{k}": v for k, v in said.items()}, factors, config)
    return config.rope_parameters


def test_positions_are_what_the_file_says() -> None:
    factors = {"rope_factors_short.weight": [1.0] * 8, "rope_factors_long.weight": [2.0] * 8}
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=64)
    said = {"freq_base": 500.0, "scaling.type": "longrope", "scaling.original_context_length": 16}
    found = positions(config, said | {"scaling.attn_factor": 1.5}, factors)
    assert (found["rope_theta"], found["rope_type"], found["factor"]) == (500.0, "longrope", 4)
    assert (found["short_factor"], found["long_factor"]) == tuple(factors.values())
    assert found["attention_factor"] == 1.5
    assert "attention_factor" not in positions(LlamaConfig(hidden_size=64, num_attention_heads=4), {}, factors)
    partial = LlamaConfig(rope_parameters={"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 1.0})
    assert positions(partial, {"dimension_count": 32}, {})["partial_rotary_factor"] == 32 / 128
    assert positions(LlamaConfig(), {"scaling.type": "none"}, {})["rope_type"] == "default"


def test_positions_of_a_family_that_rotates_nothing_are_an_error() -> None:
    config = LlamaConfig()
    config.rope_parameters = None
    _carry_positions({"general.architecture": "x"}, {}, config)
    with pytest.raises(PermeationError, match=r"it says x\.rope\.freq_base, and llama rotates nothing"):
        positions(config, {"freq_base": 500.0}, {})


def test_what_a_configuration_implies_needs_no_place() -> None:
    config = LlamaConfig(hidden_size=64, num_attention_heads=4)
    metadata: dict[str, Any] = {"general.architecture": "x", "x.attention.head_count_kv": [2, 2]}
    _carry(metadata, config)
    assert config.num_key_value_heads == 2
    with pytest.raises(PermeationError, match=r"x\.attention\.head_count_kv = \[2, 1\]"):
        _carry(metadata | {"x.attention.head_count_kv": [2, 1]}, config)
    bare = type("Bare", (), {"hidden_size": 64, "num_attention_heads": 4, "model_type": "bare"})()
    _carry({"general.architecture": "x", "x.attention.key_length": 16, "x.context_length": 9}, bare)
    with pytest.raises(PermeationError, match=r"x\.attention\.key_length = 17"):
        _carry({"general.architecture": "x", "x.attention.key_length": 17}, bare)


def test_the_tokenizer_keeps_its_bos(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(converted(tmp_path, lambda w: w.add_add_bos_token(True)))
    assert tokenizer("C").input_ids == [0, 4]

"""What makes scoring fast does not change its answer."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from permeation.frame.errors import PermeationError
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity import fast
from permeation.perplexity.fast import causal_blocks, prepare_for_scoring
from permeation.perplexity.nll import window_nll
from permeation.perplexity.windows import Text
from tests.conftest import PROJECT
from tests.support import tiny


@pytest.fixture
def windows() -> torch.Tensor:
    return torch.randint(len(tiny.tokenizer()), (5, 40), generator=torch.Generator().manual_seed(0))


def score(model: object, windows: torch.Tensor) -> np.ndarray:
    return np.concatenate(list(window_nll(model, windows)))


@pytest.mark.parametrize("rows", [7, 128])
def test_attention_by_blocks_is_attention(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(fast, "ROWS", rows)
    query, key, value = torch.randn(2, 6, 20, 8), torch.randn(2, 3, 20, 8), torch.randn(2, 3, 20, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(causal_blocks(None, query, key, value, None, 0.3)[0], expected.transpose(1, 2))
    for asked in ({"attention_mask": torch.ones(1)}, {"attention_mask": None, "s_aux": torch.zeros(6)}):
        with pytest.raises(PermeationError, match="asks for a mask or has sinks, which scoring does not support"):
            causal_blocks(None, query, key, value, scaling=0.3, **asked)


def test_a_ready_model_scores_as_plain_transformers_does(
    monkeypatch: pytest.MonkeyPatch, family: str, windows: torch.Tensor
) -> None:
    monkeypatch.setattr(fast, "ROWS", 16)
    plain = score(tiny.model(family), windows)
    model = prepare_for_scoring(tiny.model(family), "float32", 40)
    assert model.config._attn_implementation == "causal_blocks"
    np.testing.assert_allclose(score(model, windows), plain, rtol=1e-6)
    rounded = score(prepare_for_scoring(tiny.model(family), "bfloat16", 40), windows)
    np.testing.assert_allclose(rounded, plain, rtol=2e-2)
    assert (rounded != plain).all()


def test_a_window_longer_than_a_sliding_attention_keeps_the_models_own() -> None:
    config = tiny.CONFIGS["llama"](50)
    config.sliding_window = 20
    model = tiny.transformers.AutoModelForCausalLM.from_config(config)
    assert prepare_for_scoring(model, "float32", 40).config._attn_implementation != "causal_blocks"
    assert prepare_for_scoring(model, "float32", 20).config._attn_implementation == "causal_blocks"


def test_the_command_prints_one_json_object_last(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder, text = shutil.copytree(checkpoints["gpt2"], tmp_path / "with_bos"), PROJECT / "data" / "words.yaml"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    bos = tokenizer.bos_token_id
    front = TemplateProcessing(single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, bos)])
    tokenizer.backend_tokenizer.post_processor = front
    tokenizer.save_pretrained(folder)
    command = [sys.executable, "-m", "permeation.perplexity", "--model", str(folder), "--text", str(text)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    found = json.loads(run("--context", "16", "--max-tokens", "64", "--dtype", "float32").stdout.splitlines()[-1])
    chosen = Text.tokenize(tokenizer, text.read_text(), bos=bos).spread(16, 64).tokens
    assert (chosen[:, 0] == bos).all()
    expected = sum(model(window[None], labels=window[None]).loss.item() for window in chosen) / 4
    assert found["perplexity"] == pytest.approx(np.exp(expected), rel=1e-5)
    assert (found["bos"], found["tokens"], found["windows"], found["dtype"]) == (bos, 60, 4, "float32")
    assert found["nll"] == pytest.approx(60 * expected, rel=1e-5)
    assert found["tokens_per_second"] == pytest.approx(64 / found["seconds"])
    refused = run("--context", "1")
    assert refused.returncode == 1
    assert refused.stderr.strip() == "perplexity: --context is 1; this model accepts 2 to 64"

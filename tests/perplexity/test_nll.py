"""Summed NLL."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from permeation.frame.device import total_memory
from permeation.frame.errors import PermeationError
from permeation.models.families import Readout
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity import nll as nll_module
from permeation.perplexity.nll import VOCABULARY_TILE, nats_per_byte, token_nll, window_nll, windows_per_batch
from permeation.perplexity.windows import Text
from tests.conftest import PROJECT
from tests.support import tiny


@pytest.mark.parametrize("batch_size", [1, 3])
def test_nll_is_that_of_plain_transformers(checkpoint: Path, batch_size: int) -> None:
    network = load_model(checkpoint)
    windows = torch.randint(len(tiny.tokenizer()), (5, 24), generator=torch.Generator().manual_seed(0))
    nll = np.concatenate(list(window_nll(network, windows, batch_size)))
    expected = [network(window[None], labels=window[None]).loss.double().item() * 23 for window in windows]
    np.testing.assert_allclose(nll, expected, rtol=1e-6)
    texts = ["ß" * 5, "a" * 10] * 2 + [""]
    assert nats_per_byte(network, windows.tolist(), texts) == pytest.approx(sum(expected) / 40)


def test_a_model_in_training_mode_is_scored_without_dropout_and_stays_in_it() -> None:
    network = tiny.model("gpt2")
    windows = torch.randint(9, (2, 24))
    expected = np.concatenate(list(window_nll(network, windows)))
    network.transformer.h[1].train()
    modes = [module.training for module in network.modules()]
    np.testing.assert_array_equal(np.concatenate(list(window_nll(network, windows))), expected)
    assert [module.training for module in network.modules()] == modes


def test_nll_by_tiles_is_the_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VOCABULARY_TILE, "cpu", 7)
    hidden, unembedding = torch.randn(11, 5), 3 * torch.randn(30, 5)
    targets = torch.randint(30, (11,))
    expected = torch.nn.functional.cross_entropy(hidden.double() @ unembedding.double().T, targets, reduction="none")
    torch.testing.assert_close(
        token_nll(hidden, Readout(unembedding, None, torch.nn.Identity()), targets), expected, atol=1e-5, rtol=1e-5
    )


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    network = tiny.model("llama")
    network.model.embed_tokens.weight[7] = torch.inf
    windows = torch.randint(7, (5, 8))
    windows[3, 2] = 7
    with pytest.raises(PermeationError, match="loss is not finite on window 4 of 5"):
        list(window_nll(network, windows, 2))


def test_a_batch_is_what_the_threads_ask_for_and_the_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    network, memory = tiny.model("gpt2"), 2**40
    monkeypatch.setattr(nll_module, "total_memory", lambda _: memory)
    for threads in (1, 2, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert windows_per_batch("auto", 512, network) == threads
    assert windows_per_batch(3, 512, network) == 3
    assert windows_per_batch("auto", 16384, network) == 1  # a window at least
    position = 400 * tiny.WIDTH + 12 * 1024
    memory = 4 * 1500 * position  # a quarter of it holds 1500 positions
    assert windows_per_batch("auto", 512, network) == 2
    assert total_memory(torch.device("cpu")) > 2**28


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

    found = json.loads(run("--context", "16", "--max-tokens", "64").stdout.splitlines()[-1])
    chosen = Text.tokenize(tokenizer, text.read_text(), bos=bos).spread(16, 64).tokens
    assert (chosen[:, 0] == bos).all()
    expected = sum(model(window[None], labels=window[None]).loss.item() for window in chosen) / 4
    assert found["perplexity"] == pytest.approx(np.exp(expected), rel=1e-5)
    assert found["nll"] == pytest.approx(60 * expected, rel=1e-5)
    assert (found["bos"], found["tokens"], found["windows"], found["dtype"]) == (bos, 60, 4, "float32")
    refused = run("--context", "1")
    assert refused.returncode == 1
    assert refused.stderr.strip() == "perplexity: --context is 1; this model accepts 2 to 64"

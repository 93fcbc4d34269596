"""Time the scorer against a TransformerBridge and plain transformers, and against the machine's matmul ceilings; hold
its bfloat16 to float32.

    python -m bench [--repeats N] [--tokens N]

The model and the text are those that `make repro` fetched; a second model, of GPT-2's size with random weights, reads
random tokens. The candidates take turns, so that a slow moment of the machine falls on all of them, each in a process
of its own: what the scorer asks of the C library's allocator would speed the others up, too. Writes this kind of
processor's part of bench/results.json and prints its tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

from bench.tables import table
from permeation.frame.device import fast_products, onednn_is_exact
from permeation.frame.tables import read_json
from permeation.models.families import geometry_of
from permeation.models.load import load_folded, load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.fast import prepare_for_scoring
from permeation.perplexity.nll import window_nll
from permeation.perplexity.windows import Text
from permeation.weights.forms import gram_kernel
from permeation.weights.heads import read_heads
from permeation.weights.inject import GramInjection, injected
from permeation.weights.pca import fit_pca

CONTEXT, BATCH, MANY = 512, 2, 8
# Whether the processor multiplies bfloat16.
FAST_BFLOAT16 = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
# Who multiplies: MKL by default; oneDNN bfloat16, and the scorer's float32 where that gives the same.
OURS = "oneDNN" if onednn_is_exact() else "MKL"
FORMATS = ("float32", "bfloat16") if FAST_BFLOAT16 else ("float32",)
Scorer = Callable[[torch.Tensor], float]
_scorer: Scorer  # in a candidate's process


def bridge(model: Any, *, tokenizer: Any) -> Scorer:
    """The loss loop of TransformerLens, float32."""
    wrapped = TransformerBridge.boot_transformers("bench", hf_model=model, tokenizer=tokenizer, device="cpu")

    def score(windows: torch.Tensor) -> float:
        with torch.inference_mode():
            return sum(float(wrapped(batch, return_type="loss")) for batch in windows.split(1)) / len(windows)

    return score


def plain(model: Any, *, at_once: int) -> Scorer:
    """transformers with labels=, float32, so many windows at once."""

    def score(windows: torch.Tensor) -> float:
        with torch.inference_mode():
            losses = (len(batch) * float(model(batch, labels=batch).loss) for batch in windows.split(at_once))
            return sum(losses) / len(windows)

    return score


def ours(model: Any, *, dtype: str) -> Scorer:
    """permeation.perplexity."""
    model = prepare_for_scoring(model, dtype, CONTEXT)

    def score(windows: torch.Tensor) -> float:
        return sum(float(nll.sum()) for nll in window_nll(model, windows)) / len(windows) / (CONTEXT - 1)

    return score


class Candidate:
    """A scorer in a process of its own, which waits between its turns."""

    def __init__(self, make: Callable[[Any], Scorer], load: Callable[[], Any]) -> None:
        """Start the process, and load and prepare the model in it."""
        spawn = multiprocessing.get_context("spawn")
        self.process = ProcessPoolExecutor(1, spawn, _prepare, (make, load, torch.get_num_threads()))

    def score(self, windows: torch.Tensor) -> tuple[float, float]:
        """The loss per token, and the seconds that it took."""
        return self.process.submit(_score, windows).result()


def _prepare(make: Callable[[Any], Scorer], load: Callable[[], Any], threads: int) -> None:
    global _scorer
    torch.set_num_threads(threads)
    _scorer = make(load())


def _score(windows: torch.Tensor) -> tuple[float, float]:
    start = time.perf_counter()
    return _scorer(windows), time.perf_counter() - start


def flops_per_token(model: Any) -> float:
    """2 per weight that multiplies (all but embeddings looked up), and the causal half of the attention products."""
    geometry = geometry_of(model)
    looked_up = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding))
    head = geometry.d_model * geometry.d_vocab
    attention = 2 * geometry.n_layers * CONTEXT * geometry.n_heads * geometry.d_head
    return 2 * (model.num_parameters() - looked_up + head) + attention


def ceiling(dtype: torch.dtype) -> float:
    """FLOP/s of a square matmul that fits no cache, by the library in force."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    a @ b
    start = time.perf_counter()
    for _ in range(4):
        a @ b
    return 4 * 2 * 2048**3 / (time.perf_counter() - start)


def run(load: Callable[[], Any], tokenizer: Any, windows: torch.Tensor, repeats: int) -> dict[str, Any]:
    """Tokens per second of every candidate, with its loss; bfloat16 only where the processor multiplies it."""
    makers: dict[str, Callable[[Any], Scorer]] = {
        "TransformerBridge, float32": partial(bridge, tokenizer=tokenizer),
        "transformers labels=, float32": partial(plain, at_once=1),
        f"transformers labels= of {MANY} windows at once, float32": partial(plain, at_once=MANY),
        "ours, float32": partial(ours, dtype="float32"),
    }
    peak: dict[str, list[float]] = {"float32, MKL": [], f"float32, {OURS}": []}
    if FAST_BFLOAT16:
        makers["ours, bfloat16"] = partial(ours, dtype="bfloat16")
        peak["bfloat16, oneDNN"] = []
    candidates = {name: Candidate(make, load) for name, make in makers.items()}
    loss = {name: each.score(windows[:BATCH]) and each.score(windows)[0] for name, each in candidates.items()}
    speed: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, found in peak.items():
            dtype, library = name.split(", ")
            with nullcontext() if library == "MKL" else fast_products():
                found.append(ceiling(getattr(torch, dtype)))
        for name, each in candidates.items():
            speed[name].append(windows.numel() / each.score(windows)[1])
    for each in candidates.values():
        each.process.shutdown()
    flops = flops_per_token(load())
    ceilings = {name: statistics.median(found) for name, found in peak.items()}
    best = {dtype: max(speed for name, speed in ceilings.items() if name.startswith(dtype)) for dtype in FORMATS}
    reference = statistics.median(speed["transformers labels=, float32"])
    return {
        "flops_per_token": flops,
        "matmul_flops_per_second": ceilings,
        "candidates": {
            name: {
                "tokens_per_second": statistics.median(found),
                "ratio": statistics.median(found) / reference,
                "ratio_low": min(found) / reference,
                "ratio_high": max(found) / reference,
                "library": OURS if name == "ours, float32" else "oneDNN" if name.endswith("bfloat16") else "MKL",
                "share_of_ceiling": statistics.median(found) * flops / best[name.split(", ")[1]],
                "nll_per_token": loss[name],
            }
            for name, found in speed.items()
        },
    }


def rounding(folder: Path, windows: torch.Tensor) -> list[dict[str, Any]]:
    """Perplexity of the model, and the ratios with its heads rebuilt from all, 95 % and 60 % of the components.

    In float32 and in bfloat16; where the processor does not multiply that, float32 with the weights and every module's
    output rounded to bfloat16 takes its place.
    """
    model = load_folded(folder, fold_norm=True, device=torch.device("cpu"))
    injection = GramInjection.fit(read_heads(model))
    pca = fit_pca(gram_kernel(injection.heads), center=True)
    changes: dict[str, dict[str, torch.Tensor]] = {"perplexity": {}}
    for share in (1, 0.95, 0.6):
        kept = round(share * pca.count)
        changes[f"ratio at K = {kept} of {pca.count}"] = {"W_Q": injection.mixed(pca.mixing(kept))}

    def nll_per_token() -> dict[str, float]:
        found = {}
        for name, change in changes.items():
            with injected(model, **change):
                found[name] = sum(float(nll.sum()) for nll in window_nll(model, windows)) / windows[:, 1:].numel()
        return found

    prepare_for_scoring(model, "float32", CONTEXT)
    nll = {"float32": nll_per_token()}
    if FAST_BFLOAT16:
        prepare_for_scoring(model, "bfloat16", CONTEXT)
    else:
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
        for module in model.modules():
            module.register_forward_hook(_rounded)
    nll["bfloat16"] = nll_per_token()
    # A ratio is over the untouched model's perplexity in the same format.
    return [
        {"what": name, "emulated": not FAST_BFLOAT16}
        | {dtype: math.exp(found[name] - (found["perplexity"] if change else 0)) for dtype, found in nll.items()}
        for name, change in changes.items()
    ]


def _rounded(_module: Any, _inputs: Any, output: Any) -> Any:
    return output.bfloat16().float() if isinstance(output, torch.Tensor) else None


def gpt2() -> Any:
    """A model of GPT-2's size with random weights."""
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval().requires_grad_(False)


def main() -> None:
    """Run everything, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048)
    arguments = parser.parse_args()
    folder, text = Path("data") / "model", Path("data") / "corpus" / "corpus.txt"
    if not folder.is_dir() or not text.is_file():
        sys.exit(f"bench: {folder} or {text} is missing; run `make repro` first")
    tokenizer = load_tokenizer(folder)
    tokens = Text.tokenize(tokenizer, text.read_text(encoding="utf-8"))
    real = tokens.spread(CONTEXT, arguments.tokens).tokens
    random = torch.randint(50257, real.shape, generator=torch.Generator().manual_seed(0))

    found = {
        "threads": torch.get_num_threads(),
        "models": {
            read_json(folder / "model.json")["name"]: run(
                partial(load_model, folder), tokenizer, real, arguments.repeats
            ),
            "GPT-2's size, random weights": run(gpt2, tokenizer, random, arguments.repeats),
        },
        "rounding": rounding(folder, real),
    }
    path = Path("bench") / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results[processor()] = found
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{processor()}, {found['threads']} threads\n\n{table(found)}\n")


def processor() -> str:
    """The instructions that decide the speed."""
    return torch.backends.cpu.get_cpu_capability() + (" with bfloat16" if FAST_BFLOAT16 else "")

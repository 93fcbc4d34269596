"""The run's model, compressed, as a transformers checkpoint that anyone can load (docs/apply.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from permeation import settings
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, whole_folder
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.ratio import Baseline, Estimate
from permeation.rivals.base import BITS_PER_NUMBER, Problem, original_parameters, sizes_near
from permeation.rivals.registry import GRAM, METHODS, Method
from permeation.rivals.stored import Stored, write_packed
from permeation.stage import Stage
from permeation.weights.heads import Heads
from permeation.weights.inject import write_unfolded

PACKED = "packed.safetensors"


@dataclass(frozen=True)
class Written:
    """A compressed model that was written.

    Attributes:
        folder: the checkpoint. method, size: how it was made. stored: its W_Q, W_K and their biases in bits, and
            `bits` for each of their original numbers.
        ratio: its perplexity over the untouched model's, scored from the folder on the run's windows.
    """

    folder: Path
    method: str
    size: int
    stored: int
    bits: float
    ratio: Estimate


def methods(config: settings.Config) -> dict[str, Method]:
    """All that `apply` knows: the rivals, and what the stages reconstruct and cluster do, by their parameters."""
    seen = None if config.cluster.components == "all" else config.cluster.components
    clusters = {"kind": "clusters", "components": seen}
    center = {"center": config.pca.center}
    return {**METHODS, "pca": Method(GRAM, center), "clusters": Method(GRAM, clusters | center)}


def apply(
    method: str,
    output: Path | str,
    *,
    bits: float | None = None,
    size: int | None = None,
    packed: bool = False,
    project: Path | str = ".",
) -> Written:
    """Write the project's model with `rivals.matrices` as `method` gives them back, and score it from the folder.

    method: a rival (registry.METHODS), `pca` or `clusters`. size: components, clusters, rank or bits, as the method
    has it; or bits: the size whose storage is nearest to so many bits a number, as `rivals.bits`. packed: also write
    what is stored as one file (rivals.stored).

    Raises PermeationError for what cannot be asked for, a folder that is not empty, and a method that the model
    refuses.
    """
    folder = Path(output)
    stage = Stage("apply", settings.load(Path(project) / "params.yaml"), Path(project), Path(project))
    known = methods(stage.config)
    check(method, bits or 0.0, known)
    if (bits is None) == (size is None):
        raise PermeationError("either bits or size says how small the model becomes; accepted: one of them")
    if folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None):
        raise PermeationError(f"{folder} is not an empty folder")
    source, asked = stage.input("model"), stage.config.rivals
    problem = Problem.read(stage.input("extract_wqk"), stage.input("moments"), stage.config.seed, asked.whole)
    rival, original = known[method].fit(problem), original_parameters(problem.heads)
    if size is None:
        (size,) = sizes_near(rival, [(bits or 0.0) * original])
    if not rival.smallest <= size <= rival.largest:
        raise PermeationError(f"size is {size}; {method} has {rival.smallest} to {rival.largest} on this model")
    if packed and not isinstance(rival, Stored):
        raise PermeationError(f"{method} has no packed form; integers and rounded factors of a low rank have one")

    model = load_model(source)
    write_unfolded(model, rival.apply(size).to(torch.float32))
    with whole_folder(folder) as draft:
        model.save_pretrained(draft)
        load_tokenizer(source).save_pretrained(draft)
        del model
        stored = rival.stored_bits(size)
        written = Written(folder, method, size, stored, stored / original, score(draft, stage))
        if packed and isinstance(rival, Stored):
            write_packed(rival, size, stage.config.seed, draft / PACKED)
        command = f"permeation apply {method} --size {size} --output {folder.name}{' --packed' if packed else ''}"
        name, corpus = read_json(source / "model.json")["name"], stage.config.corpus
        (draft / "README.md").write_text(readme(written, name, corpus, command, problem.heads), encoding="utf-8")
    return written


def check(method: str, bits: float, known: Mapping[str, Method]) -> None:
    """Raise PermeationError for an unknown method, and for as many bits as the weights have."""
    if method not in known:
        raise PermeationError(f"method is {method!r}; accepted: {', '.join(known)}")
    if not 0 <= bits < BITS_PER_NUMBER:
        raise PermeationError(f"bits is {bits:g}; accepted: from 0 to less than {BITS_PER_NUMBER}, the weights' own")


def score(folder: Path, stage: Stage) -> Estimate:
    """The perplexity ratio of the checkpoint in a folder, over the untouched model's on the run's windows."""
    asked, baseline = stage.config.perplexity, Baseline.read(stage.input("baseline"))
    model = load_model(folder, stage.device).to(getattr(torch, asked.dtype))
    return baseline.ratio(baseline.score(model, asked.tolerance, asked.batch_size))


def readme(written: Written, name: str, corpus: str, command: str, heads: Heads) -> str:
    """What was done, in Markdown."""
    ratio, original = written.ratio, original_parameters(heads)
    which = "W_Q and W_K" if heads.W_V is None else "W_Q, W_K, W_V and W_O"
    setting = "" if heads.W_V is None else ", with `rivals.matrices: [q, k, v, o]`"
    interval = f"{ratio.low:.4f} to {ratio.high:.4f}" if math.isfinite(ratio.high) else "none"
    return f"""# {name}, with {which} compressed

- method: `{written.method}`, size {written.size} (docs/weights.md of semantic-permeation)
- perplexity ratio to the untouched model: {ratio.value:.6f}, 95 % interval {interval}, on {ratio.tokens} tokens of
  {corpus} ({ratio.windows} windows), scored from this folder
- storage of {which}, and their biases: {written.stored} bits, {written.bits:.3f} for each of {original} numbers, in
  place of {BITS_PER_NUMBER}. All other weights are as they were.
- command: `{command}`{setting}

`model.safetensors` holds the weights as they are read back, in float32: it is no smaller than the original.
`AutoModelForCausalLM.from_pretrained` loads this folder. `{PACKED}`, where it is here, holds what was counted;
`permeation.read_packed` gives the weights back, with the norms folded in.
"""

"""Train series of models: small ones from scratch, and low-rank updates (LoRA) of a base model.

    W = W_base + (α / r) B A,   A (r × inputs) drawn at random, B (outputs × r) zero at the start   (Hu et al. 2021)

A recipe holds everything that a training depends on; a finished model whose recipe is equal is not trained again.
The training itself is transformers' Trainer and peft's.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Int
from peft import LoraConfig, get_peft_model
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import Tensor

from permeation.frame.device import fast_products
from permeation.frame.seeds import named_seed
from permeation.frame.tables import read_json, whole_folder, write_json

SHAPE = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "v_proj"]}
SCRATCH = {"learning_rate": 4e-3, "weight_decay": 0.1, "per_device_train_batch_size": 8, "warmup_steps": 20}
TUNING = {"learning_rate": 2e-3, "weight_decay": 0.0, "per_device_train_batch_size": 1, "warmup_steps": 6}
TEXTS = {"scratch": ("wiki", "c4"), "adapters": ("c4", "code", "technical", "tiny")}
TEXTS["shuffled"] = TEXTS["adapters"]
LIBRARIES = ("accelerate", "peft", "tokenizers", "torch", "transformers")
CONTEXT = 128  # tokens of a window
SCORED = 8  # held-out windows from which a training's loss is reported
WORSE = 0.02  # nats by which the held-out loss rises over its lowest where a model is called overfitted


@dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Attributes:
        series: scratch; adapters; or shuffled, whose targets are each window's own tokens in random order.
        text, seed: what it is trained on, and where its random draws start. steps: of the optimiser.
        tokens: SHA-256 of what it learns from. base: what the updates are of (name and revision); None from scratch.
        model, training: settings of the shape or the update, and of the training. libraries: versions of what trains.
    """

    series: str
    text: str
    seed: int
    steps: int
    tokens: str
    base: str | None
    model: dict[str, Any]
    training: dict[str, Any]
    libraries: dict[str, str]

    @classmethod
    def of(cls, series: str, text: str, seed: int, steps: int, windows: Tensor, base: str) -> Recipe:
        """The recipe of a model of a series, trained on these windows."""
        tokens = hashlib.sha256(split(windows)[0].numpy().tobytes()).hexdigest()
        libraries = {name: version(name) for name in LIBRARIES}
        of, model, training = (None, SHAPE, SCRATCH) if series == "scratch" else (base, LORA, TUNING)
        return cls(series, text, seed, steps, tokens, of, model, training, libraries)

    @property
    def name(self) -> str:
        """The model's folder."""
        return f"{self.series}/{self.text}-{self.seed}"

    def finished(self, folder: Path) -> bool:
        """Whether the folder holds the model of this very recipe."""
        path = folder / self.name / "recipe.json"
        return path.is_file() and read_json(path) == asdict(self)

    def draws(self, what: str) -> int:
        """The seed of one of its random draws: no two models share one."""
        return named_seed(self.seed, f"{self.name}, {what}") % 2**32

    def untrained(self, base: Path) -> Any:
        """The model before its first step."""
        transformers.set_seed(self.draws("weights"))
        if self.base is None:
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**self.model))
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **self.model))


def byte_pairs(texts: Iterable[str]) -> Any:
    """A byte-level BPE tokenizer of the small models' vocabulary, learned from the texts."""
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(texts, SHAPE["vocab_size"], min_frequency=0, show_progress=False)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(learned.to_str()))


def cut(tokenizer: Any, text: str) -> Int[Tensor, "windows context"]:
    """The text as windows, none overlapping another."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
    return ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)


def split(windows: Int[Tensor, "windows context"]) -> tuple[Int[Tensor, "most context"], Int[Tensor, "held context"]]:
    """The windows that are learned from, and every seventh, which is held out."""
    held = torch.arange(len(windows)) % 7 == 6
    return windows[~held], windows[held]


def train(
    recipe: Recipe, windows: Int[Tensor, "windows context"], tokenizer: Any, base: Path, device: str, folder: Path
) -> None:
    """Train a model and write it to <folder>/<name>.

    checkpoint-<steps>/, from scratch with the tokenizer; training.json, the held-out loss by step in nats a token, and
    what is to be said of it; recipe.json.
    """
    inputs, held = split(windows)
    targets = inputs
    if recipe.series == "shuffled":
        generator = torch.Generator().manual_seed(recipe.draws("targets"))
        targets = inputs.gather(1, torch.rand(inputs.shape, generator=generator).argsort(1))
    with whole_folder(folder / recipe.name) as out, fast_products(), warnings.catch_warnings(action="ignore"):
        trainer = transformers.Trainer(
            recipe.untrained(base),
            transformers.TrainingArguments(
                output_dir=str(out),
                max_steps=recipe.steps,
                seed=recipe.draws("order"),
                eval_strategy="steps",
                eval_on_start=True,
                eval_steps=recipe.steps // 2,
                save_steps=0.2,  # of all steps; the last is saved, too
                save_only_model=True,
                disable_tqdm=True,
                use_cpu=device == "cpu",
                lr_scheduler_type="cosine",
                **recipe.training,
            ),
            transformers.default_data_collator,
            train_dataset=[{"input_ids": x, "labels": y} for x, y in zip(inputs, targets, strict=True)],
            eval_dataset=[{"input_ids": x, "labels": x} for x in held[:SCORED]],
            processing_class=tokenizer if recipe.base is None else None,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        loss = {str(row["step"]): row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row}
        write_json(out / "training.json", {"held_out": loss, "said": said_of(list(loss.values()))})
        write_json(out / "recipe.json", asdict(recipe))


def said_of(loss: list[float]) -> str:
    """Of held-out losses: learned; overfitted (it rose by 0.02 nats again); diverged (it did not fall)."""
    if not loss[-1] < loss[0]:
        return "diverged"
    return "overfitted" if loss[-1] > min(loss) + WORSE else "learned"


def held_out_losses(recipes: Sequence[Recipe], folder: Path) -> dict[str, Any]:
    """By series: the mean held-out loss before and after training, and how many models learned."""
    found: dict[str, Any] = {}
    for series in TEXTS:
        models = [read_json(folder / one.name / "training.json") for one in recipes if one.series == series]
        before, _, after = np.mean([list(model["held_out"].values()) for model in models], axis=0).tolist()
        found[series] = {"before": before, "after": after, **Counter(model["said"] for model in models)}
    return found

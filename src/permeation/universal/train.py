"""Train series of models: small ones from scratch, and low-rank updates (LoRA) of a base model.

    W = W_base + (α / r) B A,   A (r × inputs) drawn at random, B (outputs × r) zero at the start   (Hu et al. 2021)

A recipe holds everything that a training depends on; a finished model whose recipe is equal is not trained again.
The training itself is transformers' Trainer and peft's.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Bool, Int
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
CONTEXT = 128  # tokens of a window
TEXTS = {"scratch": ("wiki", "c4"), "adapters": ("c4", "code", "technical", "tiny")}
TEXTS["shuffled"] = TEXTS["adapters"]
LIBRARIES = ("accelerate", "peft", "tokenizers", "torch", "transformers")
HELD_OUT = 7  # every seventh window is held out
SCORED = 1024  # held-out tokens from which a training's loss is reported
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
        tokens = hashlib.sha256(windows[~held_out(windows)].numpy().tobytes()).hexdigest()
        libraries = {name: version(name) for name in LIBRARIES}
        if series == "scratch":
            return cls(series, text, seed, steps, tokens, None, SHAPE, SCRATCH, libraries)
        return cls(series, text, seed, steps, tokens, base, LORA, TUNING, libraries)

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


def byte_pairs(texts: Iterable[str]) -> Any:
    """A byte-level BPE tokenizer of the small models' vocabulary, learned from the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=SHAPE["vocab_size"], initial_alphabet=alphabet, show_progress=False)
    learned.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=learned)


def cut(tokenizer: Any, text: str) -> Int[Tensor, "windows context"]:
    """The text as windows, none overlapping another."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)
    return ids[: len(ids) // CONTEXT * CONTEXT].view(-1, CONTEXT)


def held_out(windows: Int[Tensor, "windows context"]) -> Bool[Tensor, "windows"]:
    """Which of the windows no model is trained on: every seventh."""
    return torch.arange(len(windows)) % HELD_OUT == HELD_OUT - 1


def train(
    recipe: Recipe, windows: Int[Tensor, "windows context"], tokenizer: Any, base: Path, device: str, folder: Path
) -> None:
    """Train a model and write it to <folder>/<name>.

    checkpoint-<steps>/ (from scratch also at half of them, with the tokenizer); training.json, the held-out loss by
    step in nats a token, and what is to be said of it; recipe.json.
    """
    transformers.set_seed(recipe.draws("weights"))
    scratch, held = recipe.base is None, held_out(windows)
    targets = windows[~held]
    if recipe.series == "shuffled":
        order = torch.rand(targets.shape, generator=torch.Generator().manual_seed(recipe.draws("targets"))).argsort(1)
        targets = targets.gather(1, order)
    scored = windows[held][: SCORED // CONTEXT]
    with whole_folder(folder / recipe.name) as out, fast_products(), warnings.catch_warnings(action="ignore"):
        arguments = transformers.TrainingArguments(
            output_dir=str(out),
            max_steps=recipe.steps,
            seed=recipe.draws("order"),
            eval_strategy="steps",
            eval_on_start=True,
            eval_steps=recipe.steps // 2,
            save_strategy="steps",
            save_steps=recipe.steps // 2 if scratch else recipe.steps,
            save_only_model=True,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=device == "cpu",
            label_names=["labels"],
            lr_scheduler_type="cosine",
            **recipe.training,
        )
        trainer = transformers.Trainer(
            _untrained(recipe, base),
            arguments,
            transformers.default_data_collator,
            train_dataset=_pairs(windows[~held], targets),
            eval_dataset=_pairs(scored, scored),
            processing_class=tokenizer if scratch else None,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        for path in out.rglob("training_args.bin"):
            path.unlink()
        for path in out.rglob("adapter_config.json"):  # the base by its name: a path means nothing elsewhere
            write_json(path, {**read_json(path), "base_model_name_or_path": str(recipe.base).partition("@")[0]})
        loss = {str(row["step"]): row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row}
        write_json(out / "training.json", {"held_out": loss, "said": said_of(loss)})
        write_json(out / "recipe.json", asdict(recipe))


def said_of(loss: Mapping[str, float]) -> str:
    """Of a held-out loss by step: learned; overfitted (it rose by 0.02 nats again); diverged (it did not fall)."""
    first, *_, last = loss.values()
    if not last < first:
        return "diverged"
    return "overfitted" if last > min(loss.values()) + WORSE else "learned"


def summarise(recipes: Iterable[Recipe], folder: Path) -> dict[str, Any]:
    """By series and text: mean held-out loss before and after training, and how many models learned."""
    found: dict[tuple[str, str], list[Any]] = {}
    for recipe in recipes:
        training = read_json(folder / recipe.name / "training.json")
        found.setdefault((recipe.series, recipe.text), []).append(training)
    summary: dict[str, Any] = {}
    for (series, text), of_seeds in found.items():
        losses = np.array([list(training["held_out"].values()) for training in of_seeds]).mean(axis=0)
        said = Counter(training["said"] for training in of_seeds)
        summary.setdefault(series, {})[text] = {"before": float(losses[0]), "after": float(losses[-1]), **said}
    return {"held_out": summary}


def _pairs(inputs: Int[Tensor, "windows context"], targets: Int[Tensor, "windows context"]) -> list[dict[str, Tensor]]:
    return [{"input_ids": x, "labels": y} for x, y in zip(inputs, targets, strict=True)]


def _untrained(recipe: Recipe, base: Path) -> Any:
    from peft import LoraConfig, get_peft_model

    if recipe.base is None:
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**recipe.model))
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **recipe.model))

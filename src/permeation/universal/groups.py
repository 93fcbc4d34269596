"""Which models are compared: those that `train` made, or those that a person lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from permeation.frame.seeds import named_seed
from permeation.frame.tables import read_json
from permeation.models.hub import snapshot
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.perplexity.windows import Text, bos_of
from permeation.universal.align import aligned, can_be_aligned
from permeation.universal.compare import UNTRAINED, Group
from permeation.universal.stack import Member


def made_groups(folder: Path, base: Path, scratch_steps: int, adapter_steps: int, tokens: int) -> list[Group]:
    """The models from scratch and the adapters of `base` that `train` wrote into a folder."""
    texts, names = load_file(folder / "held_out.safetensors"), read_json(folder / "summary.json")["names"]

    def made(series: str, steps: int) -> list[Member]:
        found = [(name.partition("/")[2], folder / name) for name in names if name.startswith(series)]
        origin = None if series == "scratch" else base
        return [Member(name, path / f"checkpoint-{steps}", origin) for name, path in found]

    def group(series: str, members: list[Member], others: dict[str, list[Member]]) -> Group:
        windows = [texts[f"{series}.{each.name.rpartition('-')[0]}"] for each in members]
        return Group(series, members, [each[: tokens // each.shape[1]] for each in windows], others)

    half, whole = made("scratch", scratch_steps // 2), made("scratch", scratch_steps)
    adapters, shuffled = made("adapters", adapter_steps), made("shuffled", adapter_steps)
    as_many = [each for each in adapters if each.name in {other.name for other in shuffled}]
    return [
        group("scratch", whole, {f"after {scratch_steps // 2} steps": half, UNTRAINED: without_training(whole)}),
        group("adapters", adapters, {"shuffled targets": shuffled, f"{len(as_many)} of the models": as_many}),
    ]


def listed_group(names: Sequence[str], base: tuple[str, Path], corpus: str, context: int, tokens: int) -> Group:
    """The models of these names: folders or names on the hub, checkpoints or adapters.

    `base` is a name for which a folder is there. All are measured on the same windows of the corpus.
    """
    members = [_member(name, base) for name in names]
    tokenizer = load_tokenizer(members[0].base or members[0].folder)
    text = Text.tokenize(tokenizer, fetch_corpus(corpus).text, bos=bos_of(tokenizer, "auto"))
    windows = text.spread(context, tokens).tokens
    others = {} if members[0].base else {UNTRAINED: without_training(members)}
    return Group("models", members, [windows] * len(members), others)


def _member(name: str, base: tuple[str, Path]) -> Member:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        on_hub, _, revision = name.partition("@")
        folder = snapshot(on_hub, revision or None)
    if not (folder / "adapter_config.json").is_file():
        return Member(name, folder)
    of = read_json(folder / "adapter_config.json")["base_model_name_or_path"]
    return Member(name, folder, base[1] if of == base[0] else _member(of, base).folder)


def without_training(members: Sequence[Member]) -> list[Member]:
    """As many untrained models of the same shape."""
    return [Member(f"untrained {i}", m.folder, seed=named_seed(i, "untrained")) for i, m in enumerate(members)]


def aligned_group(group: Group, folder: Path) -> Group | None:
    """The same models aligned to the first of them, and untrained ones; None for adapters and other shapes."""
    if UNTRAINED not in group.others or not can_be_aligned(group.members[0].load()):
        return None
    members, untrained = (
        aligned(each, folder / str(i)) for i, each in enumerate((group.members, group.others[UNTRAINED]))
    )
    return replace(group, name=f"{group.name}_aligned", members=members, others={UNTRAINED: untrained})

"""What models of one shape have in common: spectra beside null models, and each rebuilt from the others."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from permeation.frame.journal import Journal
from permeation.frame.progress import each
from permeation.frame.tables import read_json, write_json, write_results
from permeation.stage import Stage
from permeation.universal.compare import Group, by_claim, find_spectra, listed_group, made_groups, rebuild, tables

Rows = list[Any]


def main(stage: Stage) -> None:
    """Write data/compare_models/: summary.json; nll.json; plots/spectra.json, plots/left_out.json."""
    config, asked = stage.config, stage.config.universal
    base, made = stage.input("model"), stage.input("make_models")
    if asked.models == "made":
        groups = made_groups(made, base, asked.tokens)
    else:
        names = [stage.place(name) for name in asked.models]
        groups = [listed_group(names, config.corpus, config.perplexity.context, asked.tokens)]
    folders = {path for group in groups for one in group.members for path in (one.folder, one.base) if path}
    journal = stage.journal(*folders, settings=(asked, config.corpus, config.perplexity.context, config.seed))
    found, nll, plots = {}, {}, {"spectra": Rows(), "left_out": Rows()}
    for group in groups:
        with TemporaryDirectory(dir=stage.root / "data") as scratch:
            stack, spectra = find_spectra(group, Path(scratch), config.seed, str(stage.device))
            measure = partial(rebuild, group, stack, asked.components, config.seed, str(stage.device))
            nll[group.name] = left_out(stage, group, measure, journal)
        found[group.name], own = tables(group, spectra, nll[group.name], asked.components)
        plots = {name: plots[name] + rows for name, rows in own.items()}
    training = {"held_out": read_json(made / "summary.json")["held_out"]}
    with stage.output() as out:
        write_results(out, {"universal": training | by_claim(found) | found}, plots)
        write_json(out / "nll.json", nll)


def left_out(stage: Stage, group: Group, measure: Callable[[int], Rows], journal: Journal) -> dict[str, Rows]:
    """What each model of a group loses when it is rebuilt from the others, by its name."""
    keys = [{"models": group.name, "left_out": member.name} for member in group.members]
    missing = [i for i, key in enumerate(keys) if journal.recall(key) is None]
    with stage.engine() as engine:
        results = each(engine.map(measure, missing), f"left out, {group.name}", len(missing))
        for i, rows in zip(missing, results, strict=True):
            journal.keep(keys[i], rows)
    return {key["left_out"]: journal.recall(key) for key in keys}

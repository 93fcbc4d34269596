"""What models of one shape have in common: spectra beside null models, and each rebuilt from the others."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from permeation.frame.journal import Journal
from permeation.frame.progress import each
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.stage import Stage, run
from permeation.universal.compare import (
    Group,
    by_claim,
    dimension_rows,
    find_spectra,
    ratio_rows,
    ratio_summary,
    spectrum_rows,
    spectrum_summary,
)
from permeation.universal.groups import aligned_group, listed_group, made_groups
from permeation.universal.leave_out import LeaveOneOut, losses
from permeation.universal.stack import Stack

Rows = list[dict[str, Any]]


def main(stage: Stage) -> None:
    """Write data/compare_models/: summary.json; dimensions.json, nll.json; plots/spectra.json, plots/left_out.json."""
    config, settings, device = stage.config, stage.config.universal, str(stage.device)
    base, made = stage.input("model"), stage.input("make_models")
    if settings.models == "made":
        groups = made_groups(made, base, settings.scratch_steps, settings.adapter_steps, settings.tokens)
    else:
        named = (read_json(base / "model.json")["name"], base)
        names = [stage.place(name) for name in settings.models]
        groups = [listed_group(names, named, config.corpus, config.perplexity.context, settings.tokens)]
    folders = {path for group in groups for one in group.members for path in (one.folder, one.base) if path}
    journal = stage.journal(*folders, settings=(settings, config.corpus, config.perplexity.context, config.seed))
    found: dict[str, Any] = {}
    tables: dict[str, Rows] = {"spectra": [], "dimensions": [], "left_out": []}
    nll = {}
    with TemporaryDirectory(dir=stage.root / "data") as scratch:
        folder = Path(scratch)
        groups += [g for i, group in enumerate(groups) if (g := aligned_group(group, folder / f"aligned{i}"))]
        for group in groups:
            stack = Stack.read(group.members, folder / group.name)
            spectra = find_spectra(group, stack, folder / f"{group.name}_others", config.seed, device)
            measure = LeaveOneOut(stack, group.windows, settings.components, config.seed, device)
            rows = left_out(stage, group, measure, journal)
            lost = losses(rows)
            tables["spectra"] += spectrum_rows(group.name, spectra)
            tables["dimensions"] += dimension_rows(group.name, spectra)
            tables["left_out"] += ratio_rows(group.name, lost, settings.components)
            found[group.name] = spectrum_summary(spectra) | ratio_summary(lost, settings.components)
            nll[group.name] = dict(zip((member.name for member in group.members), rows, strict=True))
    with stage.output() as out:
        training = {"held_out": read_json(made / "summary.json").get("held_out", {})}
        write_json(out / "summary.json", {"universal": training | by_claim(found) | found})
        write_json(out / "nll.json", nll)
        write_rows(out / "dimensions.json", tables.pop("dimensions"))
        for name, table in tables.items():
            write_rows(out / "plots" / f"{name}.json", table)


def left_out(stage: Stage, group: Group, measure: LeaveOneOut, journal: Journal) -> list[Rows]:
    """Every model of a group rebuilt from the others and measured; what an earlier run measured is taken over."""
    keys = [{"models": group.name, "left_out": member.name} for member in group.members]
    kept = {i: rows for i, key in enumerate(keys) if (rows := journal.recall(key)) is not None}
    missing = [i for i in range(len(keys)) if i not in kept]
    with stage.engine() as engine:
        results = each(engine.map(measure, missing), f"left out, {group.name}", len(missing))
        kept |= {i: journal.keep(keys[i], rows) for i, rows in zip(missing, results, strict=True)}
    return [kept[i] for i in range(len(keys))]


if __name__ == "__main__":
    run(main)

"""What models of one shape have in common: spectra beside null models, and each rebuilt from the others."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from permeation.frame.progress import each
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.stage import Stage, run
from permeation.universal.compare import (
    Group,
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
    config, settings = stage.config, stage.config.universal
    base, made = stage.input("model"), stage.input("make_models")
    if settings.models == "made":
        groups = made_groups(made, base, settings.tokens)
    else:
        named = (read_json(base / "model.json")["name"], base)
        names = [stage.place(name) for name in settings.models]
        groups = [listed_group(names, named, config.corpus, config.perplexity.context, settings.tokens)]
    summary: dict[str, Any] = read_json(made / "summary.json")
    spectra: Rows = []
    dimensions: Rows = []
    ratios: Rows = []
    nll = {}
    with TemporaryDirectory(dir=stage.root / "data") as scratch:
        folder = Path(scratch)
        groups += [g for i, own in enumerate(groups) if (g := aligned_group(own, folder / f"aligned{i}"))]
        for i, group in enumerate(groups):
            stack = Stack.read(group.members, folder / str(i))
            found = find_spectra(group, stack, folder / f"others{i}", config.seed, str(stage.device))
            models = left_out(stage, group, stack)
            spectra += spectrum_rows(group.name, found)
            dimensions += dimension_rows(group.name, found)
            ratios += ratio_rows(group.name, losses(models), settings.components)
            nll[group.name] = dict(zip((member.name for member in group.members), models, strict=True))
            summary[group.name] = spectrum_summary(found) | ratio_summary(losses(models), settings.components)
    with stage.output() as out:
        write_json(out / "summary.json", {"universal": summary})
        write_json(out / "nll.json", nll)
        write_rows(out / "dimensions.json", dimensions)
        write_rows(out / "plots" / "spectra.json", spectra)
        write_rows(out / "plots" / "left_out.json", ratios)


def left_out(stage: Stage, group: Group, stack: Stack) -> list[list[dict[str, Any]]]:
    """Every model of a group rebuilt from the others and measured; what an earlier run measured is taken over."""
    settings = stage.config.universal
    journal = stage.journal(stage.input("make_models"), settings=(settings, stage.config.corpus, stage.config.seed))
    measure = LeaveOneOut(stack, group.windows, settings.components, stage.config.seed, str(stage.device))
    keys = [{"models": group.name, "left_out": member.name} for member in group.members]
    kept = {i: rows for i, key in enumerate(keys) if (rows := journal.recall(key)) is not None}
    missing = [i for i in range(len(keys)) if i not in kept]
    with stage.engine() as engine:
        results = each(engine.map(measure, missing), f"left out, {group.name}", len(missing))
        kept |= {i: journal.keep(keys[i], rows) for i, rows in zip(missing, results, strict=True)}
    return [kept[i] for i in range(len(keys))]


if __name__ == "__main__":
    run(main)

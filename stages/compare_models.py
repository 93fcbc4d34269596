"""What models of one shape have in common: spectra beside null models, and each rebuilt from the others."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from permeation.frame.journal import Journal
from permeation.frame.progress import each
from permeation.frame.tables import read_json, write_json, write_rows
from permeation.stage import Stage, run
from permeation.universal import compare
from permeation.universal.stack import Stack


def main(stage: Stage) -> None:
    """Write data/compare_models/: summary.json; nll.json; plots/spectra.json, plots/left_out.json."""
    config, asked = stage.config, stage.config.universal
    base, made = stage.input("model"), stage.input("make_models")
    if asked.models == "made":
        groups = compare.made_groups(made, base, asked.tokens)
    else:
        names = [stage.place(name) for name in asked.models]
        groups = [compare.listed_group(names, config.corpus, config.perplexity.context, asked.tokens)]
    folders = {path for group in groups for one in group.members for path in (one.folder, one.base) if path}
    journal = stage.journal(*folders, settings=(asked, config.corpus, config.perplexity.context, config.seed))
    found: dict[str, Any] = {}
    nll: dict[str, Any] = {}
    spectra: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    for group in groups:
        with TemporaryDirectory(dir=stage.root / "data") as scratch:
            stack = Stack.read(group.members, Path(scratch) / group.name)
            own = compare.find_spectra(group, stack, Path(scratch), config.seed, str(stage.device))
            visible = (*folders, Path(scratch))
            measure = compare.LeaveOneOut(group, stack, asked.components, config.seed, str(stage.device), visible)
            nll[group.name] = left_out(stage, measure, journal)
        lost = compare.losses(list(nll[group.name].values()))
        spectra += compare.spectrum_rows(group.name, own)
        ratios += compare.ratio_rows(group.name, lost, asked.components)
        found[group.name] = compare.summary(own, lost, asked.components)
    training = {"held_out": read_json(made / "summary.json")["held_out"]}
    with stage.output() as out:
        write_json(out / "summary.json", {"universal": training | compare.by_claim(found) | found})
        write_json(out / "nll.json", nll)
        write_rows(out / "plots" / "spectra.json", spectra)
        write_rows(out / "plots" / "left_out.json", ratios)


def left_out(stage: Stage, measure: compare.LeaveOneOut, journal: Journal) -> dict[str, Any]:
    """What every model of a group loses when it is rebuilt from the others; an earlier run's are taken over."""
    keys = {member.name: {"models": measure.group.name, "left_out": member.name} for member in measure.group.members}
    missing = [i for i, key in enumerate(keys.values()) if journal.recall(key) is None]
    with stage.engine() as engine:
        results = each(engine.map(measure, missing), f"left out, {measure.group.name}", len(missing))
        for i, rows in zip(missing, results, strict=True):
            journal.keep(list(keys.values())[i], rows)
    return {name: journal.recall(key) for name, key in keys.items()}


if __name__ == "__main__":
    run(main)

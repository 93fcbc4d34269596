"""Every figure of the reports, by the table under plots/ that it is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from permeation.frame.tables import read_yaml
from permeation.report.claims import Claim
from permeation.report.draw import BEATEN, Rows, Spec, forest, groups

FIGURES: dict[str, dict[str, Any]] = read_yaml(Path(__file__).with_name("figures.yaml"))
# Beyond a ratio of 2 nobody would use the model; below one of 1.0003 nobody could tell.
HOPELESS, FLOOR = 2.0, 3e-4
TESTS = {"direction": "clear contexts (leave pair out)", "gradient": "graded contexts (held out)"}


def _nulls(rows: Rows) -> Rows:
    """Each null model's rows with the words' own curve in the same panel."""
    models = groups(rows, "panel")
    words = models.pop("words")
    series = {model: (("the words", words), ("null model (95 %)", own)) for model, own in models.items()}
    return [{**row, "panel": m, "series": name} for m, lines in series.items() for name, line in lines for row in line]


def _response(rows: Rows) -> Rows:
    """f with its 95 % interval and R² of each word as two series."""
    found = [{**row, "series": "f", "value": row["f"]} for row in rows]
    for row in found:
        row |= {end: row["f"] + z * row["standard_error"] for end, z in (("low", -1.96), ("high", 1.96))}
    return found + [{**row, "series": "R²", "value": row["r_squared"]} for row in rows]


def _pareto(rows: Rows) -> Rows:
    """The excess over the untouched perplexity, of what does not double it; what is beaten last."""
    excess = [
        {**row, "method": row["method"] if row["frontier"] else BEATEN}
        | {each: min(max(row[each] - 1, FLOOR), HOPELESS - 1) for each in ("ratio", "low", "high")}
        for row in rows
        if row["ratio"] is not None and row["ratio"] <= HOPELESS
    ]
    return sorted(excess, key=lambda row: not row["frontier"])


def _heads(rows: Rows) -> Rows:
    """The first component as a share of the form's largest, for one colour scale."""
    most = {form: max(abs(row["component_1"]) for row in own) or 1.0 for form, own in groups(rows, "form").items()}
    return [{**row, "component_1": row["component_1"] / most[row["form"]]} for row in rows]


# What brings the rows of a table to the columns that its figure needs.
PREPARED: dict[str, Callable[[Rows], Rows]] = {
    "nulls": _nulls,
    "intervene": lambda rows: [row for row in rows if row["word"] == "mean"],
    "decoding": lambda rows: [
        {**row, "test": TESTS[row["test"]], "direction": f"{row['direction']} direction"} for row in rows
    ],
    "response": _response,
    "bands": lambda rows: [
        {**row, "band": f"{row['first']}–{row['last']}\n{row['variance']:.1%} of variance"} for row in rows
    ],
    "pareto": _pareto,
    "heads": _heads,
    "head_roles": lambda rows: [row for row in rows if row["series"] != "random"],
    "compressed": lambda rows: [row for row in rows if row["kept"] is not None],
    "left_out": lambda rows: [row for row in rows if row["components"]],
}


def draw(name: str, rows: Rows) -> Figure | None:
    """The figure of a table; None where there is none to draw."""
    prepared = PREPARED.get(name, list)(rows) if name in FIGURES and rows else ()
    return Spec(**FIGURES[name]["look"]).draw(prepared) if prepared else None


def draw_claims(claims: Collection[Claim]) -> Figure | None:
    """The figure of those claims that were measured."""
    measured = [claim for claim in claims if claim.found]
    return forest(measured) if measured else None

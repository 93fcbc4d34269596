"""The one look that all figures share, and how their rows are picked apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Rows = Sequence[dict[str, Any]]

mpl.use("agg")

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def use_style() -> None:
    """Set matplotlib to style.mplstyle."""
    plt.style.use(Path(__file__).with_name("style.mplstyle"))


def values(rows: Rows, column: str) -> list[Any]:
    """One column."""
    return [row[column] for row in rows]


def where(rows: Rows, **wanted: Any) -> Rows:
    """The rows whose columns hold the wanted values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def unique(rows: Rows, column: str) -> list[Any]:
    """The different values of a column, in order of appearance."""
    return list(dict.fromkeys(values(rows, column)))

"""The charts of where both axes meet compile in Vega and have a mark for every head and model."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc_render.vega import VegaRenderer
from matplotlib import pyplot as plt

from permeation.frame.pipeline import ASKED_FOR
from permeation.report.figures.heads import FIGURES
from permeation.report.offline import VEGA_LITE
from tests.conftest import PROJECT
from tests.report.test_pages import marks
from tests.support.sample_tables import sample_tables

CHARTS: dict[str, dict[str, Any]] = {
    name: chart for entry in yaml.safe_load((PROJECT / ASKED_FOR).read_text())["plots"] for name, chart in entry.items()
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_compiles_and_has_marks(name: str) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    chart = CHARTS[name]
    ((path, column),) = chart["y"].items()
    assert (PROJECT / ASKED_FOR).parent / path == PROJECT / "heads" / ".." / "plots" / "heads" / Path(path).name
    counts = []
    for revisions in (("HEAD",), ("HEAD", "workspace")):
        rows = [row | {"rev": rev} for seed, rev in enumerate(revisions) for row in sample_tables(seed)[name]]
        settings = chart | {"y": column, "template_dir": str(PROJECT / ".dvc" / "plots")}
        spec = VegaRenderer(rows, path, **settings).get_filled_template()
        assert "<DVC_METRIC" not in json.dumps(spec)
        svg = str(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE))
        assert all(re.search(rf">{rev}<", svg) for rev in revisions)
        counts.append(marks(svg))
    assert 0 < counts[0] < counts[1]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_from_its_table(name: str) -> None:
    rows = sample_tables(0)[name]
    figure = FIGURES[name](rows)
    drawn = sum(len(axis.collections) + len(axis.lines) + len(axis.images) for axis in figure.axes)
    plt.close(figure)
    assert drawn >= len({row.get("series", row.get("measure")) for row in rows})

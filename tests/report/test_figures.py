"""Figures and the page."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import pyplot as plt

from permeation.frame.tables import read_json, write_json
from permeation.report.draw import _scale
from permeation.report.figures import FIGURES, FLOOR, draw
from permeation.report.page import write_page
from permeation.report.results import Place, Results
from tests.report.conftest import PARAMETERS
from tests.support.project import PROJECT
from tests.support.sample_tables import sample_tables

TABLES = sample_tables()


def test_every_figure_has_a_table_and_a_caption() -> None:
    assert {*FIGURES} == {*TABLES} | {"compare", "claims"}
    assert all(each["caption"].endswith(".") for each in FIGURES.values())


@pytest.mark.parametrize("name", TABLES)
def test_a_figure_has_its_panels_and_labels(name: str) -> None:
    figure = draw(name, TABLES[name])
    assert figure.get_supylabel()
    assert figure.get_supxlabel()
    assert all(axis.has_data() for axis in figure.axes if axis.get_visible())
    plt.close("all")


def test_a_map_has_layer_0_at_the_bottom_and_one_scale() -> None:
    figure = draw("head_roles", TABLES["head_roles"])
    images = [axis.images[0] for axis in figure.axes if axis.images]
    assert all(image.origin == "lower" for image in images)
    assert len({image.get_clim() for image in images}) == 1
    assert np.asarray(images[0].get_array())[0, 3] == 1.5  # layer 0, head 3


def test_the_frontier_has_no_line_and_cuts_nothing_off() -> None:
    rows = [row | {"low": 0.9} for row in TABLES["pareto"]]  # intervals that reach below 1
    (axis,) = draw("pareto", rows).axes
    low, high = axis.get_ylim()
    left, right = axis.get_xlim()
    shown = [row for row in rows if row["ratio"] <= 2]
    assert low < FLOOR
    assert all(row["ratio"] - 1 < high and left < row["bits"] < right for row in shown)
    assert all(line.get_linestyle() in ("None", "--") for line in axis.lines)


def test_a_scale_keeps_the_order_and_reaches_infinity() -> None:
    for known in ([0.0, 1.0, 2.0], [1.0, 10.0, 1000.0]):
        scale = _scale(known)
        assert 0 == scale(float("-inf")) < scale(known[0]) < scale(known[1]) < scale(known[2]) < scale(float("inf"))
    assert _scale([3.0])(3.0) == 0.05


def test_the_page_is_whole_and_asks_no_network(run: Path) -> None:
    (run / "data" / ".journal").mkdir(parents=True)
    (run / "data" / ".journal" / "pca.seconds").write_text("1.6\n")
    content = write_page(Results.read(Place("run", run), PARAMETERS), PROJECT).read_text()
    page = ElementTree.fromstring(re.sub(r"(<(?:meta|link|img)\b[^>]*)>", r"\1/>", content))
    addresses = [each.attrib[name] for each in page.iter() for name in ("src", "href") if name in each.attrib]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "<script" not in content
    assert content.count("data:image/png") == len(TABLES) + 1  # and the claims
    assert re.search(r"device</th><td>cpu.*\n.*\d{4}-\d\d-\d\d \d\d:\d\d UTC.*\n.*commit</th><td>[0-9a-f]+", content)
    assert re.search(r"pca</th><td>1\.6</td></tr>\n.*all</th><td>2", content)
    assert "The parameters are those of the committed" in content


def test_the_page_says_of_which_run_it_is(run: Path) -> None:
    path = run / "metrics" / "meaning_run.json"
    recorded = read_json(path)
    write_json(path, recorded | {"parameters": recorded["parameters"] | {"response": {"field": "rank"}}})
    content = write_page(Results.read(Place("run", run), None), PROJECT).read_text()
    assert "Unlike the committed <code>params.yaml</code>: <code>response.field: rank</code>." in content


def test_the_page_shows_the_axes_that_match(run: Path) -> None:
    content = write_page(Results.read(Place("run", run), PARAMETERS | {"words": "other.yaml"}), PROJECT).read_text()
    assert "params.yaml has another words. Run: dvc repro report_meaning" in content
    assert "Do the heads share a small subspace?" in content
    assert "Is the response over depth" not in content

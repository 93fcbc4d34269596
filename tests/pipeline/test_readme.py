"""The README says what the committed run found, and its commands exist."""

import json
import re
from typing import Any

import pytest

import bench.__main__ as scorer
import bench.stages
from permeation.weights.forms import FORMS
from tests.conftest import PROJECT

README = " ".join((PROJECT / "README.md").read_text(encoding="utf-8").split())


def metrics(name: str) -> Any:
    return json.loads((PROJECT / "metrics" / f"{name}.json").read_text(encoding="utf-8"))


def interval(table: Any, key: str) -> str:
    return f"{table[key]:.3f} [{table[key + '_low']:.3f}, {table[key + '_high']:.3f}]"


def test_the_meaning_axis_is_the_committed_run() -> None:
    g = metrics("g")
    for said in (
        interval(g, "word_correlation_mean"),
        interval(g, "auc_gradient_own"),
        interval(g, "auc_direction_own"),
        interval(g, "decomposition_r2"),
        f"{g['alpha']:.2f} [{g['alpha_low']:.2f}, {g['alpha_high']:.2f}]",
        f"with shuffled senses {g['null']['senses_shuffled']['word_correlation_mean']:.3f}",
        f"without sense in the direction {g['null']['within_senses']['word_correlation_mean']:.3f}",
        f"{g['separation_mean']:.3f}",
    ):
        assert said in README


@pytest.mark.parametrize("form", FORMS)
def test_the_spectra_are_the_committed_run(form: str) -> None:
    pca = metrics("pca")
    own = (pca if form == "gram" else pca[form])["components_for_variance"]
    name = {"score_centred": "score form, mean key out"}.get(form, f"{form} form")
    assert f"| {name} | {' | '.join(map(str, own.values()))} |" in README
    assert f"| {name}, heads in random frames | {' | '.join(map(str, pca['null'][form].values()))} |" in README


def fold(table: Any, key: str) -> str:
    return f"{table['ratio'][key]:.0f}-fold [{table['ratio_low'][key]:.0f}, {table['ratio_high'][key]:.0f}]"


def test_the_ratios_are_the_committed_run() -> None:
    perplexity, clusters = metrics("perplexity"), metrics("clusters")
    for table, chosen in ((perplexity, ("1", "8", "32", "64", "all")), (clusters, ("4", "12", "16", "32"))):
        for part in (table, table["first_layer_kept"]):
            said = (f"{part['ratio'][k]:.4f}" if k == "all" else f"{part['ratio'][k]:,.0f}" for k in chosen)
            assert f"| {', '.join(said)} |" in README
    assert fold(perplexity, "64") in README
    assert fold(perplexity["first_layer_kept"], "64") in README


def test_the_rivals_are_the_committed_run() -> None:
    rows = json.loads((PROJECT / "plots" / "pareto.json").read_text(encoding="utf-8"))
    assert rows
    for row in rows:
        digits = 0 if row["ratio"] > 10 else 4 if row["method"] == "int8" else 3
        assert f"{row['ratio']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]" in README


def test_what_predicts_the_harm_is_the_committed_run() -> None:
    said = "without the mean key {score_centred:.2f}, with it {score:.2f}, gram {gram:.2f}, circuit {circuit:.2f}"
    assert said.format(**metrics("rivals")["proxy"]) in README


def test_where_it_lives_is_the_committed_run() -> None:
    rows = json.loads((PROJECT / "plots" / "bands.json").read_text(encoding="utf-8"))
    for every, but_first in zip(rows[::2], rows[1::2], strict=True):
        ratios = (f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for row in (every, but_first))
        variance = f"{100 * every['variance']:.0f} %"
        assert f"| {every['first']}–{every['last']} | {variance} | {' | '.join(ratios)} |" in README
    layers = json.loads((PROJECT / "plots" / "layers.json").read_text(encoding="utf-8"))
    most = max(row["ratio"] for row in layers[1:])
    first = "{ratio:.1f} [{low:.1f}, {high:.1f}]".format(**layers[0])
    assert f"layer 0 alone multiplies the perplexity by {first}; no other layer by more than {most:.2f}" in README


def test_the_timings_are_those_of_the_benches() -> None:
    stages = json.loads((PROJECT / "bench" / "stages.json").read_text(encoding="utf-8"))
    assert " ".join(bench.stages.table(stages).split()) in README
    for found in json.loads((PROJECT / "bench" / "results.json").read_text(encoding="utf-8")).values():
        assert " ".join(scorer.table(found).split()) in README


def test_the_commands_of_the_makefile_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)`", README)) <= targets


def test_every_stage_is_explained() -> None:
    stages = {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"}
    table = README[README.index("## The stages") : README.index("## Speed")]
    assert {name for name in re.findall(r"`(\w+)`", table) if name in stages} == stages

"""dvc.yaml says what the stages really use."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from permeation.report.axes import AXES, Axis
from tests.conftest import PROJECT
from tests.support.project import PROGRAMS, REPORTS, stages_of

DEFAULT = stages_of("dvc.yaml")
ON_DEMAND = {name: stage for file in PROJECT.glob("*/dvc.yaml") for name, stage in stages_of(f"{file}").items()}
STAGES = DEFAULT | ON_DEMAND
PACKAGE = PROJECT / "src" / "permeation"
PARAMS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
# Keys of params.yaml that change no result, so that no stage depends on them.
WITHOUT_EFFECT = {"device", "engine"}
# The rooms of the package by their level: a module imports from lower levels only.
ROOMS = {"frame": 0, "models": 1, "perplexity": 2, "meaning": 3, "weights": 3, "rivals": 4, "universal": 4, "heads": 5}
ROOMS |= {"settings": 6, "report": 7}
# How a stage runs, which no result depends on.
AROUND = {PACKAGE / "stage.py", PACKAGE / "settings.py", PACKAGE / "__init__.py"}


def imported(path: Path) -> set[str]:
    """Names of everything a file imports when it runs (what stands under TYPE_CHECKING does not)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms_used(script: Path) -> set[str]:
    """The rooms of the package that a script imports, directly or through others."""
    modules = [script]
    for module in modules:  # grows
        places = [PROJECT / "src" / name.replace(".", "/") for name in imported(module)]
        found = {file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")}
        modules += [file for file in found - AROUND - {*modules} if file.is_file()]
    return {room(module) for module in modules[1:]}


def room(module: Path) -> str:
    """The folder of the package that a module is in."""
    return module.relative_to(PACKAGE).parts[0]


def outputs(stage: dict[str, Any]) -> dict[str, Any]:
    """The paths that a stage writes, with DVC's options for them."""
    listed = stage.get("outs", []) + stage.get("metrics", [])
    return {path: options for out in listed for path, options in (out if isinstance(out, dict) else {out: {}}).items()}


def data(stage: dict[str, Any]) -> set[str]:
    """The folders under data/ that a stage depends on."""
    return {dep.removeprefix("data/") for dep in stage["deps"] if re.fullmatch(r"data/\w+", dep)}


def test_there_is_a_stage_for_every_script() -> None:
    scripts = {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__", "__main__"}
    assert {script for script, *_ in PROGRAMS.values()} == scripts
    assert all(stage["cmd"].startswith("stages/run ") for stage in STAGES.values())
    assert all(name == "_".join(program) for name, program in PROGRAMS.items())  # report_meaning: report meaning


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_the_code_it_uses(name: str) -> None:
    script = f"stages/{PROGRAMS[name][0]}.py"
    listed = {dep for dep in STAGES[name]["deps"] if dep.startswith(("src/", "stages/"))}
    used = rooms_used(PROJECT / script) | {"frame"}
    assert listed == {script} | {f"src/permeation/{each}" for each in used}


def test_imports_run_one_way() -> None:
    """From the report down to the frame; rooms on one level do not know each other. Only the report knows settings."""
    for module in PACKAGE.rglob("*/*.py"):
        for name in imported(module):
            if name.startswith("permeation.") and (other := name.split(".")[1]) != room(module):
                may_read_params = module.name == "__main__.py" and other == "settings"  # the program of a room
                assert ROOMS.get(other, 9) < ROOMS[room(module)] or may_read_params, f"{module} imports {name}"


@pytest.mark.parametrize("name", [name for name in STAGES if name not in REPORTS and not name.startswith("report_")])
def test_a_stage_depends_on_the_data_it_reads(name: str) -> None:
    """The folders named in the statements in which it calls stage.input."""
    tree = ast.parse((PROJECT / "stages" / f"{name}.py").read_text(encoding="utf-8"))
    statements = (
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.Expr | ast.Return | ast.withitem)
    )
    named = {word for each in statements if ".input" in each for word in re.findall(r"'(\w+)'", each)}
    folders = {out.removeprefix("data/") for stage in STAGES.values() for out in outputs(stage)}
    assert named & folders == data(STAGES[name]) - {"check"}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_parameters_it_uses(name: str) -> None:
    listed = STAGES[name].get("params", [])
    if listed == [{"params.yaml": None}]:  # the whole file
        return
    for key in listed:
        value = PARAMS
        for part in key.split("."):
            value = value[part]
    script = (PROJECT / "stages" / f"{name}.py").read_text(encoding="utf-8")
    used = set(re.findall(r"\b(?:config\.|stage\.(?=words))(\w+)", script))
    assert used & PARAMS.keys() - WITHOUT_EFFECT == {key.split(".")[0] for key in listed}


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_a_report_depends_on_its_axis_and_writes_its_files(axis: Axis) -> None:
    stage = STAGES[f"report_{axis.name}"]
    assert stage["params"] == [{"params.yaml": None}]  # an unknown key makes it stale, and settings refuse it
    assert data(stage) >= {"model", *axis.stages}
    files = {f"metrics/{name}.json" for name in (axis.name, axis.run, *axis.files)}
    assert outputs(stage).keys() >= files | {f"plots/{axis.name}"}


def test_every_chart_is_the_output_of_a_report() -> None:
    plots = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    for plot in plots:
        (chart,) = [plot] if isinstance(plot, str) else [path for entry in plot.values() for path in entry["y"]]
        assert any(chart.startswith(f"{out}/") for stage in DEFAULT.values() for out in outputs(stage)), chart
        for entry in () if isinstance(plot, str) else plot.values():
            assert (PROJECT / ".dvc" / "plots" / f"{entry['template']}.json").is_file()


@pytest.mark.parametrize("name", STAGES)
def test_only_reports_and_what_is_run_on_demand_keep_outputs_out_of_the_cache_and_lose_none(name: str) -> None:
    """A stage with an output that is not cached is never restored, so it would run again at every change of model.

    DVC removes a stage's outputs before it runs, except those that persist. What is run on demand is not cached, or
    `dvc checkout` would miss the data of the committed lock that most people never made.
    """
    kept_out = name in REPORTS or name in ON_DEMAND
    expected = {"cache": False, "persist": True} if kept_out else {}
    assert all(options == expected for options in outputs(STAGES[name]).values())

"""dvc.yaml says what the stages really use."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from permeation.frame.pipeline import ASKED_FOR, stages_of
from permeation.report.axes import AXES, HEADS, Axis
from tests.conftest import PROJECT

STAGES: dict[str, Any] = stages_of(PROJECT)
ON_DEMAND: dict[str, Any] = yaml.safe_load((PROJECT / ASKED_FOR).read_text())["stages"]
PACKAGE = PROJECT / "src" / "permeation"
# The rooms of the package by their level: a module imports from lower levels only.
ROOMS = {
    "frame": 0,
    "models": 1,
    "perplexity": 2,
    "meaning": 3,
    "weights": 3,
    "rivals": 4,
    "heads": 4,
    "config": 5,
    "report": 6,
}
PARAMS: dict[str, Any] = yaml.safe_load((PROJECT / "params.yaml").read_text())


def imported(path: Path) -> set[str]:
    """Names of everything a file imports when it runs (what stands under TYPE_CHECKING does not)."""
    tree = ast.parse(path.read_text())
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


def modules_used(script: Path) -> set[Path]:
    """The package's modules that a script imports, directly or through others."""
    todo, seen = [script], set[Path]()
    while todo:
        for name in imported(todo.pop()):
            place = PROJECT / "src" / name.replace(".", "/")
            for module in (place.with_suffix(".py"), place / "__init__.py"):
                if module.is_file() and module not in seen:
                    seen.add(module)
                    todo.append(module)
    return seen


def room(module: Path) -> str:
    """The folder of the package that a module is in."""
    return module.relative_to(PACKAGE).parts[0]


def test_there_is_a_stage_for_every_script() -> None:
    scripts = {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"}
    assert set(STAGES) == scripts
    assert all(stage["cmd"] == f"stages/run {name}" for name, stage in STAGES.items())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_the_code_it_uses(name: str) -> None:
    script = f"stages/{name}.py"
    listed = {dep for dep in STAGES[name]["deps"] if dep.startswith(("src/", "stages/"))}
    used = {room(module) for module in modules_used(PROJECT / script)} & set(ROOMS) - {"frame"}
    assert listed == {script, "src/permeation/frame/FORMAT"} | {f"src/permeation/{each}" for each in used}


def test_imports_run_one_way() -> None:
    """From the report down to the frame; rooms on one level do not know each other."""
    for module in PACKAGE.rglob("*.py"):
        if len(module.relative_to(PACKAGE).parts) == 1:
            continue
        for name in imported(module):
            if name.startswith("permeation.") and (other := name.split(".")[1]) != room(module):
                assert ROOMS[other] < ROOMS[room(module)], f"{module} imports {name}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_data_it_reads(name: str) -> None:
    tree = ast.parse((PROJECT / "stages" / f"{name}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    read = {
        node.args[0].value for node in calls if node.func.attr == "input" and isinstance(node.args[0], ast.Constant)
    }
    listed = {dep.removeprefix("data/") for dep in STAGES[name]["deps"] if dep.startswith("data/")}
    assert read <= listed


@pytest.mark.parametrize("name", STAGES)
def test_the_parameters_of_a_stage_exist(name: str) -> None:
    for key in STAGES[name].get("params", ()):
        value = PARAMS
        for part in key.split("."):
            value = value[part]


@pytest.mark.parametrize("axis", (*AXES, HEADS), ids=lambda axis: axis.name)
def test_a_report_depends_on_its_axis_and_writes_its_files(axis: Axis) -> None:
    stage = STAGES[axis.stage]
    claims = () if axis in AXES else (axis.claims,)  # those of the two axes are made by `report`
    listed = {dep.removeprefix("data/") for dep in stage["deps"] if dep.startswith("data/")}
    assert listed - {"published.yaml"} == {*axis.stages, *axis.about}
    assert ("published.yaml" in listed) == bool(claims)
    assert outputs(stage) == {
        f"plots/{axis.name}",
        *(f"metrics/{name}.json" for name in (axis.name, axis.run, *axis.files, *claims)),
    }
    if axis in AXES:
        assert set(STAGES["report"]["deps"]) >= outputs(stage) - {f"metrics/{axis.name}.json"}


def test_nothing_in_the_default_run_needs_what_is_run_on_demand() -> None:
    default = {name: stage for name, stage in STAGES.items() if name not in ON_DEMAND}
    assert set(ON_DEMAND) == {*HEADS.stages, HEADS.stage}
    assert all(stage["wdir"] == ".." for stage in ON_DEMAND.values())
    written = {path for stage in ON_DEMAND.values() for path in outputs(stage)}
    assert not written & {dep for stage in default.values() for dep in stage["deps"]}


def test_an_axis_does_not_wait_for_the_other() -> None:
    """What report_meaning needs of the weight axis is nothing, and the other way round."""
    needed = {}
    for axis in AXES:
        todo, seen = [axis.stage], set[str]()
        while todo:
            seen.add(name := todo.pop())
            todo += [other for other, stage in STAGES.items() if outputs(stage) & set(STAGES[name]["deps"])]
        needed[axis.name] = seen
    assert needed["meaning"] & needed["weights"] == {"fetch_model"}


def outputs(stage: dict[str, Any]) -> set[str]:
    """The paths that a stage writes."""
    listed = stage.get("outs", []) + stage.get("metrics", [])
    return {path for out in listed for path in (out if isinstance(out, dict) else [out])}


def test_only_reports_and_what_is_run_on_demand_keep_outputs_out_of_the_cache_and_lose_none() -> None:
    """A stage with an output that is not cached is never restored, so it would run again at every change of model.

    Of a stage on demand the committed lock names data that most people never made: cached, `dvc checkout` would miss
    it. DVC removes a stage's outputs before it runs, except those that persist.
    """
    for name, stage in STAGES.items():
        options = [
            option
            for out in stage.get("outs", []) + stage.get("metrics", [])
            if isinstance(out, dict)
            for option in out.values()
        ]
        assert bool(options) == (name.startswith("report") or name in ON_DEMAND)
        assert all(option.get("persist") for option in options)

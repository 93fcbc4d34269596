"""dvc.yaml says what the stages really use."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

STAGES: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
PACKAGE = PROJECT / "src" / "permeation"
# The rooms of the package by their level: a module imports from lower levels only.
ROOMS = {"frame": 0, "models": 1, "perplexity": 2, "meaning": 3, "weights": 3, "rivals": 4, "report": 5}
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


def test_the_page_is_written_again_for_every_parameter_it_shows() -> None:
    """It shows them all but `device`, which changes no result and must run no stage again."""
    assert set(STAGES["report"]["params"]) == set(PARAMS) - {"device"}


def test_only_the_cheap_last_stage_keeps_outputs_out_of_the_cache() -> None:
    """A stage with an output that is not cached is never restored, so it would run again at every change of model."""
    for name, stage in STAGES.items():
        kept_out = [out for out in stage.get("outs", []) + stage.get("metrics", []) if isinstance(out, dict)]
        assert bool(kept_out) == (name == "report")

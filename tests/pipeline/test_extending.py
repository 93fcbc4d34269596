"""docs/extending.md works as it stands: its rival fits a model, and makes nothing stale but rivals and the reports."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from permeation.models.fold import fold_norms
from permeation.rivals.base import Problem, Rival, original_parameters, size_within
from permeation.weights.heads import Heads, read_heads
from permeation.weights.moments import collect
from tests.support import tiny
from tests.support.project import PROJECT, call, duplicate, stages_run

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
MODULE, ENTRY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def problem() -> Problem:
    network = tiny.model("gpt2")
    fold_norms(network)
    heads = Heads(**{name: tensor.double() for name, tensor in read_heads(network).tensors().items()})
    windows = torch.randint(2, 90, (4, 16), generator=torch.Generator().manual_seed(0))
    return Problem(heads, collect(network, windows, 4, lambda _: None), None, seed=0)


def test_the_rival_of_the_page_is_one(tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pruned.py").write_text(MODULE, encoding="utf-8")
    spec: Any = importlib.util.spec_from_file_location("pruned", tmp_path / "pruned.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pruned", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    rival = module.Pruned.fit(problem)
    assert isinstance(rival, Rival)

    back = rival.apply(rival.largest)
    assert all(torch.equal(tensor, problem.heads.tensors()[name]) for name, tensor in back.tensors().items())

    half = size_within(rival, 16 * original_parameters(problem.heads) // 2)
    kept = rival.apply(half)
    zeros = [int((W == 0).sum()) for W in (kept.W_Q, kept.W_K)]
    assert sum(zeros) == rival.largest - half
    removed = torch.cat([(problem.heads.W_Q - kept.W_Q).flatten(), (problem.heads.W_K - kept.W_K).flatten()])
    present = torch.cat([kept.W_Q.flatten(), kept.W_K.flatten()])
    assert removed.abs().max() <= present[present != 0].abs().min()


@pytest.mark.end_to_end
def test_a_rival_takes_three_files_and_makes_only_rivals_and_the_reports_stale(
    finished_project: Path, tmp_path: Path
) -> None:
    project = duplicate(finished_project, tmp_path)
    assert stages_run(call(project, "dvc", "repro", "--dry")) == []
    room = project / "src" / "permeation" / "rivals"
    (room / "pruned.py").write_text(MODULE, encoding="utf-8")
    registry, params = room / "registry.py", project / "params.yaml"
    registry.write_text(
        registry.read_text().replace("METHODS: dict[str, Method] = {\n", f"METHODS: dict[str, Method] = {{\n{ENTRY}")
    )
    params.write_text(params.read_text().replace("    - mean\n", "    - mean\n    - pruned\n"))
    assert len(call(project, "git", "status", "--porcelain").splitlines()) == 3

    output = call(project, "dvc", "repro")
    assert [name for name in stages_run(output) if not name.startswith("report")] == ["rivals"]
    (pareto,) = (project / "plots").rglob("pareto.json")
    assert '"method": "pruned"' in pareto.read_text(encoding="utf-8")

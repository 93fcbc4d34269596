"""docs/extending.md works as it stands: its rival fits a model, and makes nothing stale but rivals and the reports."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from permeation.models.fold import fold_norms
from permeation.rivals.base import Problem, Rival, original_parameters, size_within
from permeation.weights.heads import read_heads
from permeation.weights.moments import collect
from tests.support import tiny
from tests.support.project import PROJECT, REPORTS, call, duplicate, rewrite, stages_run

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
MODULE, ENTRY = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_rival_of_the_page_is_one() -> None:
    network = tiny.model("gpt2")
    fold_norms(network)
    heads = read_heads(network).to(torch.float64)
    windows = torch.randint(2, 90, (4, 16), generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"__name__": __name__}  # dataclasses look their module up
    exec(MODULE, names)
    rival = names["Pruned"].fit(Problem(heads, collect(network, [windows]), seed=0))
    assert isinstance(rival, Rival)

    back = rival.apply(rival.largest)
    assert all(torch.equal(tensor, heads.tensors()[name]) for name, tensor in back.tensors().items())
    half = size_within(rival, 16 * original_parameters(heads) // 2)
    kept = rival.apply(half)
    assert sum(int((W == 0).sum()) for W in (kept.W_Q, kept.W_K)) == rival.largest - half


@pytest.mark.end_to_end
def test_a_rival_makes_only_rivals_and_the_reports_stale(finished_project: Path, tmp_path: Path) -> None:
    project = duplicate(finished_project, tmp_path)
    room = project / "src" / "permeation" / "rivals"
    (room / "pruned.py").write_text(MODULE, encoding="utf-8")
    methods = "METHODS: dict[str, Method] = {\n"
    rewrite(room / "registry.py", {methods: methods + ENTRY})
    rewrite(project / "params.yaml", {"    - mean\n": "    - mean\n    - pruned\n"})
    assert set(stages_run(call(project, "dvc", "repro"))) - REPORTS == {"rivals"}
    assert '"method": "pruned"' in (project / "plots" / "weights" / "pareto.json").read_text(encoding="utf-8")

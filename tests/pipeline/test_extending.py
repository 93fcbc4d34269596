"""docs/extending.md works as it stands: a new rival makes nothing stale but rivals and the reports."""

import re
from pathlib import Path

import pytest

from tests.support.project import PROJECT, WHOLE_FILE, call, duplicate, rewrite, stages_run

(ENTRY,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "extending.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.end_to_end
def test_a_rival_makes_only_rivals_and_the_reports_stale(finished_project: Path, tmp_path: Path) -> None:
    project = duplicate(finished_project, tmp_path)
    room = project / "src" / "permeation" / "rivals"
    (room / "mine.py").write_text((room / "atoms.py").read_text("utf-8").replace("MatrixAtoms", "Mine"), "utf-8")
    methods = "METHODS: dict[str, Method] = {\n"
    rewrite(room / "registry.py", {methods: methods + ENTRY})
    rewrite(project / "params.yaml", {"    - pca_gram\n": "    - pca_gram\n    - mine\n"})
    assert set(stages_run(call(project, "dvc", "repro"))) - WHOLE_FILE == {"rivals"}
    assert '"method": "mine"' in (project / "plots" / "weights" / "pareto.json").read_text(encoding="utf-8")

"""Other instructions and more threads give the same numbers; last digits reach dvc.lock and nothing else."""

import shutil
from pathlib import Path

import pytest

from tests.support.project import call, duplicate

pytestmark = pytest.mark.end_to_end

# One thread made the finished project. What makes PyTorch's own kernels, oneDNN and MKL leave AVX-512 alone.
OLDER = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def test_a_run_on_another_processor_changes_dvc_lock_and_nothing_else(finished_project: Path, tmp_path: Path) -> None:
    project = duplicate(finished_project, tmp_path)
    shutil.rmtree(project / "data" / ".journal")  # so that everything is measured anew
    call(project, "dvc", "repro", "--force", OMP_NUM_THREADS="2", **OLDER)
    changed = call(project, "git", "status", "--porcelain").split()
    assert [name for name in changed if name not in ("M", "dvc.lock")] == []

"""Shared fixtures: small random models, the shipped parameters, and stages run in this process."""

import fcntl
import importlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import transformers

from permeation import config as configuration
from permeation.config import Config
from permeation.models.fold import fold_norms
from permeation.weights.heads import Heads, read_heads
from stages import Stage
from tests.support import project, tiny
from tests.support.project import PROJECT

SHARED = PROJECT.parent / "shared"
FAMILIES = tuple(tiny.CONFIGS)

# A few cases of each kind at every run; `--hypothesis-profile=deep` for a search.
hypothesis.settings.register_profile("quick", max_examples=10, deadline=60_000, derandomize=True, database=None)
hypothesis.settings.register_profile("deep", max_examples=400, deadline=60_000, database=None)
hypothesis.settings.load_profile("quick")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small checkpoint per family; nobody writes into them."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: tiny.checkpoint(root / family, family) for family in FAMILIES}


@pytest.fixture
def checkpoint(checkpoints: dict[str, Path], family: str) -> Path:
    return checkpoints[family]


@pytest.fixture(scope="session")
def config() -> Config:
    """params.yaml with the counts of heads, tokens and shuffles cut down to the small models' size."""
    shipped = configuration.load(PROJECT / "params.yaml")
    return replace(
        shipped,
        device="cpu",
        g=replace(shipped.g, exclude_final=1),
        bootstrap=replace(shipped.bootstrap, resamples=5),
        nulls=replace(shipped.nulls, draws=3),
        controls=replace(shipped.controls, permutations=3),
        decode=replace(shipped.decode, permutations=3),
        perplexity=replace(shipped.perplexity, context=16, max_tokens=128),
        moments=replace(shipped.moments, context=16, tokens=128),
        reconstruct=replace(shipped.reconstruct, components=(1, 8, 13, "90%", "all")),
        cluster=replace(shipped.cluster, k=(2, 12, 13)),
        heads=replace(shipped.heads, permutations=20, windows=2, context=12),
        compressed=replace(shipped.compressed, methods=1, layers=1),
    )


@pytest.fixture
def run_stage(tmp_path: Path) -> Callable[[str, Config], Path]:
    """Run a stage's main in this process, writing under tmp_path; gives the folder of its output."""

    def run(name: str, settings: Config) -> Path:
        module: Any = importlib.import_module(f"stages.{name}")
        module.main(Stage(name, settings, PROJECT, tmp_path))
        return tmp_path / "data" / name

    return run


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project whose pipeline was run undisturbed; nobody writes into it. One for all processes of the tests."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "finished.done").exists():
            (root / "finished").mkdir()
            project.finish(project.create(root / "finished"))
            (root / "finished.done").touch()
    return root / "finished" / "project"


@pytest.fixture(scope="session")
def gpt2_heads() -> Heads:
    if not (SHARED / "gpt2-attention").is_dir():
        pytest.skip("needs ../shared/gpt2-attention, the real attention weights of GPT-2 small")
    # Its MLP and token embedding are missing, which permeation.models.load rightly refuses.
    network = transformers.AutoModelForCausalLM.from_pretrained(SHARED / "gpt2-attention").requires_grad_(False)
    fold_norms(network)
    return read_heads(network)

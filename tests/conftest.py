"""Shared fixtures: small random models, the shipped parameters, and stages run in this process."""

import fcntl
import importlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from permeation import settings as configuration
from permeation.models.fold import fold_norms
from permeation.settings import Config
from permeation.stage import Stage
from permeation.weights.heads import Heads, read_heads
from tests.support import project, tiny
from tests.support.project import ON_DEMAND, PROGRAMS, PROJECT, STAGES

SHARED = PROJECT.parent / "shared"
FAMILIES = tuple(tiny.CONFIGS)
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in its background has it ignored


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
        corpus=str(tiny.WORDS_FILE),
        g=replace(shipped.g, exclude_final=1),
        bootstrap=replace(shipped.bootstrap, resamples=5),
        nulls=replace(shipped.nulls, draws=3, permutations=3),
        perplexity=replace(shipped.perplexity, context=16, max_tokens=128),
        moments=replace(shipped.moments, context=16, tokens=128),
        reconstruct=replace(shipped.reconstruct, components=(1, 8, 13, "90%", "all")),
        cluster=replace(shipped.cluster, k=(2, 12, 13)),
        intervene=replace(shipped.intervene, clean_auc=0.3),  # no word is too hard for a model that was never trained
        heads=replace(shipped.heads, pairs=2, permutations=20),
        compressed=replace(shipped.compressed, methods=1, layers=1),
    )


@pytest.fixture
def run_stage(tmp_path: Path) -> Callable[[str, Config], Path]:
    """Run a stage's main in this process, writing under tmp_path; gives the folder of its output."""

    def run(name: str, settings: Config) -> Path:
        call_stage(name, settings, tmp_path)
        return tmp_path / "data" / name

    return run


def call_stage(name: str, settings: Config, folder: Path) -> None:
    """Run a stage's main in this process; it reads and writes under `folder`."""
    script, *axis = PROGRAMS[name]
    module: Any = importlib.import_module(f"stages.{script}")
    module.main(Stage(name, settings, PROJECT, folder, *axis))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` has filled, one for all processes of the tests; nobody writes into it afterwards."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what another process failed to make
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@dataclass(frozen=True)
class WholeRun:
    """What every stage of the pipeline wrote for a small model, with the parameters that it had."""

    folder: Path
    config: Config

    def copied_to(self, parent: Path, *without: str) -> Path:
        """A copy that may be written into, without what has one of these names."""
        return shutil.copytree(self.folder, parent / "run", ignore=shutil.ignore_patterns(*without))


@pytest.fixture(scope="session")
def whole_run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """The whole run of a Llama, whose embedding knows no positions; the text that it scores is the prompts."""

    def make(root: Path) -> None:
        tiny.checkpoint(root / "model", "llama")
        for name in [*STAGES, *ON_DEMAND]:
            call_stage(name, replace(config, model=str(root / "model")), root / "run")

    root = made_once(tmp_path_factory, "whole-run", make)
    return WholeRun(root / "run", replace(config, model=str(root / "model")))


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project whose pipeline was run undisturbed."""
    return made_once(tmp_path_factory, "finished", project.create) / "project"


@pytest.fixture(scope="session")
def gpt2_heads() -> Heads:
    if not (SHARED / "gpt2-attention").is_dir():
        pytest.skip("needs ../shared/gpt2-attention, the real attention weights of GPT-2 small")
    # Its MLP and token embedding are missing, which permeation.models.load rightly refuses.
    network = transformers.AutoModelForCausalLM.from_pretrained(SHARED / "gpt2-attention").requires_grad_(False)
    fold_norms(network)
    return read_heads(network)

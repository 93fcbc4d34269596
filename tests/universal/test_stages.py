"""The stages on small models: made here, listed, and from a hub on the loopback."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stages.make_models
from permeation.frame.tables import read_json
from permeation.models.texts import Corpus
from permeation.models.wheels import Origin
from permeation.settings import Config
from permeation.universal.compare import listed_group
from tests.conftest import call_stage
from tests.support import tiny
from tests.support.project import PROJECT


@pytest.fixture(scope="module")
def small(config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config]:
    """The folder of a run with data/model, and its parameters: trainings of two steps."""
    root = tmp_path_factory.mktemp("universal")
    tiny.checkpoint(root / "model", "llama")
    sizes = {"scratch_seeds": 1, "scratch_steps": 2, "adapter_seeds": 1, "shuffled_seeds": 1, "adapter_steps": 2}
    universal = replace(config.universal, **sizes, components=(1, 8), tokens=512)
    asked = replace(config, model=str(root / "model"), universal=universal)
    call_stage("fetch_model", asked, root)
    return root, asked


def texts(name: str) -> Any:
    words = (PROJECT / "data" / "words.yaml").read_text(encoding="utf-8")
    return Corpus(words[len(name) :], (), Origin(name, "a test", None))


def test_models_are_made_once_and_compared(small: tuple[Path, Config], monkeypatch: pytest.MonkeyPatch) -> None:
    root, config = small
    monkeypatch.setattr(stages.make_models, "fetch_corpus", texts)
    call_stage("make_models", config, root)
    made = root / "data" / "make_models"
    assert len(read_json(made / "summary.json")["models"]) == 2 + 4 + 4
    files = {path: path.stat().st_mtime_ns for path in made.glob("*/*/recipe.json")}
    first = files.popitem()[0]
    first.unlink()  # as where a training was interrupted
    call_stage("make_models", config, root)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert first.is_file()

    call_stage("compare_models", config, root)
    found = read_json(root / "data" / "compare_models" / "summary.json")["universal"]
    assert found["held_out"]["scratch"]["after"] < found["held_out"]["scratch"]["before"]
    for group in ("scratch", "scratch_aligned", "adapters"):
        assert found[group]["ratio"]["mean"]["0"]["value"] > 0
        assert found[group]["components_for_variance"]["90"]["value"] >= 1
    assert found["scratch"]["null"].keys() >= {"untrained", "rotated", "rotated, as inputs", "inputs"}
    assert found["adapters"]["components_for_variance"]["99"]["value"] <= 4 * 4  # of rank 4
    assert "shuffled targets" in found["adapters"]["null"]
    rows = read_json(root / "data" / "compare_models" / "plots" / "left_out.json")
    own = {(row["models"], row["components"]): row["ratio"] for row in rows if row["curve"] == "mean and own K"}
    assert own["adapters", 8] == pytest.approx(1, abs=1e-3)  # its update has rank 4, the mean's others more

    listed = listed_group([str(made / "adapters" / "c4-0" / "checkpoint-2")], str(PROJECT / "README.md"), 16, 64)
    assert listed.members[0].base == root / "data" / "model"  # as peft noted it

"""A list of six models, and one of three adapters, from a stand-in for the hub on the loopback."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model

from permeation.frame.tables import read_json, write_json
from permeation.models.load import load_model
from permeation.universal.stack import Member
from tests.support import tiny
from tests.support.hub import Repository, contents, program, serve
from tests.support.project import PROJECT

COMPARE = """
import sys
from dataclasses import replace
from pathlib import Path
from permeation import settings
from tests.conftest import PROJECT, call_stage
root, text = Path(sys.argv[1]), sys.argv[2]
config = settings.load(PROJECT / "params.yaml", model=str(root / "model"), corpus=text, device="cpu")
for i, names in enumerate(sys.argv[3:]):
    small = replace(config.universal, models=tuple(names.split()), components=(1, 16), tokens=64)
    asked = replace(config, universal=small, perplexity=replace(config.perplexity, context=16))
    for name in ("fetch_model", "make_models", "compare_models"):
        call_stage(name, asked, root / str(i))
"""


def adapter(base: Path, folder: Path) -> Path:
    """An adapter of rank 2, of a model on the hub."""
    how = LoraConfig(r=2, target_modules=["q_proj", "k_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers in an old way
        get_peft_model(load_model(base), how).save_pretrained(str(folder))
    told = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", told | {"base_model_name_or_path": "some/steps", "revision": "step1000"})
    return folder


def compared(root: Path, i: int) -> tuple[dict[str, Any], list[str]]:
    """The figures of a list, and the names of its models."""
    folder = root / str(i) / "data" / "compare_models"
    return read_json(folder / "summary.json")["universal"], list(read_json(folder / "nll.json")["models"])


def test_models_and_adapters_of_the_hub(tmp_path: Path) -> None:
    base = tiny.checkpoint(tmp_path / "model", "llama")
    repositories = {}
    for seed in range(5):
        folder = shutil.copytree(base, tmp_path / f"model-{seed}")
        Member("", base, seed=seed).load().save_pretrained(folder)
        repositories[f"some/model-{seed}"] = Repository({"main": contents(folder)})
    repositories["some/steps"] = Repository({"main": {}, "step1000": contents(base)})
    names = [*list(repositories)[:-1], "some/steps@step1000"]
    adapters = [f"some/adapter-{i}" for i in range(3)]
    repositories |= {name: Repository({"main": contents(adapter(base, tmp_path / name))}) for name in adapters}
    text = PROJECT / "data" / "words.yaml"
    with serve(repositories) as endpoint:
        done = program(
            tmp_path / "home", endpoint, "-c", COMPARE, str(tmp_path), str(text), " ".join(names), " ".join(adapters)
        )
    assert done.returncode == 0, done.stderr
    found, own_names = compared(tmp_path, 0)
    assert own_names == names
    own, null = (found["components_90"]["models"], found["null_90"]["models"])
    assert abs(own - null) < 2  # random models share nothing
    own_K = {K: abs(np.log(ratio["value"])) for K, ratio in found["models"]["ratio"]["mean_and_own_K"].items()}
    assert own_K["16"] < own_K["1"]
    found, own_names = compared(tmp_path, 1)
    assert own_names == adapters
    assert found["models"]["components_for_variance"]["99"]["value"] <= 3 * 2  # of rank 2
    assert found["models"]["ratio"]["mean_and_own_K"]["16"]["value"] == pytest.approx(1, abs=1e-4)

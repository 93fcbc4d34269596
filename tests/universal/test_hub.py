"""A list of six models, from a stand-in for the hub on the loopback."""

import shutil
from pathlib import Path

import numpy as np

from permeation.frame.tables import read_json
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
small = replace(config.universal, models=tuple(sys.argv[3:]), components=(1, 16), tokens=64)
config = replace(config, universal=small, perplexity=replace(config.perplexity, context=16))
for name in ("fetch_model", "make_models", "compare_models"):
    call_stage(name, config, root)
"""


def test_six_models_of_the_hub(tmp_path: Path) -> None:
    base = tiny.checkpoint(tmp_path / "model", "llama")
    repositories = {}
    for seed in range(5):
        folder = shutil.copytree(base, tmp_path / f"model-{seed}")
        Member("", base, seed=seed).load().save_pretrained(folder)
        repositories[f"some/model-{seed}"] = Repository({"main": contents(folder)})
    repositories["some/steps"] = Repository({"main": {}, "step1000": contents(base)})
    names = [*list(repositories)[:-1], "some/steps@step1000"]
    text = PROJECT / "data" / "words.yaml"
    with serve(repositories) as endpoint:
        done = program(tmp_path / "home", endpoint, "-c", COMPARE, str(tmp_path), str(text), *names)
    assert done.returncode == 0, done.stderr
    found = read_json(tmp_path / "data" / "compare_models" / "summary.json")["universal"]
    rows = read_json(tmp_path / "data" / "compare_models" / "nll.json")["models"]
    assert list(rows) == names
    own, null = (found["components_90"]["models"], found["null_90"]["models"])
    assert abs(own - null) < 2  # random models share nothing
    own_K = {K: abs(np.log(ratio["value"])) for K, ratio in found["models"]["ratio"]["mean_and_own_K"].items()}
    assert own_K["16"] < own_K["1"]

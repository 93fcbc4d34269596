"""The stages on families that differ in what the stages touch; `-m end_to_end` runs all of docs/models.md.

Those that read a model or its weights. The others see arrays that are alike for every family.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from permeation.config import Config
from permeation.frame.pipeline import stages_of
from permeation.frame.tables import read_json
from tests.conftest import PROJECT
from tests.support import tiny
from tests.support.project import STAGES

# No norm in front and norms of queries and keys; offsets, sliding windows; a shift without a bias, parallel; experts.
SOME = ("olmo2", "gemma3_text", "gptj", "qwen3_moe")
EVERY = [
    pytest.param(family, marks=() if family in SOME else pytest.mark.end_to_end)
    for family in tiny.ALL_CONFIGS
    if family not in tiny.CONFIGS
]
READ_A_MODEL = {
    name
    for name, stage in stages_of(PROJECT).items()
    if not {"src/permeation/models", "src/permeation/weights"}.isdisjoint(stage["deps"])
}


@pytest.mark.parametrize("family", EVERY)
def test_the_stages_run(family: str, config: Config, run_stage: Callable[[str, Config], Path], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text((PROJECT / "data" / "words.yaml").read_text().replace("- ", ""))
    model = tiny.checkpoint(tmp_path / "model", family)
    settings = replace(config, model=str(model), corpus=str(tmp_path / "text.txt"))
    # These two see W_Q, W_K and their biases alone; seven families are enough for them.
    without = set() if family in SOME else {"cluster", "rivals"}
    for name in STAGES:
        if name in READ_A_MODEL - without:
            run_stage(name, settings)
    ratio = read_json(tmp_path / "data" / "reconstruct" / "summary.json")["ratio"]
    assert ratio["all"] == pytest.approx(1, abs=1e-4)
    assert ratio["1"] != pytest.approx(1, abs=1e-4)

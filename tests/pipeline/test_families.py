"""The stages on families that differ in what the stages touch; `-m end_to_end` runs all of docs/models.md.

Only the stages that read a model: the others see arrays that are alike for every family.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from permeation.frame.tables import read_json
from permeation.settings import Config
from tests.conftest import PROJECT
from tests.support import tiny

# A position embedding; no norm in front and norms of queries and keys; offsets, sliding windows; experts.
SOME = ("gpt2", "olmo2", "gemma3_text", "qwen3_moe")
EVERY = [
    pytest.param(family, marks=() if family in SOME else pytest.mark.end_to_end)
    for family in tiny.ALL_CONFIGS
    if family != "llama"  # the whole run's
]
READ_A_MODEL = ("fetch_model", "extract_activations", "intervene", "baseline", "extract_wqk", "pca", "reconstruct")


@pytest.mark.parametrize("family", EVERY)
def test_the_stages_run(family: str, config: Config, run_stage: Callable[[str, Config], Path], tmp_path: Path) -> None:
    model, text = tiny.checkpoint(tmp_path / "model", family), PROJECT / "data" / "words.yaml"
    settings = replace(config, model=str(model), corpus=str(text))
    for name in READ_A_MODEL:
        run_stage(name, settings)
    ratio = read_json(tmp_path / "data" / "reconstruct" / "summary.json")["perplexity"]["ratio"]
    assert ratio["all"] == pytest.approx(1, abs=1e-4)
    assert ratio["1"] != pytest.approx(1, abs=1e-4)

"""The pages that are made from the code, and the comments of params.yaml, are up to date."""

from pathlib import Path

import pytest
import yaml

from permeation import config
from permeation.frame.checks import boolean, checked, optional
from permeation.frame.pipeline import stages_of
from tests.conftest import PROJECT
from tools import reference


def test_what_is_made_from_the_code_is_up_to_date() -> None:
    assert reference.outdated() == []


def test_every_setting_says_what_it_does() -> None:
    for each, section in reference.settings_of(config.Config):
        for setting in [each] if section is None else [field for field, _ in reference.settings_of(section)]:
            assert setting.metadata["about"].endswith("."), f"{each.name}.{setting.name}"


def test_every_stage_says_what_it_does() -> None:
    stages = stages_of(PROJECT)
    assert [name for name, stage in stages.items() if not 10 < len(stage.get("desc", "")) < 90] == []


def test_the_comments_come_back_and_the_values_stay(tmp_path: Path) -> None:
    values = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    values["pca"]["center"] = False
    path = tmp_path / "params.yaml"
    path.write_text(reference.commented(values), encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == values
    assert not config.load(path).pca.center


@pytest.mark.parametrize("check", [boolean, optional(boolean)])
def test_what_is_accepted_is_what_the_message_says(check: object) -> None:
    field = checked(check)  # type: ignore[arg-type]
    assert reference.accepted(field) == ("true or false" if check is boolean else "null, or true or false")


def test_the_graph_has_the_arrows_that_no_longer_way_implies() -> None:
    stages = {
        "one": {"deps": ["x"], "outs": ["data/one", {"metrics/one.json": {"cache": False}}]},
        "two": {"deps": ["data/one", "metrics/one.json", "src"], "outs": ["data/two"]},
        "three": {"deps": ["data/one", "data/two"]},
    }
    assert reference.graph(stages).splitlines() == ["flowchart TD", "    one --> two", "    two --> three"]

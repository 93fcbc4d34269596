"""Files are read and written strictly; a folder appears whole or not at all."""

import math
from pathlib import Path

import pytest

from permeation.frame.errors import PermeationError
from permeation.frame.tables import parse_yaml, read_json, read_yaml, whole_folder, write_json, write_rows


def test_a_folder_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "data" / "pca"
    with whole_folder(target) as folder:
        (folder / "old").touch()
        assert not target.exists()
    with pytest.raises(ZeroDivisionError), whole_folder(target) as folder:
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["old"]
    with whole_folder(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["pca"]


def test_json_has_no_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"ratio": math.nan})
    write_rows(tmp_path / "plots" / "g.json", [{"word": "bank", "g": 0.1}, {"word": "rock", "g": 1 / 3}])
    assert read_json(tmp_path / "plots" / "g.json")[1] == {"word": "rock", "g": 1 / 3}
    assert (tmp_path / "plots" / "g.json").read_text().count("\n") == 4


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for read in (read_json, read_yaml):
        with pytest.raises(PermeationError, match=r"none\.here"):
            read(tmp_path / "none.here")


def test_numbers_as_dvc_writes_them_back_are_numbers() -> None:
    assert parse_yaml("small: 5e-05\nlarge: 1e6", "") == {"small": 5e-05, "large": 1e6}


@pytest.mark.parametrize("text", ["", "- 1", "model: [", "model: gpt2\nmodel: gpt2-xl\n", "\x00"])
def test_yaml_that_is_no_mapping_is_an_error(text: str) -> None:
    with pytest.raises(PermeationError, match=r"^params\.yaml: .*$"):
        parse_yaml(text, "params.yaml")

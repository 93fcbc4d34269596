"""Published numbers have the digits that every processor gives."""

from pathlib import Path

import pytest

from permeation.frame.tables import write_json
from permeation.report.digits import rounded, same, settled


def test_numbers_are_published_with_five_digits_and_what_is_no_float_as_it_is() -> None:
    value = {
        "ratio": 1.0499999881,
        "rows": [441.43068, 3e-9, -0.123456789],
        "tokens": 16352,
        "name": "σ",
        "none": None,
    }
    assert rounded(value) == {
        "ratio": 1.05,
        "rows": [441.43, 0.0, -0.12346],
        "tokens": 16352,
        "name": "σ",
        "none": None,
    }


def test_what_processors_agree_on_less_has_three_digits() -> None:
    value = {"ratio": 1.14713, "kl": 0.178214, "bits_at_1_05": {"int_rows": 4.17831}, "law": {"c": None, "spread": 2.1}}
    assert rounded(value) == {
        "ratio": 1.1471,
        "kl": 0.178,
        "bits_at_1_05": {"int_rows": 4.18},
        "law": {"c": None, "spread": 2.1},
    }


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ({"agreement": 0.773}, {"agreement": 0.775}, True),
        ({"agreement": 0.773}, {"agreement": 0.783}, False),
        ({"agreement": 0.773, "ratio": 1.1}, {"agreement": 0.773, "ratio": 1.11}, False),
        ({"bits_at_1_05": {"int_rows": 1.0}}, {"bits_at_1_05": {"int_rows": 1.01}}, True),
        ({"agreement": {"value": 0.773}}, {"agreement": {"value": 0.775}}, False),
        (1.2345, 1.2346, True),
        (1.2345, 1.2348, False),
        (441.43, 441.60, True),
        (441.43, 442.00, False),
        (0.0, 1e-6, True),
        (0.009011, 0.00901, True),
        (0.0, 2e-5, False),
        (16352, 16353, False),
        (1, 1.0, False),
        (True, 1, False),
        (None, 0.0, False),
        ("bank", "bat", False),
        ([1.0, 2.0], [1.0], False),
        ({"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0}, False),
        ({"a": [{"x": 0.5}]}, {"a": [{"x": 0.50001}]}, True),
    ],
)
def test_what_counts_as_the_same(old: object, new: object, alike: bool) -> None:
    assert same(old, new) is alike


def test_a_file_stays_as_it_is_until_its_numbers_change(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    assert settled(path, {"alpha": 1.74982502}) == {"alpha": 1.7498}
    write_json(path, {"alpha": 1.7499})
    assert settled(path, {"alpha": 1.74982502}) == {"alpha": 1.7499}
    assert settled(path, {"alpha": 1.76}) == {"alpha": 1.76}
    assert settled(path, {"alpha": 1.74982502, "beta": 1.0}) == {"alpha": 1.7498, "beta": 1.0}

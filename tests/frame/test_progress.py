"""A loop says how far it is, also where nobody draws bars."""

import re
import time

import pytest

from permeation.frame import progress


def test_without_a_terminal_there_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.05)
    monkeypatch.setenv("TQDM_DISABLE", "1")  # as stages/run does, for the libraries
    assert [item for item in progress.each([1, 2, 3], "counting", 3) if not time.sleep(0.1)] == [1, 2, 3]
    first, second, third = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"counting: 1 of 3, 33 %, 00:00 so far, about 00:00 left", first)
    assert second.startswith("counting: 2 of 3, 67 %")
    assert third.startswith("counting: 3 of 3, 100 %")


def test_what_is_done_at_once_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.each(range(20_000), "scoring", 20_000)) == list(range(20_000))
    assert capsys.readouterr().err == ""

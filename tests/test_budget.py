"""The project does not grow: who adds something makes room first.

Whoever takes something out lowers the numbers.
"""

from pathlib import Path

import pytest

from tests.support.project import PROJECT

LINES = {
    9900: ("src/**/*.py",),
    650: ("stages/*.py", "stages/run"),
    250: ("tools/*.*", "bench/*.py"),
    7450: ("tests/**/*.py",),
    450: ("dvc.yaml", "*/dvc.yaml"),
}
WORDS = {10900: ("README.md", "docs/*.md"), 700: ("README.md",), 350: ("CONTRIBUTING.md",)}


def texts(patterns: tuple[str, ...]) -> list[str]:
    paths: set[Path] = {path for pattern in patterns for path in PROJECT.glob(pattern)}
    assert paths
    return [path.read_text(encoding="utf-8") for path in paths]


@pytest.mark.parametrize("most", LINES)
def test_lines(most: int) -> None:
    assert sum(text.count("\n") for text in texts(LINES[most])) <= most


@pytest.mark.parametrize("most", WORDS)
def test_words(most: int) -> None:
    assert sum(len(text.split()) for text in texts(WORDS[most])) <= most

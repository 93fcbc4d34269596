"""The pages hang together: README.md keeps its size, links and citations lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(PROJECT / "docs").glob("*.md"),
]
CODE = [path for folder in ("src", "stages", "tools", "bench") for path in (PROJECT / folder).rglob("*.py")]
LINES, WORDS = 130, 1100


def headings(page: Path) -> list[str]:
    """The headings of a Markdown file."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """The fragment by which a page's heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_keeps_its_size() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    assert len(text.split()) <= WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, fragment = link.partition("#")
        if name.startswith("https:"):
            continue
        place = page.parent / name if name else page
        if not place.is_file() or (fragment and fragment not in map(anchor, headings(place))):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:src|stages|tests|tools|bench|docs)/[\w./]+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (PROJECT / name).exists() and name not in TO_WRITE] == []


TO_WRITE = ("src/permeation/rivals/pruned.py",)  # by the reader


def test_a_citation_of_a_page_names_a_section_that_it_has() -> None:
    """As `docs/weights.md, Injection`, in docstrings, comments and messages."""
    lost = []
    for path in CODE:
        text = re.sub(r"\s*\n\s*(# )?", " ", path.read_text(encoding="utf-8"))
        for page, section in re.findall(r"docs/(\w+)\.md(?:, (?!docs/)([^).;:]+))?", text):
            place = PROJECT / "docs" / f"{page}.md"
            if not place.is_file() or (section and not any(section.startswith(each) for each in headings(place))):
                lost.append(f"{path.relative_to(PROJECT)}: docs/{page}.md, {section}")
    assert lost == []


def test_no_code_cites_a_document_that_users_do_not_have() -> None:
    pattern = re.compile(r"\b(?:[A-Z]+|docs/\w+)\.md\b")
    cited = {(path, name) for path in CODE for name in pattern.findall(path.read_text(encoding="utf-8"))}
    assert [(path, name) for path, name in cited if not (PROJECT / name).is_file()] == []


def test_the_commands_of_the_makefile_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"`make ([a-z]+)`", text)) <= targets

"""The pages hang together: links, citations and settings lead somewhere, and README's commands run."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from permeation.frame.tables import read_json
from permeation.report.axes import flat
from tests.conftest import PROJECT
from tests.support.project import call, duplicate
from tests.test_settings import with_key

README = PROJECT / "README.md"
PAGES = [README, PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md", *sorted((PROJECT / "docs").glob("*.md"))]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
CODE = [path for folder in ("src", "stages", "bench") for path in (PROJECT / folder).rglob("*.py")]
TO_WRITE = {"src/permeation/rivals/mine.py"}  # by the reader of docs/extending.md
PROGRAM = re.compile(r"(make|dvc|permeation|python|git) ")


def headings(page: Path) -> list[str]:
    """The headings of a Markdown file."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """The fragment by which a page's heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https:)([^)\s]+)\)", TEXT[page]):
        name, _, fragment = link.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), link
        assert not fragment or fragment in map(anchor, headings(place)), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_a_file_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`((?:src|stages|tests|tools|bench|docs)/[\w./]+)`", TEXT[page]))
    assert {name for name in named - TO_WRITE if not (PROJECT / name).exists()} == set()


def test_a_citation_in_the_code_names_a_page_and_a_section_that_it_has() -> None:
    """As `docs/weights.md, Injection`, in docstrings, comments and messages."""
    for path in CODE:
        text = re.sub(r"\s*\n\s*(# )?", " ", path.read_text(encoding="utf-8"))
        for page, section in re.findall(r"\b((?:docs/)?[A-Za-z-]+\.md)\b(?:, (?!docs/)([^).;:]+))?", text):
            assert (PROJECT / page).is_file(), f"{path}: {page}"
            assert not section or section.startswith(tuple(headings(PROJECT / page))), f"{path}: {page}, {section}"


def test_the_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:`|^ {4})make ([a-z]+)", "\n".join(TEXT.values()), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize(("key", "value"), re.findall(r"-S '?([\w.]+)=(?!\[mine)([^'`\s]+)", "\n".join(TEXT.values())))
def test_a_setting_on_a_page_is_accepted(key: str, value: str) -> None:
    with_key(key, yaml.safe_load(value))


# The numbers of a run in README: what is said, with the metric in its place.
NUMBERS = (
    "two halves of a word's prompts agrees by {g.reliability.within:.3f}",
    "halves of two words by {g.reliability.between:.3f}",
    "tells the senses apart from {decode.direction_own.decoded_depth:.0%}",
    "take {pca.components_for_variance.90:d} of {pca.n_heads:d} components, at random {pca.null.gram.90:d}",
    "The model uses {intervene.plateau.value:.2f} of it early",
    "the best method needs {rivals.best_bits:.1f} a number, rounding {rivals.bits_at_1_05.int_g64_offset_rows:.2f}",
)


@pytest.mark.parametrize("said", NUMBERS)
def test_a_number_of_the_readme_is_that_of_the_committed_run(said: str) -> None:
    def value(match: re.Match[str]) -> str:
        file, _, key = match[1].partition(".")
        return format(flat(read_json(PROJECT / "metrics" / f"{file}.json"))[key], match[2]).replace("%", " %")

    assert re.sub(r"{([\w.]+):([^}]+)}", value, said) in " ".join(TEXT[README].split())


def commands() -> list[str]:
    """The lines of README's code blocks that begin with a program's name, without comments."""
    lines = "".join(re.findall(r"```\n(.*?)```", TEXT[README], re.DOTALL)).splitlines()
    return [line.split("  #")[0].rstrip() for line in lines if PROGRAM.match(line)]


# What takes minutes or a network is looked at only. All else runs as it stands.
INSTEAD = {
    "make setup": "make -n setup",
    "make quick": "make -n quick",
    "make test": "make -n test",
    "dvc exp run -S model=gpt2-medium": "dvc exp run -S model=../gpt2 fetch_model",
}


@pytest.mark.end_to_end
def test_the_commands_of_the_readme_run(finished_project: Path, tmp_path: Path) -> None:
    project = duplicate(finished_project, tmp_path)
    shutil.copytree(finished_project.parent / "gpt2", tmp_path / "gpt2")
    shutil.copy(project / "data" / "words.yaml", project / "mine.yaml")
    assert {"make repro", "make test", "make back"} <= set(commands())
    for command in commands():
        call(project, "sh", "-c", INSTEAD.get(command, command))

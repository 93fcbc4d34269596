"""docs/meaning.md has what the code cites of it."""

import re

from tests.conftest import PROJECT

PAGE = (PROJECT / "docs" / "meaning.md").read_text()


def test_every_section_that_is_cited_is_there() -> None:
    headings = set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
    texts = [path.read_text() for path in (PROJECT / "src").rglob("*.py")]
    cited = {
        name.strip()
        for text in texts
        for name in re.findall(r"docs/meaning\.md, ([^).\n]+?)(?: says|[).\n]| has)", text)
    }
    assert cited
    assert cited <= headings, cited - headings

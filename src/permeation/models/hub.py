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
# What transformers reads of a checkpoint: no pickle, no code, no second copy of the weights.
WEIGHTS = ["model.safetensors", "model-*.safetensors", "adapter_model.safetensors"]
PATTERNS = ["*.json", *WEIGHTS, "*.model", "*.tiktoken", "vocab.txt", "merges.txt"]
CHARACTERS = 5_000_000  # of a dataset that is streamed: a million tokens, more than the shipped settings read
PATIENCE = 5.0  # seconds for the hub's first answer; its client itself tries for most of a minute


def commit_of(kind: str, name: str, revision: str | None = None) -> str | None:
    """The commit of a model or a dataset on the hub; None where the hub cannot be reached, and its cache is left."""
    from huggingface_hub import HfApi, errors

    try:
        return str(HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=PATIENCE).sha)
    except Exception as error:
        if isinstance(error, (errors.HfHubHTTPError, ValueError)):  # an answer, or a name that is none
            raise
        return None  # no route, no answer in time, HF_HUB_OFFLINE


def snapshot(name: str, revision: str | None) -> Path:
    """The folder of a model's files in the hub's cache, downloaded where they are not there; named by its commit."""
    from huggingface_hub import snapshot_download

    with explained(f"model is {name!r}; it is no folder here", name, revision):
        cached = commit_of("model", name, revision) is None
        return Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS, local_files_only=cached))


def documents(asked: str, name: str, subset: str, split: str, column: str) -> tuple[list[str], str]:
    """The first texts of one column of a dataset, CHARACTERS of them or all there are, and the dataset's commit."""
    from datasets import load_dataset

    with explained(f"corpus is {asked!r}; it is no file here", name, None):
        commit = commit_of("dataset", name)
        if commit is None:
            raise ConnectionError
        rows: Any = load_dataset(name, subset or None, split=split, revision=commit, streaming=True)
        texts, length = [], 0
        for row in rows:
            if not isinstance(row.get(column), str):
                raise PermeationError(f"corpus is {asked!r}; accepted: a column of text, of {', '.join(row)}")
            texts.append(row[column])
            length += len(row[column])
            if length >= CHARACTERS:
                break
    return texts, commit


@contextmanager
def explained(asked: str, name: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what it means and what to do."""
    from huggingface_hub import errors

    try:
        yield
    except PermeationError:
        raise
    except Exception as error:
        match error:
            case errors.GatedRepoError():
                reason = f"is gated: accept its terms on huggingface.co/{name} and log in (hf auth login, or HF_TOKEN)"
            case errors.RepositoryNotFoundError():
                reason = "is not on the hub, or is private: check the name, or log in (hf auth login, or HF_TOKEN)"
            case errors.RevisionNotFoundError():
                reason = f"has no revision {revision!r} on the hub"
            case errors.LocalEntryNotFoundError() | ConnectionError():
                reason = f"cannot be reached on the hub, and is not in its cache here: {OFFLINE}"
            case ValueError():
                reason = f"is not known to the hub: {one_line(error)}"
            case _:
                reason = f"cannot be had from the hub ({one_line(error)}): {OFFLINE}"
        raise PermeationError(f"{asked}, and {name} {reason}") from error

"""Models and texts on the Hugging Face hub, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from permeation.frame.errors import PermeationError, one_line

# What transformers reads of a checkpoint: no pickle, no code, no second copy of the weights.
WEIGHTS = ["model.safetensors", "model-*.safetensors", "adapter_model.safetensors"]
PATTERNS = [*WEIGHTS, "*.json", "*.model", "*.tiktoken", "vocab.txt", "merges.txt"]
CHARACTERS = 5_000_000  # of a dataset that is streamed: a million tokens, more than the shipped settings read
PATIENCE = 5.0  # seconds for the hub's first answer; its client itself tries for most of a minute
LOG_IN = "log in (hf auth login, or HF_TOKEN)"


def commit_of(kind: str, name: str, revision: str | None = None) -> str | None:
    """The commit of a model or a dataset on the hub; None where the hub does not answer, and its cache is left."""
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

    with explained(name):
        cached = commit_of("model", name, revision) is None
        return Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS, local_files_only=cached))


def documents(name: str, subset: str, split: str, column: str) -> tuple[list[str], str]:
    """The first texts of one column of a dataset, CHARACTERS of them or all there are, and the dataset's commit."""
    from datasets import load_dataset

    texts, length = [], 0
    with explained(name):
        commit = commit_of("dataset", name)
        if commit is None:
            raise ConnectionError
        rows: Any = load_dataset(name, subset or None, split=split, revision=commit, streaming=True)
        for row in rows:
            texts.append(row[column])
            length += len(row[column])
            if length >= CHARACTERS:
                break
    return texts, commit


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Say in one line what an error of the hub's client means and what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise PermeationError(f"{name} is gated: accept its terms on huggingface.co/{name} and {LOG_IN}") from error
    except errors.RepositoryNotFoundError as error:
        raise PermeationError(f"{name} is neither here nor on the hub, or is private: check it, or {LOG_IN}") from error
    except (errors.LocalEntryNotFoundError, ConnectionError) as error:
        raise PermeationError(
            f"{name}: the hub cannot be reached, and its cache here does not hold it; take smollm2-135m, a folder, or "
            "copy ~/.cache/huggingface from a machine that has it"
        ) from error
    except Exception as error:
        raise PermeationError(f"{name} cannot be had from the hub: {one_line(error)}") from error

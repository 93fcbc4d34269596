"""Models and texts on the Hugging Face hub, and what its refusals mean."""

from __future__ import annotations

import sys
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
# Minutes on two cores, GB of memory and GB of disk of a run with the shipped settings, for 135 million parameters.
PER_135_MILLION = (20, 3, 2)
LOG_IN = "log in (hf auth login, or HF_TOKEN)"


def repository(kind: str, name: str, revision: str | None = None) -> Any:
    """What the hub says of a model or a dataset; None where it does not answer, and its cache is left."""
    from huggingface_hub import HfApi, errors

    sizes = kind == "model"
    try:
        return HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=PATIENCE, files_metadata=sizes)
    except Exception as error:
        if isinstance(error, (errors.HfHubHTTPError, ValueError)):  # an answer, or a name that is none
            raise
        return None  # no route, no answer in time, HF_HUB_OFFLINE


def snapshot(name: str, revision: str | None, announce: bool = False) -> Path:
    """The folder of a model's files in the hub's cache, downloaded where they are not there; named by its commit.

    announce: say first on stderr what the model will take.
    """
    from huggingface_hub import snapshot_download

    with explained(name):
        told = repository("model", name, revision)
        if announce and told is not None and told.safetensors is not None:
            sys.stderr.write(_forecast(name, told))
        return Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS, local_files_only=told is None))


def _forecast(name: str, told: Any) -> str:
    """What a model will take, in a line, from what the hub says of it."""
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    read = filter_repo_objects(told.siblings, allow_patterns=PATTERNS, key=lambda file: file.rfilename)
    download, size = sum(file.size for file in read) / 1e9, told.safetensors.total / 135e6
    minutes, memory, disk = (size * each for each in PER_135_MILLION)
    cost = f"{disk + download:.1f} GB of disk, {memory:.1f} GB of memory and {minutes:.0f} minutes on two cores"
    return f"{name}: {1e3 * download:.0f} MB to download unless they are in the hub's cache; a run takes about {cost}\n"


def documents(name: str, subset: str, split: str, column: str) -> tuple[list[str], str]:
    """The first texts of one column of a dataset, CHARACTERS of them or all there are, and the dataset's commit."""
    from datasets import load_dataset

    texts, length = [], 0
    with explained(name):
        found = repository("dataset", name)
        if found is None:
            raise ConnectionError
        rows: Any = load_dataset(name, subset or None, split=split, revision=found.sha, streaming=True)
        for row in rows:
            texts.append(row[column])
            length += len(row[column])
            if length >= CHARACTERS:
                break
    return texts, found.sha


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

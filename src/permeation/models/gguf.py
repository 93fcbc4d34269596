"""A GGUF file as a transformers checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

from permeation.frame.errors import PermeationError
from permeation.models.families import check_family
from permeation.models.guard import check_layers, one_line, skeleton
from permeation.models.load import read_weights

# The largest vocabularies have 262,144 tokens, and half a million merges; each number is an object or two while the
# file is read, and each character of a token a place where it might be cut in two.
METADATA_BYTES, METADATA_NUMBERS, TOKEN_CHARACTERS = 2**25, 2**21, 2**12


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF file's weights, dequantised to float32, and its tokenizer as a transformers checkpoint.

    Raises PermeationError for a damaged file, one that claims more than it holds, and a family without views.
    """
    # An empty folder: transformers would also read what lies next to the file.
    with tempfile.TemporaryDirectory() as nothing:
        source, name = str(file.resolve()), f"the model in {file.name}"
        try:
            header = _check(file)
            config = transformers.AutoConfig.from_pretrained(nothing, gguf_file=source, trust_remote_code=False)
            tokenizer = transformers.AutoTokenizer.from_pretrained(nothing, gguf_file=source, trust_remote_code=False)
        except PermeationError:
            raise
        except Exception as error:
            raise PermeationError(f"{file.name} cannot be read as GGUF: {one_line(error)}") from error
        check_family(config.model_type)
        model = skeleton(config, {tensor.name: tensor.shape for tensor in header.tensors}, name)
        loaded = read_weights(Path(nothing), config, name, torch.float32, gguf=source)
    # transformers refuses to save what came out of a GGUF file, so the weights move to a model that did not.
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check(file: Path) -> Any:
    """The header of a GGUF file whose metadata and tensors are no larger than the file makes believable."""
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ValueError("it does not start with the letters GGUF")
    metadata, tensors = read_gguf_metadata(str(file), ("tokenizer.ggml.tokens",))
    header = GgufHeader.from_file(str(file))
    numbers = sum(len(value) for value in metadata.values() if isinstance(value, list))
    longest = max(map(len, metadata.get("tokenizer.ggml.tokens", ())), default=0)
    if header.data_start > METADATA_BYTES or numbers > METADATA_NUMBERS or longest > TOKEN_CHARACTERS:
        raise ValueError("its metadata is too large for a vocabulary")
    if sum(tensor.nbytes for tensor in header.tensors) > file.stat().st_size:
        raise ValueError("its tensors are larger than the file")
    # Before the configuration is made, which is a list of so many entries in some families.
    check_layers([value for key, value in metadata.items() if key.endswith(".block_count")], tensors, file.name)
    return header

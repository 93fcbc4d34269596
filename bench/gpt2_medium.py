"""Write a checkpoint of GPT-2 medium's size with random weights: `python -m bench.gpt2_medium FOLDER`.

Its tokenizer is that of the model in data/model, which `make repro` fetched.
"""

import sys
from pathlib import Path

import torch
import transformers

from permeation.models.tokenizer import load_tokenizer


def main(folder: Path) -> None:
    """354,823,168 parameters: 24 layers of 16 heads, 1024 wide, with GPT-2's vocabulary and 1024 positions."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=24, n_head=16, n_embd=1024)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    load_tokenizer(Path("data") / "model").save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

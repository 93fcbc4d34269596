"""Write a checkpoint of the size of a 1 B Llama with random weights: `python -m bench.llama_1b FOLDER`.

Its tokenizer is that of the model in data/model, which `make repro` fetched.
"""

import sys
from pathlib import Path

import torch
import transformers

from permeation.models.tokenizer import load_tokenizer


def main(folder: Path) -> None:
    """1.07 billion parameters in bfloat16: 22 layers of 32 query and 4 key heads, 2048 wide, embedding tied."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(Path("data") / "model")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype=torch.bfloat16,
    )
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

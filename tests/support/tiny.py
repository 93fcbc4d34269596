"""Small random models of each family, made from a configuration: nothing is downloaded.

`python -m tests.support.tiny FOLDER [FAMILY]` writes one, for trying the pipeline without a real model.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from permeation.meaning.words import read_words

WORDS_FILE = Path(__file__).parents[2] / "data" / "words.yaml"
LAYERS, HEADS, WIDTH, CONTEXT = 3, 4, 32, 64

CONFIGS: dict[str, Any] = {
    "gpt2": lambda vocab: transformers.GPT2Config(
        n_layer=LAYERS,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=CONTEXT,
        vocab_size=vocab,
        bos_token_id=1,
        eos_token_id=1,
    ),
    "llama": lambda vocab: transformers.LlamaConfig(  # grouped queries: two query heads share a key head
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=CONTEXT,
        vocab_size=vocab,
    ),
    "gpt_neox": lambda vocab: transformers.GPTNeoXConfig(
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=CONTEXT,
        vocab_size=vocab,
    ),
}


def tokenizer() -> Any:
    """A word-level tokenizer that knows the words of data/words.yaml."""
    known = {token for word in read_words(WORDS_FILE) for prompt in word.prompts for token in prompt.text.split()}
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<bos>", *sorted(known)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<bos>")


def model(family: str, seed: int = 0) -> Any:
    """A model whose norms, biases and weights are all random, so that nothing holds because it is 0 or 1."""
    torch.manual_seed(seed)
    network = transformers.AutoModelForCausalLM.from_config(CONFIGS[family](len(tokenizer())))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            around = 1.0 if "norm" in name or "ln_" in name else 0.0
            torch.nn.init.normal_(parameter, around if name.endswith("weight") else 0.0, 0.2)
    return network.eval().requires_grad_(False)


def checkpoint(folder: Path, family: str) -> Path:
    """Write model and tokenizer as a transformers checkpoint."""
    model(family).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    checkpoint(Path(sys.argv[1]), *(sys.argv[2:] or ["gpt2"]))

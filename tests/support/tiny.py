"""Small random models of each family, made from a configuration: nothing is downloaded.

`python -m tests.support.tiny FOLDER [FAMILY]` writes one, for trying the pipeline without a real model.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from permeation.meaning.words import read_words

WORDS_FILE = Path(__file__).parents[2] / "data" / "words.yaml"
LAYERS, HEADS, WIDTH, CONTEXT = 3, 4, 32, 64


def _named(name: str, *without: str, **more: Any) -> Any:
    """A maker of configurations of the class transformers.<name>Config; two query heads share a key head."""

    def make(vocab: int) -> Any:
        sizes = {
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS // 2,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "max_position_embeddings": CONTEXT,
            "vocab_size": vocab,
            "pad_token_id": None,
            "bos_token_id": 1,
            "eos_token_id": 1,
        }
        kept = {key: size for key, size in sizes.items() if key not in without}
        return getattr(transformers, f"{name}Config")(**(kept | more))

    return make


# The few families that most tests take.
CONFIGS: dict[str, Any] = {
    "gpt2": _named("GPT2", "num_key_value_heads", "intermediate_size"),
    "llama": _named("Llama"),
    "gpt_neox": _named("GPTNeoX", "num_key_value_heads"),
}

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_SHORT = {"sliding_window": CONTEXT // 4}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 12}
_MULTIPLIERS = {
    "attention_multiplier": 0.3,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 3.0,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH // 2}

# All families of docs/models.md.
ALL_CONFIGS: dict[str, Any] = CONFIGS | {
    "llama, llama3 positions": _named("Llama", rope_parameters=LLAMA3),
    "mistral": _named("Mistral", **_SHORT),
    "qwen2": _named("Qwen2"),
    "qwen3": _named("Qwen3", head_dim=16),
    "gemma": _named("Gemma", head_dim=16),
    "gemma2": _named("Gemma2", **_GEMMA, **_SHORT, attn_logit_softcapping=5.0, final_logit_softcapping=3.0),
    "gemma2, long windows": _named("Gemma2", **_GEMMA, attn_logit_softcapping=5.0),
    "gemma3_text": _named("Gemma3Text", **_GEMMA, **_SHORT),
    "olmo": _named("Olmo"),
    "olmo2": _named("Olmo2"),
    "phi": _named("Phi"),
    "phi3": _named("Phi3"),
    "stablelm": _named("StableLm"),
    "stablelm, parallel": _named("StableLm", use_parallel_residual=True, qk_layernorm=True, use_qkv_bias=True),
    "starcoder2": _named("Starcoder2"),
    "smollm3": _named("SmolLM3"),
    "granite": _named("Granite", **_MULTIPLIERS),
    "cohere": _named("Cohere", use_qk_norm=True, logit_scale=0.5),
    "nemotron": _named("Nemotron"),
    "qwen3_moe": _named("Qwen3Moe", head_dim=16, **_EXPERTS),
    "mixtral": _named("Mixtral", num_local_experts=4),
    "falcon": _named("Falcon", "num_key_value_heads", "intermediate_size"),
    "bloom": _named("Bloom", "num_key_value_heads", "intermediate_size", "max_position_embeddings"),
    "mpt": _named("Mpt", "num_key_value_heads", "intermediate_size", "max_position_embeddings", max_seq_len=CONTEXT),
    "gptj": _named("GPTJ", "num_key_value_heads", "intermediate_size", rotary_dim=4),
    "gpt_neo": _named(
        "GPTNeo",
        "num_key_value_heads",
        "num_hidden_layers",
        num_layers=LAYERS,
        attention_types=[[["global", "local", "global"], 1]],
        window_size=CONTEXT // 4,
    ),
    "opt": _named("OPT", "num_key_value_heads", "intermediate_size", ffn_dim=2 * WIDTH, word_embed_proj_dim=WIDTH),
}


def tokenizer() -> Any:
    """A word-level tokenizer that knows the words of data/words.yaml."""
    known = {token for word in read_words(WORDS_FILE) for prompt in word.prompts for token in prompt.text.split()}
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<bos>", *sorted(known)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<bos>")


def byte_tokenizer() -> Any:
    """A byte-level tokenizer as most models have, for which " bank" and "bank" are two tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>"], initial_alphabet=alphabet)
    prompts = [prompt.text for word in read_words(WORDS_FILE) for prompt in word.prompts]
    core.train_from_iterator(prompts, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")


def model(family: str, seed: int = 0) -> Any:
    """A model whose norms, biases and weights are all random, so that nothing holds because it is 0 or 1."""
    torch.manual_seed(seed)
    network = transformers.AutoModelForCausalLM.from_config(ALL_CONFIGS[family](len(tokenizer())))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            around = 1.0 if "norm" in name or "ln_" in name else 0.0
            torch.nn.init.normal_(parameter, around if name.endswith("weight") else 0.0, 0.2)
    return network.eval().requires_grad_(False)


def checkpoint(folder: Path, family: str) -> Path:
    """Write model and tokenizer as a transformers checkpoint."""
    model(family).save_pretrained(folder)
    # transformers reads any tokenizer next to a qwen2 as a byte-level one.
    (byte_tokenizer() if family == "qwen2" else tokenizer()).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    checkpoint(Path(sys.argv[1]), *(sys.argv[2:] or ["gpt2"]))

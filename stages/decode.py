"""Decode a prompt's sense at every layer along directions that other prompts gave: AUC, d′, p-values."""

from typing import Any

import numpy as np
from tqdm import tqdm

from permeation.frame.tables import write_json, write_rows
from permeation.meaning import bootstrap
from permeation.meaning.decode import Decoding, first_depth, held_out, leave_pair_out, p_values
from permeation.meaning.nulls import lasting_depth
from permeation.meaning.sigma import contrast, layer_index
from permeation.meaning.words import SENSES, read_prompts, select
from stages import Stage, run

# Which prompts are decoded: the direction prompts, each pair along the contrast of the others; or the gradient
# prompts, from weak contexts to strong, along the contrast of the direction prompts.
TESTS = ("direction", "gradient")
# Along the contrast of the layer itself, or along that of sigma.direction_layer at every layer.
DIRECTIONS = ("own", "final")


def main(stage: Stage) -> None:
    """Write data/decode/: plots/decoding.json, per test, direction, word (and mean over words) and layer."""
    activations, config = stage.input("extract_activations"), stage.config
    prompts = read_prompts(activations / "prompts.json")
    residuals = np.load(activations / "residuals.npy", mmap_mode="r")
    layer = layer_index(config.sigma.direction_layer, residuals.shape[1])
    names = list(dict.fromkeys(p.word for p in prompts))
    rng = np.random.default_rng(config.seed)
    resamples = config.bootstrap.resamples
    weights = bootstrap.resample_words(len(names), resamples, rng) / len(names)

    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    bar = tqdm([(test, along) for test in TESTS for along in DIRECTIONS], desc="decoding", disable=None)
    for test, along in bar:
        at = slice(None) if along == "own" else slice(layer, layer + 1)
        found = {}
        for word in names:
            trained = [select(prompts, word, "direction", sense) for sense in SENSES]
            tested = [select(prompts, word, test, sense) for sense in SENSES]
            residual = residuals[tested[0] + tested[1]]
            is_a = np.arange(len(residual)) < len(tested[0])
            if test == "direction":
                found[word] = leave_pair_out(residual, residual[:, at], is_a, config.decode.permutations, rng)
            else:
                direction = contrast(*(residuals[chosen][:, at] for chosen in trained))
                found[word] = held_out(residual, direction, is_a, config.decode.permutations, rng)
        resampled = {word: decoding.bootstrap(resamples, rng) for word, decoding in found.items()}
        mean = np.mean([decoding.auc for decoding in found.values()], axis=0)
        mean_permuted = np.mean([decoding.permuted for decoding in found.values()], axis=0)
        mean_resampled = np.einsum("rw,wrl->rl", weights, np.stack(list(resampled.values())))
        rows += decoding_rows(test, along, found, resampled)
        p_mean = p_values(mean, mean_permuted)
        rows += layer_rows(test, along, "mean", mean, None, *p_mean, mean_resampled)
        threshold = config.decode.threshold
        low, high = bootstrap.interval(mean_resampled[:, 1:].mean(axis=1))
        name = f"{test}_{along}"
        summary |= {
            f"auc_{name}": float(mean[1:].mean()),
            f"auc_{name}_low": float(low),
            f"auc_{name}_high": float(high),
            f"auc_{name}_p": float(p_mean[1].min()),
            f"decoded_depth_{name}": first_depth(mean, threshold),
            f"decoded_for_good_{name}": lasting_depth(mean >= threshold),
            f"decoded_words_{name}": sum(first_depth(d.auc, threshold) is not None for d in found.values()),
        }
        if name == "direction_own":
            summary["decoded_depth"] = {word: first_depth(d.auc, threshold) for word, d in found.items()}
    with stage.output() as folder:
        write_json(folder / "summary.json", summary)
        write_rows(folder / "plots" / "decoding.json", rows)


def decoding_rows(
    test: str, along: str, found: dict[str, Decoding], resampled: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """The rows of every word."""
    return [
        row
        for word, decoding in found.items()
        for row in layer_rows(
            test,
            along,
            word,
            decoding.auc,
            decoding.d_prime,
            *p_values(decoding.auc, decoding.permuted),
            resampled[word],
        )
    ]


def layer_rows(
    test: str,
    along: str,
    word: str,
    auc: np.ndarray,
    d_prime: np.ndarray | None,
    p_layer: np.ndarray,
    p_any: np.ndarray,
    resampled: np.ndarray,
) -> list[dict[str, Any]]:
    """A row per layer: AUC with its 95 % interval, d′, p at this layer, and p against the largest of all layers."""
    low, high = bootstrap.interval(resampled)
    depth = np.linspace(0, 1, len(auc))
    primes = [None] * len(auc) if d_prime is None else d_prime
    return [
        {"test": test, "direction": along, "word": word, "depth": x, "auc": y, "low": lo, "high": hi}
        | {"d_prime": prime, "p": p, "p_any": p_max}
        for x, y, lo, hi, prime, p, p_max in zip(depth, auc, low, high, primes, p_layer, p_any, strict=True)
    ]


if __name__ == "__main__":
    run(main)

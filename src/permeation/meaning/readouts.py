"""Where a table's sentences give their sense away: by place and depth, beside baselines, and along which components.

Directions always come from other sentences than those that are tested (docs/meaning.md, Tables of sentences).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from permeation.frame import progress
from permeation.frame.seeds import named_generator
from permeation.meaning.activations import PLACES, Activations, direction_pairs
from permeation.meaning.bootstrap import interval, resample_words, with_interval
from permeation.meaning.decode import DecodedWords, decode_words, first_depth
from permeation.meaning.factors import word_residuals
from permeation.meaning.nulls import random_halves
from permeation.meaning.sigma import Fan

HEAD = 0.9  # share of the residual variance beyond which components are the tail
DRAWS = 1000  # of the null model of the tail


def baseline(activations: Activations, resamples: int, seed: int) -> dict[str, float]:
    """The AUC of the context as a bag of embeddings, with the middle 95 % over words and prompts."""
    found = decode_words(activations, 0, "direction", "own", 1, resamples, seed, "context")
    return with_interval("auc", found.mean[0], found.mean_resampled[:, 0])


def sense_fans(activations: Activations, layer: int) -> dict[str, Fan]:
    """σ of each word's two senses, every sentence along the direction of others."""
    words = word_residuals(activations, layer)
    return {
        word: Fan(np.stack([sense.mean(axis=0) for sense in each.split(each.sigma())[1:]]))
        for word, each in words.items()
    }


def read_outs(
    activations: Activations,
    layer: int,
    places: Mapping[str, DecodedWords],
    decoded_at: float,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Any], dict[str, DecodedWords]]:
    """The key `sentences` of metrics/decode.json, and what each place decodes to.

    places: what the word and the token before it decode to. decoded_at: the AUC from which on a sense is decoded.
    """
    others = progress.each(PLACES[2:], "read-outs", len(PLACES) - 2)
    places = {**places} | {
        place: decode_words(activations, layer, "direction", "own", 1, resamples, seed, place) for place in others
    }
    lengths = np.array([len(prompt.text) for prompt in activations.prompts], np.float64)
    by_length = np.stack([lengths, np.full_like(lengths, lengths.mean())], axis=-1)[:, None]  # its angle rises with it
    decode = {
        "places": {place: each.summary(decoded_at) for place, each in places.items()},
        "baselines": {
            "before": float(places["before"].mean[0]),
            "context": baseline(activations, resamples, seed),
            "length": baseline(replace(activations, context=by_length), resamples, seed),
        },
        "same_pos": by_part_of_speech(activations, places, decoded_at),
        "best_depth": best_depth(places["at_word"], resamples, seed),
    }
    if len(places["at_word"].words) > 1:
        decode["tail"] = {str(each): tail(activations, each, seed) for each in (layer // 2, layer)}
    return decode, places


def by_part_of_speech(
    activations: Activations, places: Mapping[str, DecodedWords], decoded_at: float
) -> dict[str, dict[str, Any]]:
    """AUC, and depth where it is decoded, by place: of words whose senses are of one part of speech, and of two."""
    same = {prompt.word: prompt.same_pos for prompt in activations.prompts}
    found: dict[str, dict[str, Any]] = {}
    for name, flag in (("one", True), ("two", False)):
        words = [word for word in places["at_word"].words if same[word] is flag]
        if words:
            means = {place: np.mean([each.words[word].auc for word in words], axis=0) for place, each in places.items()}
            found[name] = {"words": len(words)} | {
                place: {"auc": float(auc[1:].mean()), "decoded_depth": first_depth(auc, decoded_at)}
                for place, auc in means.items()
            }
    return found


def best_depth(decoded: DecodedWords, resamples: int, seed: int) -> dict[str, Any]:
    """The first depth of each word's largest AUC: quartiles over words, and the median's middle 95 %.

    last: the share of words that are best at the last layer. within, between: how far the best depths of two resamples
    of the sentences are apart, of one word and of two. One best depth for all words: within = between.
    """
    curves = np.stack([each.auc for each in decoded.words.values()])
    layers = curves.shape[1] - 1
    depth = curves.argmax(axis=1) / layers
    weights = resample_words(len(depth), resamples, named_generator(seed, "best depth"))
    low, high = interval(np.array([np.median(np.repeat(depth, row)) for row in weights]))
    drawn = np.stack([each.argmax(axis=1) for each in decoded.resampled.values()]) / layers
    pairs = drawn[:, : resamples // 2, None], np.roll(drawn, -(resamples // 2), axis=1)[:, : resamples // 2, None]
    apart = np.abs(pairs[0].transpose(1, 0, 2) - pairs[1].transpose(1, 2, 0)).mean(axis=0)
    others = apart[~np.eye(len(depth), dtype=bool)]
    return {
        "quartiles": np.quantile(depth, (0.25, 0.5, 0.75)).tolist(),
        "median_low": float(low),
        "median_high": float(high),
        "last": float((curves[:, -1] > curves[:, :-1].max(axis=1)).mean()),
        "within": float(apart.diagonal().mean()),
        "between": float(others.mean()) if len(others) else None,
    }


def tail(activations: Activations, layer: int, seed: int) -> dict[str, float]:
    """How much of the words' contrasts lies behind the components that explain 90 % of the residual variance.

    The components are those of every other word's streams about its senses' means; the remaining words are measured,
    and the reverse. null: the same of contrasts of random halves within senses, which have the spectrum of the
    residuals, with the middle 95 % of draws. It is no test: balanced halves are no group (`nulls.within_senses`).
    """
    rng, words = named_generator(seed, f"tail {layer}"), list(direction_pairs(activations.prompts).values())
    streams = [activations.at_word[[*zip(*pairs, strict=True)], layer].astype(np.float64) for pairs in words]
    shares: list[np.ndarray] = []
    for held in range(2):
        about = np.concatenate(
            [(each - each.mean(axis=1, keepdims=True)).reshape(-1, each.shape[-1]) for each in streams[1 - held :: 2]]
        )
        _, sizes, components = np.linalg.svd(about, full_matrices=False)
        head = components[: np.searchsorted(np.cumsum(sizes**2), HEAD * np.sum(sizes**2)) + 1]
        for each in streams[held::2]:
            n = each.shape[1]
            weights = np.concatenate([np.repeat([[1.0, -1.0]], n, axis=1), random_halves((n, n), DRAWS, rng)])
            contrasts = weights @ each.reshape(2 * n, -1)
            inside = np.square(contrasts @ head.T).sum(axis=1)
            shares.append(1 - inside / np.square(contrasts).sum(axis=1))
    share, *null = np.mean(shares, axis=0)
    return {"share": float(share)} | with_interval("null", np.mean(null), np.array(null))

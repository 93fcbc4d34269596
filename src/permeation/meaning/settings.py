"""The settings of the meaning axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from permeation.frame.checks import Settings, boolean, checked, choice, count_or_all, integer, number


@dataclass(frozen=True)
class Activations(Settings):
    prefix = "activations."
    prepend_bos: bool = checked(
        boolean,
        "Put the tokenizer's BOS in front of each prompt. Choose false for a model whose tokenizer has none.",
    )
    batch_size: int = checked(
        integer(1),
        "Prompts that go through the model at once. Lower it where memory runs out; no result changes.",
    )


@dataclass(frozen=True)
class Sigma(Settings):
    prefix = "sigma."
    direction_layer: int = checked(
        integer(),
        "The layer whose residual stream gives the direction ê: 0 is the embedding, -1 the last block's output.",
    )


@dataclass(frozen=True)
class Response(Settings):
    prefix = "response."
    field: Literal["final", "rank", "heldout"] = checked(
        choice("final", "rank", "heldout"),
        "Where the context's strength h comes from: final (the prompt's own last σ), rank (its place in its "
        "gradient), or heldout (its last σ along a direction from other prompts). With final, σ at the last "
        "layer is h by construction; rank and heldout are not circular.",
    )
    threshold: float = checked(
        number(0.0, 1.0),
        "The linear response counts as broken where a residual passes this share of σ's range.",
    )


@dataclass(frozen=True)
class G(Settings):
    prefix = "g."
    exclude_final: int = checked(
        integer(0),
        "The laws of g and its exponent are fitted without this many final layers.",
    )


@dataclass(frozen=True)
class Bootstrap(Settings):
    prefix = "bootstrap."
    resamples: int = checked(
        integer(1),
        "Resamples of prompts and words behind each interval. More make the intervals steadier and take longer.",
    )


@dataclass(frozen=True)
class Nulls(Settings):
    prefix = "nulls."
    draws: int = checked(integer(1), "Draws of each null model. Tests have permutations of their own.")


@dataclass(frozen=True)
class Controls(Settings):
    prefix = "controls."
    permutations: int = checked(
        integer(1), "Shuffles of the senses for the p-values. The smallest possible p is 1 / (permutations + 1)."
    )


@dataclass(frozen=True)
class Decode(Settings):
    prefix = "decode."
    threshold: float = checked(number(0.5, 1.0), "The AUC from which on a sense counts as decoded.")
    permutations: int = checked(integer(1), "How often the senses are permuted for the p-values of the AUC.")


@dataclass(frozen=True)
class LogitLens(Settings):
    prefix = "logit_lens."
    top: int = checked(integer(1), "Tokens that are kept at each layer.")


@dataclass(frozen=True)
class Intervene(Settings):
    prefix = "intervene."
    layers: int | Literal["all"] = checked(
        count_or_all,
        "At how many layers the residual stream is changed, evenly spread from 1 to L; all takes the longest.",
    )
    clean_auc: float = checked(
        number(0.5, 1.0),
        "A word counts where its two senses' next-token distributions are told apart with at least this AUC.",
    )

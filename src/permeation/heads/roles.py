"""What each head does at the word: written along the sense's direction, and to what the model then expects.

    direct(i) = ⟨W_O^h (z_h(A_i) − z_h(B_i)), ê_l⟩ / ‖mean_A(l) − mean_B(l)‖
    causal(i) = ½ [(T(A_i) − T′(A_i)) + (T′(B_i) − T(B_i))] / (T̄_A − T̄_B)

z_h, of d_head numbers, is what head h gives in front of W_O: the layer adds Σ_h z_h W_O^h to the residual stream. T′ is
the lean of the prompt with another z_h at the word; keys and values of the tokens before it stay (docs/heads.md). The
first half of a word's prompts are A_1 … A_n, the second B_1 … B_n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from permeation.frame import progress
from permeation.frame.device import fast_products
from permeation.frame.errors import PermeationError
from permeation.frame.seeds import named_generator
from permeation.meaning.activations import Activations, direction_pairs
from permeation.meaning.intervene import MatchedPairs, clean_auc, lean, leaning
from permeation.meaning.runs import LastRun, read_last, resume
from permeation.models.families import attention_outputs
from permeation.models.tokenizer import by_length

# What a head's z at the word is replaced by; the last two are controls.
KINDS = ("exchange", "within_sense", "random")
CONTROLS = KINDS[1:]
MEMORY = 2**26  # bytes that the logits of one run may take


def direct_writing(
    z: Float[np.ndarray, "prompts layers heads d_head"],
    gain: Float[np.ndarray, "prompts layers d_model"],
    W_O: Float[np.ndarray, "layers heads d_head d_model"],
    direction: Float[np.ndarray, "pairs layers d_model"],
    distance: Float[np.ndarray, "layers"],
) -> Float[np.ndarray, "pairs layers heads"]:
    """⟨W_O^h (z_h(A_i) − z_h(B_i)), ê_l⟩ / ‖mean_A(l) − mean_B(l)‖ for each pair, with ê_l from the other pairs.

    direction: ê_l after block l. distance: the norm of the contrast of all pairs there. gain: as of `read_word`. Over
    the heads of a layer it adds up to the share of the senses' distance that this attention layer writes.
    """
    twice = np.concatenate([direction, direction])
    seen = np.einsum("lhed,pld->plhe", W_O, gain * twice, optimize=True)  # how each coordinate of z is read along ê
    a, b = np.split(np.einsum("plhe,plhe->plh", z, seen), 2)
    return (a - b) / distance[:, None]


def substitutes(
    z: Float[np.ndarray, "prompts layers heads d_head"], rng: np.random.Generator
) -> Float[np.ndarray, "prompts kinds layers heads d_head"]:
    """What each kind puts in the place of every head's z.

    exchange: z of the twin. within_sense: z of the next pair's prompt of the same sense. random: as far from z as the
    twin's, in a random direction, drawn for each pair and head, for A one way and for B the other.
    """
    a, b = np.split(z, 2)
    twin = np.concatenate([b, a])
    neighbour = np.concatenate([np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)])
    u = rng.standard_normal(a.shape)
    step = np.linalg.norm(a - b, axis=-1, keepdims=True) * u / np.linalg.norm(u, axis=-1, keepdims=True)
    return np.stack([twin, neighbour, z + np.concatenate([step, -step])], axis=1)


def causal_share(
    clean: Float[np.ndarray, "prompts"], changed: Float[np.ndarray, "prompts *heads"]
) -> Float[np.ndarray, "pairs *heads"]:
    """½ [(T(A_i) − T′(A_i)) + (T′(B_i) − T(B_i))] / (T̄_A − T̄_B): its mean over pairs is R of docs/meaning.md.

    0 where nothing follows the change, 1 where what follows is the other sense's.
    """
    a, b = np.split(clean, 2)
    of_a, of_b = np.split(changed - clean.reshape(-1, *[1] * (changed.ndim - 1)), 2)
    return (of_b - of_a) / 2 / (a.mean() - b.mean())


@dataclass(frozen=True)
class WordRoles:
    """What every head does for one word.

    Attributes:
        direct: `direct_writing` of each pair. causal: `causal_share` of each kind, and of each pair that was changed.
        attention: `attention_shares`, mean over prompts.
    """

    direct: Float[np.ndarray, "pairs layers heads"]
    causal: Float[np.ndarray, "kinds changed layers heads"]
    attention: Mapping[str, Float[np.ndarray, "layers heads"]]


@dataclass(frozen=True)
class Clean:
    """What the untouched model makes of one word's prompts; `weights` are w of each prompt's pair, from the others."""

    tokens: Sequence[Sequence[int]]
    z: Float[np.ndarray, "prompts layers heads d_head"]
    gain: Float[np.ndarray, "prompts layers d_model"]
    attention: Mapping[str, Float[np.ndarray, "layers heads"]]
    weights: Float[Tensor, "prompts d_vocab"]
    T: Float[np.ndarray, "prompts"]


@fast_products()
def measure_roles(
    model: Any,
    activations: Activations,
    sequences: Sequence[Sequence[int]],
    most_pairs: int,
    least_auc: float,
    seed: int,
) -> dict[str, WordRoles | None]:
    """Every head of every word; None for a word whose untouched prompts T tells apart with an AUC below `least_auc`.

    Directions and references come from all matched pairs of a word; the first `most_pairs` of them are changed.
    sequences: the tokens of each prompt, in the order of the activations. Raises PermeationError where no word is left.
    """
    prompts = {word: np.transpose(pairs).ravel() for word, pairs in direction_pairs(activations.prompts).items()}
    read = {word: _read_clean(model, [sequences[i] for i in own]) for word, own in prompts.items()}
    clear = {word: clean for word, clean in read.items() if clean_auc(clean.T) >= least_auc}
    if not clear:
        best = max(clean_auc(clean.T) for clean in read.values())
        raise PermeationError(f"no word's senses differ in the next token: AUC {best:.2f}; accepted: {least_auc:g}")
    few = {word: np.arange(len(own.T)).reshape(2, -1)[:, :most_pairs].ravel().tolist() for word, own in clear.items()}
    rng = {word: named_generator(seed, f"heads random {word}") for word in clear}
    tokens = [clean.tokens[i] for word, clean in clear.items() for i in few[word]]
    put = np.concatenate([substitutes(clean.z, rng[word])[few[word]] for word, clean in clear.items()])
    weights = torch.cat([clean.weights[few[word]] for word, clean in clear.items()])
    changed = _run_changes(model, tokens, put, weights)
    of_word = np.split(changed, np.cumsum([len(own) for own in few.values()])[:-1])
    W_O = np.stack([place.W_O.float().cpu().numpy() for place in attention_outputs(model)])
    found: dict[str, WordRoles | None] = dict.fromkeys(prompts)
    for (word, clean), own in zip(clear.items(), of_word, strict=True):
        a, b = np.split(activations.at_word[prompts[word]], 2)
        distance = np.linalg.norm(a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64), axis=-1)[1:]
        found[word] = WordRoles(
            direct=direct_writing(clean.z, clean.gain, W_O, MatchedPairs.of(word, a, b).direction[:, 1:], distance),
            causal=np.moveaxis(causal_share(clean.T[few[word]], own), 1, 0),
            attention=clean.attention,
        )
    return found


def _read_clean(model: Any, tokens: Sequence[Sequence[int]]) -> Clean:
    z: list[Any] = [None] * len(tokens)
    gain, looks, logits = z.copy(), z.copy(), z.copy()
    twins = [*tokens[len(tokens) // 2 :], *tokens[: len(tokens) // 2]]
    for group in by_length(tokens):
        some = [tokens[i] for i in group]
        (run, *read), seen = read_word(model, some), attention_at_word(model, some)
        for place, i in enumerate(group):
            z[i], gain[i] = (each[:, place].cpu().double().numpy() for each in read)
            looks[i] = attention_shares(seen[place], tokens[i], twins[i])
            logits[i] = run.logits[place].float()
    attention = {name: np.mean([each[name] for each in looks], axis=0) for name in looks[0]}
    probabilities = torch.stack(logits).softmax(dim=-1)
    weights = torch.cat([leaning(probabilities)] * 2)
    T = lean(probabilities[:, None], weights)[:, 0].cpu().double().numpy()
    return Clean(tokens, np.stack(z), np.stack(gain), attention, weights, T)


def _run_changes(
    model: Any,
    tokens: Sequence[Sequence[int]],
    new: Float[np.ndarray, "prompts kinds layers heads d_head"],
    weights: Float[Tensor, "prompts d_vocab"],
) -> Float[np.ndarray, "prompts kinds layers heads"]:
    """T with each head changed in each way, one head at a time; all heads of a layer and some prompts run together."""
    prompts, kinds, layers, heads, d_head = new.shape
    which = np.repeat(np.arange(heads), kinds).tolist()
    at_once = max(1, MEMORY // (4 * len(which) * weights.shape[-1]))
    changed = np.empty((prompts, kinds, layers, heads))
    batches = [some for group in by_length(tokens) for some in np.split(group, range(at_once, len(group), at_once))]
    for some in progress.each(batches, "heads at the word", len(batches)):
        run = read_last(model, [tokens[i] for i in some], len(which))
        for layer in range(layers):
            put = new[some, :, layer].swapaxes(1, 2).reshape(len(some), len(which), d_head).astype(np.float32)
            after = run_changed(model, run, layer, which, torch.tensor(put, device=model.device))
            leans = lean(after.float().softmax(dim=-1), weights[some])
            changed[some, :, layer] = leans.cpu().numpy().reshape(len(some), heads, kinds).swapaxes(1, 2)
    return changed


def read_word(
    model: Any, sequences: Sequence[Sequence[int]]
) -> tuple[LastRun, Float[Tensor, "layers prompts heads d_head"], Float[Tensor, "layers prompts d_model"]]:
    """Sequences of one length, at least two tokens each: the run of the word's last token, every head's z, the gain.

    gain: the factor of each coordinate of the attention's output on its way into the stream. 1 in most families; where
    a norm stands between, the norm's factor as it was (frozen).
    """
    places = list(attention_outputs(model))
    z: list[Tensor] = []
    gains: list[Tensor] = []

    def project(_projection: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        z.append(inputs[0][:, -1])
        gains.append(torch.full_like(output[:, -1], places[len(gains)].scale))

    def factor(_norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        gains[-1] = gains[-1] * torch.where(inputs[0] == 0, 0, output / inputs[0])[:, -1]

    def hooks() -> list[Any]:
        both = [(module, hook) for each in places for module, hook in ((each.projection, project), (each.norm, factor))]
        return [module.register_forward_hook(hook) for module, hook in both if module is not None]

    run = read_last(model, sequences, 1, hooks)
    return run, torch.stack(z).unflatten(-1, (len(places[0].W_O), -1)), torch.stack(gains)


def run_changed(
    model: Any, run: LastRun, layer: int, heads: Sequence[int], new: Float[Tensor, "prompts repeats d_head"]
) -> Float[Tensor, "prompts repeats d_vocab"]:
    """Logits at the word with `new` in place of one head's z: in the j-th repeat of each prompt, of head heads[j].

    layer: from 0, the block whose head is changed. The blocks in front of it are not run.
    """
    place = list(attention_outputs(model))[layer]
    row, head = torch.arange(new[..., 0].numel()), torch.tensor([*heads] * len(new))

    def change(_projection: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        z = inputs[0].unflatten(-1, (len(place.W_O), -1)).clone()
        z[row, -1, head] = new.flatten(0, 1).to(z)
        return (z.flatten(-2), *inputs[1:])

    with place.projection.register_forward_pre_hook(change):
        return resume(model, run, layer)


@torch.no_grad()
def attention_at_word(
    model: Any, sequences: Sequence[Sequence[int]]
) -> Float[np.ndarray, "prompts layers heads tokens"]:
    """The attention of the last token of sequences of one length, by every head of every layer."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        found = model(torch.tensor([list(each) for each in sequences], device=model.device), output_attentions=True)
    finally:
        model.set_attn_implementation(usual)
    return torch.stack([each[:, :, -1].float().cpu() for each in found.attentions], dim=1).numpy()


def attention_shares(
    looks: Float[np.ndarray, "layers heads tokens"], own: Sequence[int], twin: Sequence[int]
) -> dict[str, Float[np.ndarray, "layers heads"]]:
    """Where each head looks from the word of the prompt `own`, whose twin has the other sense.

    attention: at the deciding tokens. attention_word: at the word. attention_not_bos: anywhere but at the first token.
    attention_deciding_rest: at the deciding tokens, of all but the first token.
    """
    decides, rest = deciding(own, twin), looks[..., 1:].sum(axis=-1)
    late = looks[..., 1:][..., decides[1:]].sum(axis=-1)
    return {
        "attention": looks[..., decides].sum(axis=-1),
        "attention_word": looks[..., -1],
        "attention_not_bos": rest,
        "attention_deciding_rest": np.divide(late, rest, out=np.zeros_like(late), where=rest > 0),
    }


def deciding(own: Sequence[int], twin: Sequence[int]) -> Bool[np.ndarray, "tokens"]:
    """Which tokens of a prompt its twin lacks: all but the longest common blocks (difflib's SequenceMatcher)."""
    differs = np.ones(len(own), dtype=bool)
    for block in SequenceMatcher(None, list(own), list(twin), autojunk=False).get_matching_blocks():
        differs[block.a : block.a + block.size] = False
    return differs

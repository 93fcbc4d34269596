"""What one head's output at the word does: written along the sense's direction, and to what the model then expects.

docs/heads.md has the definitions. The first half of a word's prompts are A_1 … A_n, the second B_1 … B_n.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# What a head's z at the word is replaced by; the last two are controls.
KINDS = ("mean", "exchange", "within_sense", "random")
CONTROLS = ("within_sense", "random")


def direct_writing(
    z: Float[np.ndarray, "prompts layers heads d_head"],
    gain: Float[np.ndarray, "prompts layers d_model"],
    W_O: Float[np.ndarray, "layers heads d_head d_model"],
    direction: Float[np.ndarray, "pairs layers d_model"],
    distance: Float[np.ndarray, "layers"],
) -> Float[np.ndarray, "pairs layers heads"]:
    """⟨W_O^h (z_h(A_i) − z_h(B_i)), ê_l⟩ / ‖mean_A(l) − mean_B(l)‖ for each pair, with ê_l from the other pairs.

    direction: ê_l after block l, and distance the norm of the contrast of all pairs there. gain: WordRun.gain. Summed
    over the heads of a layer it is the share of the senses' distance that this attention layer writes.
    """
    twice = np.concatenate([direction, direction])
    seen = np.einsum("lhed,pld->plhe", W_O, gain * twice, optimize=True)  # how each coordinate of z is read along ê
    along = np.einsum("plhe,plhe->plh", z, seen)
    a, b = np.split(along, 2)
    return np.divide(a - b, distance[:, None], out=np.zeros_like(a), where=distance[:, None] > 0)


def substitutes(
    z: Float[np.ndarray, "prompts layers heads d_head"], rng: np.random.Generator
) -> Float[np.ndarray, "prompts kinds layers heads d_head"]:
    """What each kind puts in the place of every head's z.

    mean: the mean of the other pairs' prompts of both senses. exchange: z of the twin. within_sense: z of the next
    pair's prompt of the same sense. random: as far from z as the twin's, in a random direction, drawn for each pair
    and head, for A one way and for B the other.
    """
    a, b = np.split(z, 2)
    n = len(a)
    twin = np.concatenate([b, a])
    others = np.tile((z.sum(axis=0) - a - b) / (2 * (n - 1)), (2, 1, 1, 1))
    neighbour = np.concatenate([np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)])
    u = rng.standard_normal(a.shape)
    step = np.linalg.norm(a - b, axis=-1, keepdims=True) * u / np.linalg.norm(u, axis=-1, keepdims=True)
    return np.stack([others, twin, neighbour, z + np.concatenate([step, -step])], axis=1)


def causal_share(
    clean: Float[np.ndarray, "prompts"], changed: Float[np.ndarray, "prompts *heads"]
) -> Float[np.ndarray, "pairs *heads"]:
    """½ [(T(A_i) − T'(A_i)) + (T'(B_i) − T(B_i))] / (T̄_A − T̄_B): its mean over pairs is R of docs/meaning.md.

    0 where nothing follows the change, 1 where what follows is the other sense's. Where the senses' means agree: 0.
    """
    a, b = np.split(clean, 2)
    gap = a.mean() - b.mean()
    towards = np.split(changed - clean.reshape(-1, *[1] * (changed.ndim - 1)), 2)
    change = (towards[1] - towards[0]) / 2
    return change / gap if gap else np.zeros_like(change)

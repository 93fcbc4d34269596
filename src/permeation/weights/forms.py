"""Inner products between the heads' W_QK, as n × n kernels; the d × d matrices are never formed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, biases_as_rows, each_layer, gram_form
from permeation.weights.moments import Moments

# Of W_QK; `score_centred` is the circuit form in the score metric with the mean key taken out.
FORMS = ("gram", "circuit", "score", "score_centred")


def gram_kernel(heads: Heads) -> Float[Tensor, "n n"]:
    """⟨M_i, M_j⟩_F for the gram form M = W_Qᵀ W_K, in float64."""
    flat = gram_form(heads).flatten(1)
    return flat @ flat.T


def circuit_kernel(heads: Heads) -> Float[Tensor, "n n"]:
    """⟨W_Qi W_Kiᵀ, W_Qj W_Kjᵀ⟩_F = ⟨W_Qiᵀ W_Qj, W_Kiᵀ W_Kj⟩_F for the circuit form (docs/weights.md, PCA).

    Computed a layer at a time, against itself and the later ones, so that memory stays at n · heads · d_head² numbers;
    returned in float64.
    """
    n_heads, (n, _, d_head) = heads.W_Q.shape[1], heads.queries.shape
    sides = [side.movedim(1, 0).flatten(1) for side in (heads.queries, heads.keys)]  # (d_model, n · d_head)
    kernel = torch.zeros(n, n, dtype=torch.float64, device=heads.W_Q.device)
    for start in range(0, n, n_heads):
        mine, later = slice(start * d_head, (start + n_heads) * d_head), slice(start * d_head, None)
        query, key = ((side[:, mine].T @ side[:, later]).unflatten(1, (-1, d_head)) for side in sides)
        product = (query * key).sum(dim=2, dtype=torch.float64)  # (heads · d_head, later heads)
        kernel[start : start + n_heads, start:] = product.unflatten(0, (-1, d_head)).sum(dim=1)
    return kernel.triu() + kernel.triu(1).T


def whitened(heads: Heads, moments: Moments, mean_key: bool = True) -> Heads:
    """The heads in the coordinates in which their layer's input is white: W ← S^½ W.

    In a family with biases W has the bias as one more row and S is that of x with a 1 appended (Moments.augmented).
    W_Q W_Kᵀ of these is A = S^½ W_Q W_Kᵀ S^½, and ‖A‖²_F = E (q·k)² over queries and keys drawn independently from
    the calibration text: the Frobenius norm of A is what attention scores see. Positions stay out of it: in a rotary
    model it is the score at distance 0.

    Each head is whitened by its own layer's S. The symmetric root is the one nearest to a multiple of the identity
    among all F with F Fᵀ = S, so that heads of different layers keep the residual stream's common coordinates and can
    be compared.

    Without `mean_key` the keys' S is their covariance: ‖A‖²_F = E_q Var_k (q·k). What a query scores with the mean key
    (and with b_K) it scores with every key, and the softmax over keys takes it out; not so in a rotary model, where it
    still depends on the distance, but there too it says nothing of what the key is.
    """
    heads = biases_as_rows(heads)
    bias_rows = heads.W_Q.shape[2] - moments.mean.shape[1]
    root = (moments.augmented_roots if bias_rows else moments.shrunk_roots)[0]
    key_root = root if mean_key else F.pad(moments.centred_roots[0], (0, bias_rows) * 2)

    def side(root: Tensor, W: Tensor) -> Tensor:
        return each_layer(root.to(W.device), W.double()).to(W.dtype)

    return Heads(side(root, heads.W_Q), side(key_root, heads.W_K))


def score_kernel(heads: Heads, moments: Moments, mean_key: bool = True) -> Float[Tensor, "n n"]:
    """⟨A_i, A_j⟩_F for the circuit form in the score metric, A = S^½ W_Q W_Kᵀ S^½ with each head's own layer's S."""
    return circuit_kernel(whitened(heads, moments, mean_key))

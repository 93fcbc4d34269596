"""Inner products between the heads' W_QK, as n × n kernels; the d × d matrices are never formed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from permeation.weights.heads import Heads, biases_as_rows, each_layer, gathered, gram_form
from permeation.weights.moments import Moments

# Of W_QK; `score_centred` is the circuit form in the score metric with the mean key taken out.
FORMS = ("gram", "circuit", "score", "score_centred")
# Where heads look and what they write, each as it is and weighted by what the layer reads.
LOOKED_AND_WRITTEN = ("circuit", "written", "score", "written_score")
BLOCK = 2**24  # numbers of the forms' rows that exist at once


def gram_kernel(heads: Heads) -> Float[Tensor, "n n"]:
    """⟨M_i, M_j⟩_F for the gram form M = W_Qᵀ W_K, in float64."""
    flat = gram_form(heads).flatten(1)
    return flat @ flat.T


def circuit_kernel(heads: Heads) -> Float[Tensor, "n n"]:
    """⟨W_Qi W_Kiᵀ, W_Qj W_Kjᵀ⟩_F for the circuit form, in float64 (docs/weights.md, PCA).

    Some rows of all heads' d × d forms at a time, M_i = W_Qi[rows] W_Kiᵀ and G += Σ M_i · M_j: 2 n² d² operations, and
    memory for n · rows · d numbers. (Pairing heads by ⟨W_Qiᵀ W_Qj, W_Kiᵀ W_Kj⟩ would take 4 n² d_head² d.)
    """
    n_heads, d = heads.W_Q.shape[1:3]
    keys = heads.W_K.double().flatten(0, 1).mT  # (layers kv_heads, d_head, d)
    kernel = torch.zeros(heads.count, heads.count, dtype=torch.float64, device=keys.device)
    for rows in heads.W_Q.split(max(1, BLOCK // (heads.count * d)), dim=2):
        queries = rows.double().reshape(len(keys), n_heads // heads.W_K.shape[1] * rows.shape[2], -1)
        M = (queries @ keys).view(heads.count, -1)
        kernel.addmm_(M, M.T)
    return kernel


def written_kernel(heads: Heads, moments: Moments) -> Float[Tensor, "n n"]:
    """⟨S_i^½ W_OVi, S_j^½ W_OVj⟩_F of writing heads (heads.writing_heads), S of what the head's layer reads.

    ‖S^½ W_OV‖²_F = E ‖W_OVᵀ x‖²: how much a head writes of its input.
    """
    return circuit_kernel(Heads(heads.W_Q, each_layer(moments.shrunk_root.to(heads.W_K.device), heads.W_K.double())))


def whitened(heads: Heads, moments: Moments, mean_key: bool = True) -> Heads:
    """The heads in the coordinates in which their layer's input is white: W ← S^½ W.

    W_Q W_Kᵀ of these is A = S^½ W_Q W_Kᵀ S^½, and ‖A‖²_F = E (q·k)² over queries and keys drawn independently from the
    calibration text. In a rotary model that is the score at distance 0. With biases, W has the bias as one more row
    and S is that of x with a 1 appended. The symmetric root keeps the residual stream's common coordinates, so that
    heads of different layers can be compared.

    Without `mean_key` the keys' S is their covariance: ‖A‖²_F = E_q Var_k (q·k). The softmax takes out what a query
    scores with every key alike, the mean key and b_K (docs/weights.md, Score metric).
    """
    heads = biases_as_rows(heads)
    bias_rows = heads.W_Q.shape[2] - moments.mean.shape[1]
    root = moments.augmented_root if bias_rows else moments.shrunk_root
    key_root = root if mean_key else F.pad(moments.centred_root, (0, bias_rows) * 2)

    def white(layer: Heads, *roots: Tensor) -> list[Tensor]:
        sides = zip(roots, (layer.W_Q, layer.W_K), strict=True)
        return [each_layer(root.to(W.device), W).to(heads.W_Q.dtype) for root, W in sides]

    return Heads(*gathered(map(white, heads.layers(), root.split(1), key_root.split(1)), len(heads.W_Q)))


def score_kernel(heads: Heads, moments: Moments, mean_key: bool = True) -> Float[Tensor, "n n"]:
    """⟨A_i, A_j⟩_F for the circuit form in the score metric, A = S^½ W_Q W_Kᵀ S^½ with each head's own layer's S."""
    return circuit_kernel(whitened(heads, moments, mean_key))

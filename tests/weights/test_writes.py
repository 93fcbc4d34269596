"""What heads write: its kernel by definition, and sharing that was planted."""

import pytest
import torch

from permeation.models.families import attention_outputs, attention_views
from permeation.models.fold import fold_norms
from permeation.weights.moments import collect
from permeation.weights.pca import fit_pca
from permeation.weights.writes import between_clusters, sharing, writing_heads, written_kernel
from tests.support import tiny

WINDOWS = torch.randint(2, 90, (20, 16), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_kernel_is_that_of_what_is_written(family: str) -> None:
    model = tiny.model(family)
    fold_norms(model)
    moments = collect(model, [WINDOWS])
    OV = []
    for S, read, write in zip(moments.shrunk_root, attention_views(model), attention_outputs(model), strict=True):
        W_V = read.W_V.repeat_interleave(len(write.W_O) // len(read.W_V), dim=0).double()
        OV.append(S @ W_V @ write.W_O.double())
    flat = torch.cat(OV).flatten(1)
    torch.testing.assert_close(written_kernel(writing_heads(model), moments), flat @ flat.T)


def test_random_heads_share_less_than_planted_ones() -> None:
    model = tiny.model("llama")
    fold_norms(model)
    for layer in attention_outputs(model):  # every head writes through one W_O
        layer.W_O.copy_(next(attention_outputs(model)).W_O[:1].clone().expand_as(layer.W_O))
    for layer in attention_views(model):
        layer.W_V.copy_(next(attention_views(model)).W_V[:1].clone() + 0.01 * layer.W_V)
    rows = {
        (row["matrix"], row["heads"]): row
        for row in sharing(model, collect(model, [WINDOWS]), 3, seed=0)
        if row["form"] == "circuit" and row["norms"] == "as they are"
    }
    assert len(rows) == 4
    assert rows["W_OV", "own"]["components"]["90"] < rows["W_OV", "random"]["components"]["90"]
    assert rows["W_QK", "own"]["components"]["90"] >= rows["W_QK", "random"]["components"]["90"] - 1


def test_all_variance_lies_between_as_many_clusters_as_heads() -> None:
    G = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pca = fit_pca(G @ G.T, center=True)
    assert between_clusters(pca, 6, 0) == pytest.approx(1)
    assert 0 < between_clusters(pca, 2, 0) < between_clusters(pca, 4, 0) < 1

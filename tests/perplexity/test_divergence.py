"""KL and the likeliest token beside the whole logits."""

import numpy as np
import pytest
import torch

from permeation.models.families import Readout
from permeation.perplexity.divergence import Divergence, Reference, largest, references, token_divergence
from permeation.perplexity.nll import VOCABULARY_TILE, window_nll
from permeation.weights.heads import read_heads
from permeation.weights.inject import injected
from tests.support import tiny

WINDOWS = torch.randint(2, 90, (5, 16), generator=torch.Generator().manual_seed(0))


def test_tiles_give_the_kl_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VOCABULARY_TILE, "cpu", 7)
    generator = torch.Generator().manual_seed(0)
    hidden, changed = torch.randn(2, 11, 5, generator=generator)
    W, b = 3 * torch.randn(30, 5, generator=generator), torch.randn(30, generator=generator)
    head = Readout(W, b, torch.nn.Identity())
    p, q = ((x.double() @ W.double().T + b.double()).log_softmax(1) for x in (hidden, changed))
    log_Z, likeliest = largest(hidden, head)
    torch.testing.assert_close(log_Z, (hidden.double() @ W.double().T + b.double()).logsumexp(1), atol=1e-5, rtol=1e-5)
    assert likeliest.tolist() == p.argmax(1).tolist()
    targets = torch.arange(11)
    kl, agree, nll = token_divergence(Reference(hidden, log_Z, likeliest), changed, head, targets)
    np.testing.assert_allclose(kl, (p.exp() * (p - q)).sum(1), atol=1e-5)
    np.testing.assert_allclose(nll, -q[targets, targets], atol=1e-5)
    assert agree.tolist() == (p.argmax(1) == q.argmax(1)).tolist()
    assert 0 < agree.sum() < 11


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_a_changed_model_is_compared_on_the_first_windows(family: str) -> None:
    network = tiny.model(family)
    before = network(WINDOWS).logits[:3, :-1].double().log_softmax(-1)
    untouched = references(network, WINDOWS[:3])
    same, other = Divergence(untouched, network), Divergence(untouched, network)
    plain = list(window_nll(network, WINDOWS, 2))
    np.testing.assert_allclose(np.concatenate(list(window_nll(network, WINDOWS, 2, same))), np.concatenate(plain))
    assert same.agreeing == [15, 15, 15]
    np.testing.assert_allclose(same.kl, 0, atol=1e-5)
    with injected(network, W_Q=4 * read_heads(network).W_Q):
        after = network(WINDOWS).logits[:3, :-1].double().log_softmax(-1)
        list(window_nll(network, WINDOWS, 2, other))
    np.testing.assert_allclose(other.kl, (before.exp() * (before - after)).sum((1, 2)), rtol=1e-4)
    assert other.agreeing == (before.argmax(-1) == after.argmax(-1)).sum(1).tolist()

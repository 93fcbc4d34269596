"""params.yaml as one frozen dataclass: every room's settings, put together.

params.yaml holds every key (there are no defaults here), so that what a run used can be read in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from permeation.frame.checks import Settings, boolean, build, checked, choice, integer, section, text
from permeation.frame.device import DEVICES
from permeation.frame.tables import read_yaml
from permeation.meaning.settings import (
    Activations,
    Bootstrap,
    Controls,
    Decode,
    G,
    Intervene,
    LogitLens,
    Nulls,
    Response,
    Sigma,
)
from permeation.perplexity.settings import Perplexity
from permeation.rivals.settings import Rivals
from permeation.weights.settings import Cluster, Locate, Moments, Pca, Reconstruct, Wqk


@dataclass(frozen=True)
class Config(Settings):
    """The whole of params.yaml."""

    model: str = checked(text)
    corpus: str = checked(text)
    words: str = checked(text)
    device: str = checked(choice(*DEVICES))
    seed: int = checked(integer(0, 2**32 - 1))  # numpy's legacy generator, which scikit-learn uses, takes 32 bits
    quick: bool = checked(boolean)
    activations: Activations = checked(section(Activations))
    sigma: Sigma = checked(section(Sigma))
    response: Response = checked(section(Response))
    g: G = checked(section(G))
    bootstrap: Bootstrap = checked(section(Bootstrap))
    nulls: Nulls = checked(section(Nulls))
    controls: Controls = checked(section(Controls))
    decode: Decode = checked(section(Decode))
    logit_lens: LogitLens = checked(section(LogitLens))
    intervene: Intervene = checked(section(Intervene))
    wqk: Wqk = checked(section(Wqk))
    moments: Moments = checked(section(Moments))
    pca: Pca = checked(section(Pca))
    perplexity: Perplexity = checked(section(Perplexity))
    reconstruct: Reconstruct = checked(section(Reconstruct))
    cluster: Cluster = checked(section(Cluster))
    rivals: Rivals = checked(section(Rivals))
    locate: Locate = checked(section(Locate))


def load(path: Path, **overrides: Any) -> Config:
    """Read and check a params.yaml; `overrides` replace top-level values before the check.

    Raises PermeationError for a file that cannot be read, an unknown or missing key, or a value outside what
    its key accepts.
    """
    return build(Config, {**read_yaml(path), **overrides})

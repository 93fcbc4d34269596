"""params.yaml as one frozen dataclass: every room's settings, put together.

params.yaml holds every key (there are no defaults here), so that what a run used can be read in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from permeation.frame.checks import Settings, boolean, build, checked, choice, integer, section, text
from permeation.frame.device import DEVICES
from permeation.frame.engine import EngineSettings
from permeation.frame.tables import read_yaml
from permeation.heads.settings import Compressed, Heads
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

    model: str = checked(
        text,
        "The model: smollm2-135m, a name on the Hugging Face hub (gpt2, org/name, org/name@revision), a "
        "folder, or a .gguf file.",
    )
    corpus: str = checked(
        text,
        "The text that perplexity is measured on: wiki-sample, wikitext-2, or a .txt file of your own.",
    )
    words: str = checked(
        text,
        "The ambiguous words and their prompts; copy data/words.yaml and edit it for words of your own.",
    )
    device: str = checked(
        choice(*DEVICES),
        "Where to compute: auto (CUDA before MPS before the CPU), cpu, cuda or mps. Another one changes results by "
        "rounding alone, and runs nothing again.",
    )
    seed: int = checked(
        integer(0, 2**32 - 1),  # numpy's legacy generator, which scikit-learn uses, takes 32 bits
        "Start of every random draw: bootstrap, null models, k-means. Another one shows what chance does to a result.",
    )
    quick: bool = checked(
        boolean,
        "Whether what is shown of the run says that it was a quick one. `make quick` sets it, with little text and "
        "short lists.",
    )
    definitions: Literal["own", "published"] = checked(
        choice("own", "published"),
        "own: the definitions of docs/meaning.md. published: those of the experiments on GPT-2 where they differ "
        "(docs/meaning.md, Published definitions); response.threshold, cluster.share and cluster.components are then "
        "the published ones, whatever is set below.",
    )
    engine: EngineSettings = checked(section(EngineSettings))
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
    heads: Heads = checked(section(Heads))
    compressed: Compressed = checked(section(Compressed))


def load(path: Path, **overrides: Any) -> Config:
    """Read and check a params.yaml; `overrides` replace top-level values before the check.

    Raises PermeationError for a file that cannot be read, an unknown or missing key, or a value outside what
    its key accepts.
    """
    return checked_config({**read_yaml(path), **overrides})


def checked_config(content: Any) -> Config:
    """What a params.yaml holds, checked as `load` does; with `definitions: published` what that sets."""
    config = build(Config, content)
    return published(config) if config.definitions == "published" else config


def published(config: Config) -> Config:
    """The settings of the experiments on GPT-2 (docs/meaning.md, Published definitions) in place of the configured."""
    return replace(
        config,
        response=replace(config.response, threshold=0.05),
        cluster=replace(config.cluster, share="medoid", components=20),
    )

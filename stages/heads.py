"""Where both axes meet: which heads bring the sense of a word, and what compressed models keep of it."""

from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch

from permeation.frame.errors import PermeationError
from permeation.frame.progress import each
from permeation.frame.tables import read_json
from permeation.heads.compressed import kept_rows, kept_summary, measure_sense, near
from permeation.heads.found import FoundHeads
from permeation.heads.roles import measure_roles
from permeation.meaning.activations import Activations
from permeation.meaning.residuals import tokenize
from permeation.meaning.sigma import layer_index
from permeation.models.families import spread_layers
from permeation.models.load import load_folded, load_model
from permeation.models.tokenizer import load_tokenizer
from permeation.rivals.base import Problem
from permeation.rivals.registry import METHODS
from permeation.stage import Stage
from permeation.weights.inject import injected
from permeation.weights.pca import KernelPca


def main(stage: Stage) -> None:
    """Write data/heads/: summary.json, plots/head_roles.json (a row a series and head), plots/compressed.json."""
    activations = Activations.read(stage.input("extract_activations"))
    if activations.labelled:
        raise PermeationError("words is a table of sentences; accepted: a words file, whose prompts end with the word")
    texts, prepend_bos = [prompt.text for prompt in activations.prompts], stage.config.activations.prepend_bos
    sequences = tokenize(load_tokenizer(stage.input("model")), texts, prepend_bos)
    found, beside = find_heads(stage, activations, sequences)
    compressed, rows = keep_sense(stage, activations, sequences, list(found.words))
    summary = {"head_roles": found.summary() | {"beside": beside}, "compressed": compressed}
    stage.write(summary, {"head_roles": found.rows(), "compressed": rows})


def find_heads(stage: Stage, activations: Activations, sequences: list[list[int]]) -> tuple[FoundHeads, Any]:
    """Which heads bring the sense, beside what the weight axis knows of them."""
    config, settings, pca = stage.config, stage.config.heads, stage.input("pca")
    model, least = load_model(stage.input("model"), stage.device), config.intervene.clean_auc
    measured = measure_roles(model, activations, sequences, settings.pairs, least, config.seed)
    found = FoundHeads.of(measured, config.bootstrap.resamples, settings.permutations, config.seed)
    return found, found.beside({form: KernelPca.read(pca, form) for form in ("gram", "score")})


def keep_sense(stage: Stage, activations: Activations, sequences: list[list[int]], words: list[str]) -> tuple[Any, Any]:
    """What compressed models keep of the sense of words that the untouched model's next token tells apart."""
    config, settings, source = stage.config, stage.config.compressed, stage.input("model")
    chosen = near(read_json(stage.input("rivals") / "rows.json"), settings.ratios, settings.methods)
    problem = Problem.read(stage.input("extract_wqk"), stage.input("moments"), config.seed, config.rivals.whole)
    model = load_folded(source, True, stage.device)
    n_layers = activations.at_word.shape[1]
    layers = spread_layers(settings.layers, 1, n_layers - 1)
    direction_layer = layer_index(config.sigma.direction_layer, n_layers)
    sense = partial(measure_sense, model, activations, sequences, words, layers, direction_layer, config.seed)
    untouched, found = sense(), []
    for method, rows in groupby(each(chosen, "sense of compressed models", len(chosen)), itemgetter("method")):
        rival = METHODS[method].fit(problem)  # is large, so that there is one at a time
        for row in rows:
            with injected(model, **rival.apply(row["size"]).to(torch.float32).tensors()):
                found.append((row, sense()))
    kept = kept_rows(untouched, found, config.bootstrap.resamples, config.seed)
    return kept_summary(untouched, kept), kept

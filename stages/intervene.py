"""When the model uses a sense: shift the stream at the word and see what follows, and what two lenses say of it."""

from functools import partial

from permeation.frame.tables import read_json
from permeation.meaning.activations import Activations
from permeation.meaning.lens import Lens, fit_to_text, logit_lens, through
from permeation.meaning.measure_uses import Shifting, measure_uses
from permeation.meaning.residuals import tokenize
from permeation.meaning.rows import curve
from permeation.meaning.sigma import layer_index
from permeation.models.families import spread_layers
from permeation.models.load import load_model
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import check_tokens, load_tokenizer
from permeation.perplexity.nll import nats_per_byte
from permeation.perplexity.windows import Text, bos_of
from permeation.stage import Stage


def main(stage: Stage) -> None:
    """Write data/intervene/: summary.json, plots/intervene.json (R), plots/depths.json (AUC, R and g on one axis)."""
    activations, config = Activations.read(stage.input("extract_activations")), stage.config
    if activations.labelled:  # sentences go on behind the word: what follows it is not the model's to choose
        stage.write({"intervene": {"words": 0}}, {})
        return
    n_layers, source = activations.at_word.shape[1], stage.input("model")
    tokenizer, texts = load_tokenizer(source), [prompt.text for prompt in activations.prompts]
    sequences = tokenize(tokenizer, texts, config.activations.prepend_bos)
    shifting = Shifting(partial(load_model, source, stage.device), sequences, activations, config.seed)
    direction_layer = layer_index(config.sigma.direction_layer, n_layers)
    corpus = fetch_corpus(stage.place(config.corpus)).text
    text = Text.tokenize(tokenizer, corpus, bos=bos_of(tokenizer, config.activations.prepend_bos))
    check_tokens(text.tokens, read_json(source / "model.json")["d_vocab"])
    conditions = [i for i, prompt in enumerate(activations.prompts) if prompt.role == "condition"]
    own = [sequences[i] for i in conditions], [texts[i] for i in conditions]
    layers = spread_layers(config.intervene.layers, 1, n_layers - 1)
    with stage.engine() as engine:
        uses = measure_uses(shifting, layers, direction_layer, config.intervene.clean_auc, engine.map)
    tuned_lens, explained = fit_to_text(shifting.model, text)
    lenses: dict[str, Lens] = {"logit_lens": logit_lens, "tuned_lens": tuned_lens}
    seen = {name: through(uses, shifting, name, lens) for name, lens in lenses.items()}
    summary = uses.summary(config.bootstrap.resamples, config.seed)
    for name, each in seen.items():
        found = each.summary(config.bootstrap.resamples, config.seed)
        summary[name] = {key: found[key] for key in ("onset", "response", "control_max") if key in found}
    summary["prompts_nats_per_byte"] = nats_per_byte(shifting.model, *own)
    rows = [row for each in (uses, *seen.values()) for row in each.rows()]
    rows += [row | {"word": "mean"} for row in curve("tuned_lens", "explained_variance", explained)]
    stage.write({"intervene": summary}, {"intervene": rows, "depths": uses.depth_rows()})

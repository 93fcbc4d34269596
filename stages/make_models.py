"""Train the models that are compared where none are listed: from scratch, and adapters of the model."""

from safetensors.torch import save_file

from permeation.frame.progress import each
from permeation.frame.tables import read_json, write_json
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.stage import Stage
from permeation.universal.train import TEXTS, Recipe, byte_pairs, cut, held_out_losses, split, train


def main(stage: Stage) -> None:
    """Write data/make_models/: <series>/<text>-<seed>/ (`train`), held_out.safetensors, summary.json.

    A model that is there and has this very recipe is kept. Where universal.models is a list, nothing is made.
    """
    base, asked, folder = stage.input("model"), stage.config.universal, stage.root / "data" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    if asked.models != "made":
        write_json(folder / "summary.json", {"models": {}, "held_out": {}})
        return
    texts = {name: fetch_corpus(f"{name}-sample").text for name in sorted({*TEXTS["scratch"], *TEXTS["adapters"]})}
    tokenizer, own = byte_pairs(texts[name] for name in TEXTS["scratch"]), load_tokenizer(base)
    origin = read_json(base / "model.json")
    windows, recipes = {}, []
    for series, seeds, steps in (
        ("scratch", asked.scratch_seeds, asked.scratch_steps),
        ("adapters", asked.adapter_seeds, asked.adapter_steps),
        ("shuffled", asked.shuffled_seeds, asked.adapter_steps),
    ):
        for text in TEXTS[series]:
            windows[f"{series}.{text}"] = tokens = cut(tokenizer if series == "scratch" else own, texts[text])
            name = f"{origin['name']}@{origin['revision']}"
            recipes += [Recipe.of(series, text, seed, steps, tokens, name) for seed in range(seeds)]
    for recipe in each(recipes, "training", len(recipes)):
        if not recipe.finished(folder):
            train(recipe, windows[f"{recipe.series}.{recipe.text}"], tokenizer, base, stage.device.type, folder)
    save_file({name: split(tokens)[1] for name, tokens in windows.items()}, folder / "held_out.safetensors")
    made = {recipe.name: f"{recipe.name}/checkpoint-{recipe.steps}" for recipe in recipes}
    write_json(folder / "summary.json", {"models": made, "held_out": held_out_losses(recipes, folder)})

"""Train the models that are compared where none are listed: from scratch, and adapters of the model."""

from safetensors.torch import save_file

from permeation.frame.progress import each
from permeation.frame.tables import read_json, write_json
from permeation.models.texts import fetch_corpus
from permeation.models.tokenizer import load_tokenizer
from permeation.stage import Stage, run
from permeation.universal.train import TEXTS, Recipe, byte_pairs, cut, held_out, summarise, train


def main(stage: Stage) -> None:
    """Write data/make_models/: <series>/<text>-<seed>/ (`train`), held_out.safetensors, summary.json.

    A model that is there and has this very recipe is kept. Where universal.models is a list, nothing is made.
    """
    base, settings, folder = stage.input("model"), stage.config.universal, stage.root / "data" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    if settings.models != "made":
        write_json(folder / "summary.json", {})
        return
    texts = {name: fetch_corpus(f"{name}-sample").text for name in sorted({*TEXTS["scratch"], *TEXTS["adapters"]})}
    tokenizer, own = byte_pairs(texts[name] for name in TEXTS["scratch"]), load_tokenizer(base)
    windows = {
        (series, text): cut(tokenizer if series == "scratch" else own, texts[text])
        for series, names in TEXTS.items()
        for text in names
    }
    origin = read_json(base / "model.json")
    sizes = {
        "scratch": (settings.scratch_seeds, settings.scratch_steps),
        "adapters": (settings.adapter_seeds, settings.adapter_steps),
        "shuffled": (settings.shuffled_seeds, settings.adapter_steps),
    }
    recipes = [
        Recipe.of(series, text, seed, steps, windows[series, text], f"{origin['name']}@{origin['revision']}")
        for series, (seeds, steps) in sizes.items()
        for seed in range(seeds)
        for text in TEXTS[series]
    ]
    for recipe in each(recipes, "training", len(recipes)):
        if not recipe.finished(folder):
            train(recipe, windows[recipe.series, recipe.text], tokenizer, base, stage.device.type, folder)
    kept = {f"{series}.{text}": own[held_out(own)] for (series, text), own in windows.items()}
    save_file(kept, folder / "held_out.safetensors")
    write_json(folder / "summary.json", {"names": [recipe.name for recipe in recipes], **summarise(recipes, folder)})


if __name__ == "__main__":
    run(main)

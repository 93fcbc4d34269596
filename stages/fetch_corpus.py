"""Fetch the text named in params.yaml and write it as UTF-8 with a corpus.json next to it."""

from dataclasses import asdict

from permeation.files import sha256, write_json
from permeation.sources import fetch_corpus
from permeation.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/corpus/."""
    with stage.output("corpus") as folder:
        text, origin = fetch_corpus(stage.config.corpus)
        path = folder / "corpus.txt"
        path.write_text(text, encoding="utf-8")
        write_json(folder / "corpus.json", {**asdict(origin), "sha256": sha256([path]), "characters": len(text)})


if __name__ == "__main__":
    run(main)

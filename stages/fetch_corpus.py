"""Fetch the text named in params.yaml and write it as UTF-8 with a corpus.json next to it."""

from dataclasses import asdict

from permeation.frame.sealed import sha256
from permeation.frame.tables import write_json
from permeation.models.texts import fetch_corpus
from stages import Stage, run


def main(stage: Stage) -> None:
    """Write data/corpus/: corpus.txt; articles.json, where in it each article starts, in characters; corpus.json."""
    with stage.output("corpus") as folder:
        corpus = fetch_corpus(stage.place(stage.config.corpus))
        path = folder / "corpus.txt"
        path.write_text(corpus.text, encoding="utf-8")
        write_json(folder / "articles.json", corpus.articles)
        facts = {"sha256": sha256([path]), "characters": len(corpus.text), "articles": len(corpus.articles)}
        write_json(folder / "corpus.json", asdict(corpus.origin) | facts)


if __name__ == "__main__":
    run(main)

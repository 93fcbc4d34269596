"""Make a table of labelled sentences, for `make meaning WORDS=table.tsv`, from what others published.

    python tools/sense_table.py coarsewsd FOLDER > table.tsv   CoarseWSD-20: a folder for each word
    python tools/sense_table.py pairs FILE > table.tsv         RAW-C, or any CSV with word, sentence1, sentence2, same
    python tools/sense_table.py pairs NAME SUBSET > table.tsv  WiC (super_glue wic), or any such dataset of the hub

Pairs say only whether two sentences use the word in one sense; the senses are the groups that `same` joins.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
from datasets import load_dataset

Row = tuple[str, str, str, int | str]  # word, sense, sentence, the character at which the word starts


def coarse_wsd(folder: Path) -> Iterator[Row]:
    """A word: train.data.txt has its index and the tokens of a sentence, train.gold.txt its sense, a line each."""
    for word in sorted(path for path in folder.iterdir() if path.is_dir()):
        data, gold = ((word / f"train.{what}.txt").open(encoding="utf-8") for what in ("data", "gold"))
        for line, sense in zip(data, gold, strict=True):
            index, sentence = line.rstrip("\n").split("\t")
            before = "".join(f"{token} " for token in sentence.split(" ")[: int(index)])
            yield word.name, sense.strip(), sentence, len(before)


def from_pairs(*source: str) -> Iterator[Row]:
    """Each sentence of the pairs once, its sense the number of its group."""
    read = load_dataset("csv", data_files=source[0]) if Path(source[0]).is_file() else load_dataset(*source)
    by_word: dict[str, nx.Graph] = {}
    starts: dict[str, int | str] = {}
    for pair in read["train"]:
        graph, both = by_word.setdefault(pair["word"], nx.Graph()), (pair["sentence1"], pair["sentence2"])
        graph.add_nodes_from(both)
        starts |= zip(both, (pair.get("start1", ""), pair.get("start2", "")), strict=True)
        if pair.get("same", pair.get("label")):
            graph.add_edge(*both)
    for word, graph in by_word.items():
        for i, sentences in enumerate(nx.connected_components(graph)):
            yield from ((word, str(i), sentence, starts[sentence]) for sentence in sorted(sentences))


if __name__ == "__main__":
    kind, *source = sys.argv[1:]
    rows = coarse_wsd(Path(source[0])) if kind == "coarsewsd" else from_pairs(*source)
    sys.stdout.writelines("\t".join(map(str, row)) + "\n" for row in [("word", "sense", "sentence", "start"), *rows])

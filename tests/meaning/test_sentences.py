"""Tables of labelled sentences: what is read and left out; no sentence is in the direction that it is tested on."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from permeation.frame.errors import PermeationError
from permeation.meaning.activations import PLACES, Activations, write_activations
from permeation.meaning.controls import run_controls
from permeation.meaning.decode import decode_words
from permeation.meaning.factors import FOLDS, word_residuals
from permeation.meaning.readouts import best_depth, sense_fans, tail
from permeation.meaning.residuals import sentence_places, tokenize_prompts
from permeation.meaning.sentences import LEFT_OUT, read_prompts, read_sentences
from permeation.meaning.shape import fit_shape
from permeation.meaning.sigma import contrast, order_parameter
from permeation.meaning.words import Prompt
from tests.conftest import PROJECT
from tests.meaning.planted import LAYERS, WIDTH
from tests.support import tiny
from tests.support.tiny import WORDS_FILE

GOOD = [
    ("bank", sense, f"On day {i} they saw the {sense} bank again.") for sense in ("river", "money") for i in range(7)
]


def write(path: Path, rows: Sequence[Sequence[Any]], header: str = "word,sense,sentence", mark: str = "") -> Path:
    lines = [header, *(",".join(map(str, row)) for row in rows)]
    path.write_text(mark + "\n".join(lines) + "\n")
    return path


def omitted(path: Path) -> dict[str, int]:
    return {reason: count for reason, count in read_sentences(path)[1].items() if count}


def test_a_table_gives_two_senses_by_name_and_where_the_word_starts(tmp_path: Path) -> None:
    (word,), left_out = read_prompts(write(tmp_path / "t.csv", GOOD))
    assert word.senses == {"A": "money", "B": "river"}
    assert left_out == dict.fromkeys(LEFT_OUT, 0)
    assert [(p.label, p.rank) for p in word.prompts] == [(sense, i) for sense in "AB" for i in range(7)]
    assert all(p.text[p.start :].startswith("bank") for p in word.prompts)
    assert read_prompts(WORDS_FILE)[1] == {}


def test_csv_tsv_json_lines_and_a_byte_order_mark_are_one_table(tmp_path: Path) -> None:
    keys = ("word", "sense", "sentence")
    tabs, lines = tmp_path / "t.tsv", tmp_path / "t.jsonl"
    tabs.write_text("\n".join("\t".join(row) for row in [keys, *GOOD]))
    lines.write_text("\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in GOOD))
    marked = write(tmp_path / "m.csv", GOOD, mark="\ufeff")
    expected = read_sentences(write(tmp_path / "t.csv", GOOD))
    assert all(read_sentences(path) == expected for path in (tabs, lines, marked))
    tabs.write_text(tabs.read_text().replace("again", "ag\u2028a\u0085in").replace("\n", "\r\n"))
    ((word,), left_out) = read_sentences(tabs)
    assert (len(word.prompts), sum(left_out.values())) == (len(GOOD), 0)  # lines end at \n and \r\n alone


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("bank", "river"), "broken"),
        (("bank", "", "On day 9 they saw the bank."), "broken"),
        (("bank", "river", "On day 9 they saw the bankers."), "without_word"),
        (("bank", "river", "They saw the bank."), "few_words_in_front"),
        (GOOD[0], "repeated"),
        (("bank", "blood", "On day 9 they saw the bank."), "other_senses"),
        (("bass", "fish", "On day 9 they saw the bass."), "rare_word"),
    ],
)
def test_what_does_not_serve_is_left_out_and_counted(tmp_path: Path, row: Any, reason: str) -> None:
    assert omitted(write(tmp_path / "t.csv", [*GOOD, row])) == {reason: 1}


def test_a_broken_line_of_json_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [json.dumps({"word": word, "sense": sense, "sentence": text}) for word, sense, text in GOOD]
    path.write_text("\n".join([*rows, '{"word": "ba', "7"]))
    assert omitted(path) == {"broken": 2}
    path.write_text(f"[{rows[0]}]")
    with pytest.raises(PermeationError, match="accepted are JSON lines, each an object with word, sense, sentence"):
        read_prompts(path.rename(tmp_path / "t.json"))


def test_a_start_that_is_given_takes_an_inflected_word_and_same_pos_is_read(tmp_path: Path) -> None:
    text = "Along day nine they saw banks again."
    rows = [(*row, row[2].index("bank"), 1) for row in GOOD] + [("bank", "river", text, text.index("banks"), "True")]
    rows.append(("bank", "river", "On day 8 they saw it.", 99, ""))
    (word,), left_out = read_sentences(write(tmp_path / "t.csv", rows, "word,sense,sentence,start,same_pos"))
    assert {prompt.same_pos for prompt in word.prompts} == {True}
    assert text in {prompt.text for prompt in word.prompts}
    assert left_out["broken"] == 1


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (GOOD, "word,meaning,sentence", "no column sense; found: word, meaning, sentence"),
        (GOOD[:7], "word,sense,sentence", "each word has one sense alone; accepted: a word with 6 sentences of each"),
        (GOOD[:8], "word,sense,sentence", "left out: 8 rare word; accepted: a word with 6 sentences of each of two"),
        ((), "word,sense,sentence", "left out: nothing"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, rows: Any, header: str, message: str) -> None:
    with pytest.raises(PermeationError, match=message):
        read_sentences(write(tmp_path / "t.csv", rows, header))
    with pytest.raises(PermeationError, match="cannot be read: No such file"):
        read_prompts(tmp_path / "none.csv")


def made(*arguments: Any) -> bytes:
    """What tools/sense_table.py prints."""
    tool = [sys.executable, PROJECT / "tools" / "sense_table.py"]
    return subprocess.run([*tool, *arguments], check=True, capture_output=True).stdout


def test_published_formats_become_a_table(tmp_path: Path) -> None:
    """CoarseWSD-20 as it is published, with CRLF, and letters beyond ASCII in front of the word; and pairs of a CSV."""
    sentences = [f"Am Tag {i} sah man das {sense} Café crane ." for sense in ("Vögel", "Stahl") for i in range(6)]
    folder, table = tmp_path / "coarse" / "crane", tmp_path / "t.tsv"
    folder.mkdir(parents=True)
    (folder / "train.data.txt").write_bytes("".join(f"8\t{each}\n" for each in sentences).encode())
    (folder / "train.gold.txt").write_bytes(b"0\r\n" * 6 + b"1\r\n" * 6)
    table.write_bytes(made("coarsewsd", folder.parent))
    ((word,), left_out) = read_sentences(table)
    assert (word.senses, sum(left_out.values())) == ({"A": "0", "B": "1"}, 0)
    assert all(prompt.text[prompt.start :] == "crane ." for prompt in word.prompts)

    lists = sentences[:6], sentences[6:]
    pairs = [("crane", *both, "True") for own in lists for both in pairwise(own)]
    pairs += [("crane", *both, "False") for both in zip(*lists, strict=True)]
    table.write_bytes(made("pairs", write(tmp_path / "p.csv", pairs, "word,sentence1,sentence2,same")))
    ((word,), _) = read_sentences(table)
    senses = [{prompt.text for prompt in word.prompts if prompt.label == label} for label in "AB"]
    assert senses == [set(own) for own in lists]


@pytest.mark.parametrize("prepend_bos", [True, False])
def test_a_sentence_is_read_at_four_places(prepend_bos: bool) -> None:
    tokenizer = tiny.byte_tokenizer()
    texts = "On that day the Überbanks were closed.", "They all met at the ice-bank"
    prompts = [Prompt("w", texts[0], "direction", "A", 0, 16), Prompt("ice-bank", texts[1], "direction", "B", 0, 20)]
    sequences = tokenize_prompts(tokenizer, prompts, prepend_bos, 64)
    (at, before, later, end), last = sentence_places(tokenizer, prompts, sequences)
    assert tokenizer.decode(sequences[0][before + 1 : at + 1]).strip() == "Überbanks"
    assert tokenizer.decode(sequences[0][prepend_bos : before + 1]) == "On that day the"
    assert (later, end) == (at + 2, len(sequences[0]) - 1)
    assert last[0] == last[2] == last[3] == len(sequences[1]) - 1


def table(sense: float, words: int = 3, per_sense: int = 10, seed: int = 0) -> Activations:
    """Streams of sentences with a sense that grows with depth at all places but the one before the word."""
    rng = np.random.default_rng(seed)
    prompts = [
        Prompt(f"w{i}", f"{i} {label} {rank}" + "x" * rank, "direction", label, rank, 0, i > 0)
        for i in range(words)
        for label in "AB"
        for rank in range(per_sense)
    ]
    sign = np.array([1 if prompt.label == "A" else -1 for prompt in prompts])
    axes = np.repeat(rng.normal(size=(words, WIDTH)) / np.sqrt(WIDTH), 2 * per_sense, axis=0)
    added = sense * sign[:, None, None] * np.linspace(0, 1, LAYERS)[:, None] ** 2 * axes[:, None]
    at = [1 + 0.3 * rng.normal(size=(*added.shape,)) + added * (place != "before") for place in PLACES]
    context = rng.normal(size=(len(prompts), 1, WIDTH))
    return Activations(tuple(prompts), *(each.astype(np.float32) for each in at), context=context)


def test_each_sentence_is_measured_along_the_contrast_of_the_other_folds() -> None:
    activations = table(1.0)
    word, stream = word_residuals(activations, LAYERS - 1)["w0"], activations.at_word[:20]
    sigma, fold = word.sigma(), np.tile(np.arange(10) % FOLDS, 2)
    for i in (0, 7, 13):
        others = stream[fold != fold[i], -1]
        expected = order_parameter(stream[i : i + 1], contrast(others[:8], others[8:]))
        np.testing.assert_allclose(sigma[i], expected[0])
    fan = sense_fans(activations, LAYERS - 1)["w0"]
    np.testing.assert_allclose(fan.sigma, [sigma[:10].mean(axis=0), sigma[10:].mean(axis=0)])


def test_a_sentence_does_not_move_its_own_direction_and_a_leak_would_be_seen() -> None:
    """Without a sense σ and AUC say nothing; along directions that the tested sentences made they would."""
    activations = table(0.0, words=30)
    separation = [fan.separation for fan in sense_fans(activations, LAYERS - 1).values()]
    assert abs(np.mean(separation)) < 0.03
    auc = decode_words(activations, LAYERS - 1, "direction", "own", 1, 5, 0).mean
    assert auc.mean() == pytest.approx(0.5, abs=0.05)
    words = word_residuals(activations, LAYERS - 1).values()
    leaked = [word.split(order_parameter(word.measured, word.directions(word.weights))) for word in words]
    assert np.mean([(a - b)[:, -1].mean() for _, a, b in leaked]) > 0.1


def test_exchanged_labels_hold_in_the_direction_and_in_h() -> None:
    """All labels exchanged: the direction turns round and so does h, and nothing is other than before."""
    word = word_residuals(table(1.0), LAYERS - 1)["w0"]
    turned = np.roll(np.arange(20), 10)[None]
    np.testing.assert_allclose(word.exchanged(turned)[0], -word.sigma()[turned[0]])


def test_what_applies_to_sentences_has_its_usual_keys() -> None:
    activations = table(4.0)
    found, tables = run_controls(activations, LAYERS - 1, "final", 1, 10, 99, 20, 0.9, seed=0)
    assert set(found["decode"]) == {"direction_own", "direction_final", "sentences"}
    places = found["decode"]["sentences"]["places"]
    assert places["at_word"] == found["decode"]["direction_own"]
    assert places["before"]["auc"] < 0.7 < 0.9 < places["later"]["auc"]
    assert found["decode"]["sentences"]["baselines"]["length"]["auc"] == pytest.approx(0.5)  # twins are as long
    assert found["decode"]["sentences"]["same_pos"]["one"]["words"] == 2
    assert found["g"]["rank"]["p_f_max_mean"] == pytest.approx(6 / 100)  # the smallest there is, by Holm over six
    assert found["g"]["reliability"]["within"] > 0.9
    assert not {"final", "predicted"} & set(found["g"])
    assert {row["series"] for row in tables["controls"] if row["panel"] == "auc"} == set(PLACES)
    shape, _ = fit_shape(word_residuals(activations, LAYERS - 1), "rank", 1, 20, 0)
    assert shape["f_max_low"].keys() | shape["f_max_high"].keys() <= {"w0", "w1", "w2"}
    assert shape["word_correlation_mean"] > 0.95
    alone, _ = run_controls(table(4.0, words=1), LAYERS - 1, "rank", 1, 5, 9, 5, 0.9, seed=0)
    assert "tail" not in alone["decode"]["sentences"]


def test_best_depths_differ_where_words_are_best_at_other_layers() -> None:
    activations = table(0.0, words=6, seed=1)
    stream = activations.at_word.copy()
    for word in range(6):
        stream[20 * word : 20 * word + 10, 1 + 2 * (word % 2)] += 1.0  # best at layer 1 or 3
    decoded = decode_words(replace(activations, at_word=stream), LAYERS - 1, "direction", "own", 1, 20, 0)
    found = best_depth(decoded, 20, 0)
    assert found["quartiles"] == [0.25, 0.5, 0.75]
    assert found["within"] == found["last"] == 0 < found["between"]


@pytest.mark.parametrize(("axis", "behind"), [(0, False), (WIDTH - 1, True)])
def test_a_contrast_behind_the_components_of_the_residuals_is_told_from_their_spectrum(axis: int, behind: bool) -> None:
    activations = table(0.0, words=8)
    spread = np.geomspace(3, 0.03, WIDTH)
    stream = activations.at_word * spread
    sign = np.array([1 if prompt.label == "A" else -1 for prompt in activations.prompts])
    stream[:, -1, axis] += 3 * sign * spread[0]
    found = tail(replace(activations, at_word=stream), LAYERS - 1, 0)
    assert (found["share"] > 0.9) == (found["share"] > found["null_high"]) == behind
    assert found["null"] == pytest.approx(0.1, abs=0.06)


def test_streams_are_written_batch_by_batch(tmp_path: Path) -> None:
    activations = table(1.0)
    streams = np.stack([activations.at(place) for place in PLACES], axis=1)
    batches = (([i], streams[i : i + 1]) for i in reversed(range(len(streams))))
    write_activations(tmp_path, activations.prompts, PLACES, (LAYERS, WIDTH), batches, activations.context)
    found = Activations.read(tmp_path)
    assert found.prompts == activations.prompts
    assert found.labelled
    for place in (*PLACES, "context"):
        np.testing.assert_array_equal(found.at(place), activations.at(place))

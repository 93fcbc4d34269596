"""The lenses: identities, and maps that are known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from permeation.frame.tables import read_json
from permeation.meaning import lens as lenses
from permeation.meaning.intervene import KINDS
from permeation.meaning.lens import TunedLens, explained, logit_lens, logits, ridge, sums, through
from permeation.meaning.measure_uses import measure_uses
from permeation.meaning.residuals import residuals_at
from permeation.meaning.words import read_words
from permeation.settings import Config
from tests.conftest import PROJECT
from tests.meaning.test_intervene import planted
from tests.support import tiny

WIDTH, TOKENS = 6, 400


def streams(seed: int, noise: float = 0.0, tokens: int = TOKENS) -> np.ndarray:
    """Three layers, of which the last is an affine map of each of the others; one coordinate is long, as in models."""
    rng = np.random.default_rng(seed)
    A, b = np.random.default_rng(9).normal(size=(WIDTH, WIDTH)), np.arange(WIDTH)
    first = rng.normal(size=(tokens, WIDTH)) * [100, 1, 1, 1, 1, 0.1] + 5
    last = first @ A + b
    return np.stack([first, (last - 3) / 2, last + noise * rng.normal(size=last.shape)], axis=1)


def test_layers_that_are_an_affine_map_are_recovered() -> None:
    lens = TunedLens.fit(sums([streams(0)]), sums([streams(1)]), [0.0])
    new = streams(2)
    for layer in range(3):
        np.testing.assert_allclose(lens(new[:, layer], layer), new[:, -1], atol=1e-6)
        assert explained(sums([new]), layer, lens.maps[layer]) == pytest.approx(1, abs=1e-9)


def test_sums_are_those_of_all_tokens_and_the_explained_share_is_one_minus_residual_over_total() -> None:
    found, new = sums([streams(0, 50.0)[:150], streams(0, 50.0)[150:]]), streams(1, 50.0)
    torch.testing.assert_close(found, sums([streams(0, 50.0)]))
    lens = TunedLens.fit(found, found, [0.1])
    missed = np.square(new[:, -1] - lens(new[:, 0], 0)).sum()
    total = np.square(new[:, -1] - new[:, -1].mean(axis=0)).sum()
    assert explained(sums([new]), 0, lens.maps[0]) == pytest.approx(1 - missed / total)
    assert 0.1 < missed / total < 0.9


def test_the_last_layer_explains_all_and_a_large_penalty_leaves_the_mean_step() -> None:
    data = streams(0, 1.0)
    found = sums([data])
    for penalty in lenses.PENALTIES:
        assert explained(found, 2, ridge(found, 2, penalty)) == pytest.approx(1, abs=1e-9)
    lens = TunedLens.fit(found, found, [1e15])
    step = (data[:, 2] - data[:, 0]).mean(axis=0)
    np.testing.assert_allclose(lens(data[:, 0], 0), data[:, 0] + step, atol=1e-6)


def test_the_penalty_is_the_one_that_explains_most_of_what_is_held_out() -> None:
    """A large one where the stream stays as it is but for noise, none where an affine map takes it to the last."""
    rng = np.random.default_rng(0)
    still = [sums([rng.normal(size=(tokens, 3, WIDTH)).cumsum(axis=1)]) for tokens in (9, 4000)]
    moved = [sums([streams(seed)]) for seed in range(2)]
    for (learned, held_out), best in ((still, 1e3), (moved, 0.0)):
        lens = TunedLens.fit(learned, held_out, [0.0, 1.0, 1e3])
        torch.testing.assert_close(lens.maps[0], ridge(learned + held_out, 0, best))


def test_at_the_last_layer_a_lens_says_what_the_model_does(family: str) -> None:
    model, tokens = tiny.model(family), torch.randint(2, 200, (40, 9))
    ((_, residual),) = residuals_at(model, tokens.tolist(), [range(9)] * 40, 40)
    torch.testing.assert_close(logits(model, residual[:, :, -1]), model(tokens).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["logit", "tuned"])
def test_at_the_last_layer_what_a_lens_sees_is_the_response(name: str) -> None:
    data = sums([np.random.default_rng(0).normal(size=(99, tiny.LAYERS + 1, tiny.WIDTH))])
    shifting, lens = planted(), logit_lens if name == "logit" else TunedLens.fit(data, data)
    uses = measure_uses(shifting, range(1, tiny.LAYERS + 1), tiny.LAYERS, 0.9)
    seen = through(uses, shifting, "seen", lens)
    for kind in KINDS:
        np.testing.assert_allclose(seen.response(kind)[:, -1], uses.response(kind)[:, -1], atol=1e-4)
        assert np.abs(seen.response(kind) - uses.response(kind))[:, 0].max() > 1e-3
    assert {(row["panel"], row["word"]) for row in seen.rows()} == {("seen", each) for each in ("one", "two", "mean")}
    assert set(seen.summary(5, 0)["response"]) == set("123")


def test_the_lens_of_the_stage_is_made_of_the_corpus_alone(
    config: Config, run_stage: Callable[[str, Config], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No prompt enters: what is read lies in the text, each half in its own, behind the BOS, without first tokens."""
    rock = yaml.safe_load((PROJECT / "data" / "words.yaml").read_text())["rock"]
    (tmp_path / "rock.yaml").write_text(yaml.safe_dump({"rock": rock}))
    tokens = np.random.default_rng(0).integers(2, len(tiny.tokenizer()), 3000)
    (tmp_path / "text.txt").write_text(text := tiny.tokenizer().decode(tokens))
    model = tiny.checkpoint(tmp_path / "model", "llama")
    settings = replace(config, model=str(model), words=str(tmp_path / "rock.yaml"), corpus=str(tmp_path / "text.txt"))
    run_stage("fetch_model", settings)
    run_stage("extract_activations", settings)
    seen: list[Any] = []

    def read(model: Any, sequences: Any, places: Any, batch: int) -> Any:
        seen.append(np.array(sequences))
        assert {tuple(each) for each in places} == {tuple(range(1, tiny.CONTEXT))}
        return residuals_at(model, sequences, places, batch)

    monkeypatch.setattr(lenses, "residuals_at", read)
    folder = run_stage("intervene", settings)
    found, rows = read_json(folder / "summary.json")["intervene"], read_json(folder / "plots" / "intervene.json")
    learned, held_out, measured = seen
    assert (len(learned), len(held_out), len(measured)) == (18, 5, 23)
    assert all((each[:, 0] == 1).all() for each in seen)
    halves = [np.split(half[: 23 * 63], 23) for half in np.split(tokens, 2)]
    for windows, half in ((np.concatenate([learned, held_out]), halves[0]), (measured, halves[1])):
        assert sorted(windows[:, 1:].tolist()) == sorted(each.tolist() for each in half)
    assert not any(prompt.text in text for word in read_words(tmp_path / "rock.yaml") for prompt in word.prompts)
    assert [row["value"] for row in rows if row["series"] == "explained_variance"][-1] == pytest.approx(1)
    assert set(found["logit_lens"]) == set(found["tuned_lens"]) == {"onset", "response", "control_max"}

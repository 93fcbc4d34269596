"""A small run as the stages leave it under data/: what the reports are tried on without a model."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from permeation.frame.tables import write_json, write_rows
from permeation.report.axes import AXES
from permeation.report.sections import ENDS

Rows = list[dict[str, Any]]

WORDS = ("zinc", "bank", "alto")  # not in alphabetical order, as in a words file
WITH_MEAN = (*WORDS, "mean")
CONDITIONS = {"strong_A": 2, "weak_A": 1, "neutral": 0, "weak_B": -1, "strong_B": -2}
DEPTH = np.linspace(0, 1, 7).tolist()
FORMS = ("gram", "circuit")
REPLACED = {"all layers": 300.0, "all layers but the first": 100.0}
KINDS = ["one_direction", "random"]
MEASURES = ("auc", "separation", "gap", "response")
MODEL = {"name": "small", "source": "folder", "sha256": "0" * 64, "n_layers": 6, "n_heads": 4, "d_model": 32}
# The tables of each axis.
TABLES = {
    "meaning": "sigma g response nulls controls decoding intervene depths",
    "weights": "spectrum perplexity layers bands clusters heads pareto",
    "heads": "head_roles compressed",
    "models": "spectra left_out",
}


def write_stages(root: Path) -> Path:
    """Write root/data/<stage>/ of every stage, all of an axis as that of its last one; gives root."""
    tables, metrics, data = sample_tables(), sample_metrics(), root / "data"
    for stage in ("model", *(stage for axis in AXES.values() for stage in axis.stages)):
        (data / stage).mkdir(parents=True)
        write_json(data / stage / "summary.json", {})
    for axis in AXES.values():
        last = data / axis.stages[-1]
        write_json(last / "summary.json", {name: metrics[name] for name in axis.files})
        for name in TABLES[axis.name].split():
            write_rows(last / "plots" / f"{name}.json", tables[name])
    senses = {"sigma": {"senses": {"bank": {"A": "finance", "B": "river"}}}}
    write_json(data / "extract_activations" / "summary.json", senses)
    baseline = {"perplexity": 20.123456, "tokens": 4088, "windows": 8, "nats_per_byte": 0.7}
    write_json(data / "baseline" / "summary.json", {"perplexity": {"baseline": baseline}})
    write_json(data / "baseline" / "corpus.json", {"name": "text"})
    write_json(data / "model" / "model.json", MODEL | {"n_parameters": 2_000_000})
    return root


def sample_tables() -> dict[str, Rows]:
    """Every table by its name; curves over depth x are x, and g is steeper for each next word."""
    return {
        "g": [
            {"kind": "mean" if word == "mean" else "word", "word": word, "depth": x, "g": x ** (1 + i / 2)}
            for i, word in enumerate(WITH_MEAN)
            for x in DEPTH
        ],
        "sigma": [
            row | {"sigma": CONDITIONS[row["condition"]] * row["depth"] / 4}
            for row in _grid(word=WORDS, condition=CONDITIONS, depth=DEPTH)
        ],
        "decoding": [
            _banded(row, "auc", 0.5 + 0.5 * row["depth"])
            for row in _grid(test=("direction", "gradient"), word=WITH_MEAN, direction=("own", "final"), depth=DEPTH)
        ],
        "nulls": _series({"words": ["g"], "senses_shuffled": ["g"], "within_senses": ["g"]}),
        "controls": _series({"g": ["final", "rank"], "auc": ["at_word", "before"], "excess": ["within_senses"]}),
        "depths": _series({word: ["auc", "response", "g"] for word in WORDS}),
        "intervene": [
            row | {"word": word} for word in WITH_MEAN for row in _series({"next_token": KINDS, "logit_lens": KINDS})
        ],
        "response": [
            row | {"f": row["depth"], "standard_error": 0.05, "r_squared": 0.9}
            for row in _grid(word=WORDS, depth=DEPTH)
        ],
        "spectrum": [
            row | {"cumulative": 1 - (1 - row["components"] / 12) ** (1 + (row["heads"] == "as they are"))}
            for row in _grid(form=FORMS, heads=("as they are", "random frames"), components=range(1, 13))
        ],
        "perplexity": [
            _ratio(row, 1 + REPLACED[row["replaced"]] / row["components"])
            for row in _grid(replaced=REPLACED, components=(1, 4, 16, 64))
        ],
        "clusters": [
            _ratio(row, REPLACED[row["replaced"]] / row["k"]) for row in _grid(replaced=REPLACED, k=(4, 8, 32))
        ],
        "layers": [_ratio(row, 1 + 1 / (1 + row["layer"])) for row in _grid(layer=range(6))],
        "bands": [
            _ratio({"first": first, "last": first + 3, "variance": part, "replaced": replaced}, 1 + harm * part)
            for replaced, harm in REPLACED.items()
            for first, part in ((1, 0.7), (5, 0.2), (9, 0.1))
        ],
        "heads": [
            row | {"component_1": row["head"] - row["layer"]}
            for row in _grid(form=FORMS, layer=range(6), head=range(4))
        ],
        "pareto": [
            _ratio({"method": method, "size": bits, "bits": bits, "frontier": method == "int"}, 1 + harm / bits)
            for method, harm in (("int", 0.01), ("svd", 0.5), ("pca gram", 40.0))
            for bits in (3, 4, 8)
        ],
        "head_roles": [
            row | {"share": (row["head"] - 1.5) / (1 + row["layer"]), "p": 0.01 + row["head"]}
            for row in _grid(series=("exchange", "direct", "random"), layer=range(6), head=range(4))
        ],
        "compressed": [
            _ratio(row, 1.1) | {"size": 8, "kept": 0.9, "kept_low": 0.8, "kept_high": 1.0}
            for row in _grid(method=("int", "svd"), measure=MEASURES)
        ],
        "spectra": [
            row | {"cumulative": row["components"] / 8}
            for row in _grid(
                models=("scratch", "adapters"), population=("the models", "rotated"), components=(1, 2, 4, 8)
            )
        ],
        "left_out": [
            _ratio(row, 1 + 2 / (1 + row["components"]))
            for row in _grid(models=("scratch", "adapters"), curve=("mean", "mean and K"), components=(0, 1, 16))
        ],
    }


def sample_metrics() -> dict[str, Any]:
    """The metrics files, by name, without the baseline's perplexity."""
    shares = {"50": 2, "80": 5, "90": 7, "95": 9, "99": 11}
    ratios = {"1": 300.0, "8": 1.02, "99%": 3.0, "all": 1.0}
    table: dict[str, Any] = {"ratio": ratios, "ratio_low": ratios, "ratio_high": ratios}
    table["first_layer_kept"] = {name: dict.fromkeys(ratios, 1.5) for name in table}
    bands = {f"band_ratio{end}": {"1-6": 40.0, "7-12": 1.2} for end in ENDS}
    chance = {"value": 0.12, "null": 0.0, "null_low": -0.1, "null_high": 0.1, "p": 0.03}
    beside = chance | {"low": 0.02, "high": 0.22, "within_layers": chance}
    kept = {"method": "int8 8", "kept": 0.97, "low": 0.96, "high": 1.01, "ratio": 1.02}
    halves = {"within": 0.99, "between": 0.95, "corrected": 0.96, "identified": 0.75, "chance": 1 / 3, "p": 0.0005}
    group = {"components_for_variance": {"90": chance | {"low": 10, "high": 30}}, "null": {"rotated": 80.0}}
    group |= {
        "ratio": {
            "mean": {"0": chance | {"low": 2.0, "high": 4.0}},
            "mean_and_K": {"16": chance | {"low": 1.1, "high": 1.3}},
        }
    }
    tested = {"null_correlation_mean": 0.2, "p_correlation_mean": 0.002, "decomposition_r2_drift_out": 0.8}
    tested |= {"null_r2_drift_out": 0.5, "p_r2_drift_out": 0.01, "decomposition_r2": 0.7}
    return {
        "sigma": {"n_words": 3, "ordered_words": 2, "order_tau": 0.8, "collapse_variance": 1.2}
        | dict.fromkeys(("few_direction_prompts", "without_gradient", "repeated_prompts"), 0)
        | {"words": {word: {"separation": 0.1 * i} for i, word in enumerate(WORDS)}},
        "g": {"word_correlation_mean": 0.8, "null_correlation_mean": 0.2, "reliability": halves}
        | {"final": {"word_correlation_mean": 0.8} | tested, "rank": {"word_correlation_mean": 0.75} | tested}
        | {"predicted": {"own": 0.99, "others": 0.9, "identified": 1.0}, "before": {"rank_correlation_mean": 0.7}}
        | {"auc_at_word": {"1": 0.9, "3": 0.9}, "auc_before": {"1": 0.5, "3": 0.9}}
        | {"peak_depth": 0.9, "final_drop": 0.1, "alpha": 2.0, "alpha_low": 1.5, "alpha_high": 2.5}
        | {"best_model": "power", "f_max": dict.fromkeys(WORDS, 0.3), "p": {"auc.gradient_own": 0.002}},
        "decode": {"gradient_own": {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "decoded_depth": 0.2}},
        "intervene": {"words": 2, "unmeasurable_words": ["alto"], "response": {"1": 0.1, "3": 1.0}}
        | {name: {"value": 0.5, "low": 0.3, "high": 0.6} for name in ("onset", "plateau", "second_rise")}
        | {"control_max": 0.1, "prompts_nats_per_byte": 1.2},
        "pca": {"n_heads": 24, "components_for_variance": shares, "explained_variance_ratio": {"1": 0.4}}
        | {"circuit": {"components_for_variance": shares}, "null": {"gram": shares}},
        "perplexity": table
        | {"layer_components": 12, "layer_ratio": {"0": 1.4, "1": 1.01}, **bands}
        | {"first_layer_kept": table["first_layer_kept"] | bands},
        "clusters": table,
        "rivals": {"best": "int", "best_bits": 4.1234, "best_bits_low": 4.0, "best_bits_high": 4.3}
        | {f"bits_at_1_05{end}": {"int": 4.1234, "svd": None} for end in ("", "_low", "_high")}
        | {"share_of_model": 0.1},
        "head_roles": {"words": 2, "unmeasurable_words": ["alto"], "pairs": 12, "n_heads": 24, "half": 3}
        | {"heads": {"exchange": 2, "direct": 4, "within_sense": 0, "random": 1}}
        | {"largest": {"head": "2.1", "p": 0.0005, "share": 0.31, "low": 0.2, "high": 0.4}}
        | {"top": {"share": 0.8, "low": 0.7, "high": 0.9}, "top_controls": {"within_sense": 0.01, "random": 0.02}}
        | {"agreement": chance | {"reliability": 0.5, "between_halves": 0.1}}
        | {"beside": {"exchange": {"low_variance_gram": beside, "attention_word": beside}}},
        "compressed": {"models": 4, "untouched": dict.fromkeys(MEASURES, 0.4)}
        | {name: {"least_within_5": kept, "most_beyond_25": None} for name in MEASURES},
        "universal": {"scratch": group, "adapters": group}
        | {f"components_90{end}": {"scratch": 20.0, "adapters": 24.0} for end in ("", "_low", "_high")},
    }


def _grid(**columns: Iterable[Any]) -> Rows:
    """A row for each combination of the columns' values."""
    return [dict(zip(columns, row, strict=True)) for row in product(*columns.values())]


def _series(panels: dict[str, list[str]]) -> Rows:
    return [
        _banded({"panel": panel, "series": series, "depth": x}, "value", x)
        for panel, names in panels.items()
        for series in names
        for x in DEPTH
    ]


def _banded(keys: dict[str, Any], name: str, value: float) -> dict[str, Any]:
    return keys | {name: value, "low": value - 0.05, "high": value + 0.05}


def _ratio(keys: dict[str, Any], ratio: float) -> dict[str, Any]:
    return keys | {"ratio": ratio, "low": 0.9 * ratio, "high": 1.2 * ratio}

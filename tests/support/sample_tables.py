"""Small tables in the formats that the stages write to plots/: what pages and figures are tried on without a run."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from permeation.frame.tables import write_json
from permeation.report.results import Place, Results

Rows = list[dict[str, Any]]

WORDS = ("zinc", "bank", "alto")  # not in alphabetical order, as in a words file
CONDITIONS = ("strong_A", "weak_A", "neutral", "weak_B", "strong_B")
DEPTH = np.linspace(0, 1, 7).tolist()
FORMS = ("gram", "circuit")
NULLS = ("senses_shuffled", "within_senses")
KINDS = ("one_direction", "transplant", "erasure", "within_senses", "random")
REPLACED = ("all layers", "all layers but the first")
PROPERTIES = ("norm_score", "low_variance_score", "low_variance_gram", "cost", "attention")
MEASURES = ("auc", "separation", "gap", "response")
INTERVAL_OF_RATIO = (0.9, 1.2)


def sample_tables(seed: int) -> dict[str, Rows]:
    """Every table by its name; another seed gives other numbers in the same rows."""
    rng = np.random.default_rng(seed)
    steep = 1.0 + 0.5 * seed
    return {
        "g": [*_g(steep)],
        "sigma": [*_sigma(steep)],
        "decoding": [
            _banded({"test": test, "word": word, "direction": direction, "depth": x}, "auc", 0.5 + 0.5 * x**steep, 0.05)
            for test in ("direction", "gradient")
            for word in (*WORDS, "mean")
            for direction in ("own", "final")
            for x in DEPTH
        ],
        "meaning": [
            _banded({"word": word, "depth": x, "part": part}, "value", scale * x**steep, 0.1 * x)
            for word in WORDS
            for part, scale in (("common", 0.1), ("sense", 1.0), (NULLS[0], 0.3), (NULLS[1], 0.1), ("excess", 0.8))
            for x in DEPTH
        ],
        "nulls": [_series(panel, "g", x, x**steep) for panel in ("words", *NULLS) for x in DEPTH],
        "controls": [
            _series(panel, series, x, x**steep)
            for panel, names in (("g", ("final", "rank", "predicted")), ("auc", ("at_word", "before")))
            for series in names
            for x in DEPTH
        ],
        "depths": [
            _series(word, series, x, x**steep) for word in WORDS for series in ("auc", "response", "g") for x in DEPTH
        ],
        "intervene": [
            _series(panel, series, x, x**steep) | {"word": word}
            for panel in ("next_token", "one_later", "sigma")
            for series in KINDS
            for word in (*WORDS, "mean")
            for x in DEPTH
        ],
        "response": [
            {"word": word, "depth": x, "f": x**steep, "standard_error": 0.05, "r_squared": 0.9, "intercept": 0.0}
            for word in WORDS
            for x in DEPTH
        ],
        "fits": [
            {
                "target": target,
                "law": law,
                "depth": x,
                "value": x**steep,
                "fitted": x**power,
                "residual": x**steep - x**power,
            }
            for target in ("g", "f")
            for law, power in (("power", steep), ("linear", 1.0))
            for x in DEPTH
        ],
        "logit_lens": [
            {
                "word": word,
                "condition": condition,
                "layer": layer,
                "token": f" t{layer}",
                "probability": 0.1 * layer / rank,
                "rank": rank,
            }
            for word in WORDS
            for condition in CONDITIONS
            for layer in range(len(DEPTH))
            for rank in (1, 2)
        ],
        "spectrum": [
            {"form": form, "heads": heads, "components": k, "cumulative": 1 - (1 - k / 12) ** power}
            for form in FORMS
            for heads, power in (("as they are", 1 + steep), ("random frames", 1.2))
            for k in range(1, 13)
        ],
        "perplexity": [
            _ratio({"components": k, "replaced": replaced}, harm / k**steep)
            for k in (1, 4, 16, 64)
            for replaced, harm in zip(REPLACED, (300.0, 100.0), strict=True)
        ]
        + [_exact({"components": 270, "replaced": replaced}) for replaced in REPLACED],
        "clusters": [
            _ratio({"k": k, "replaced": replaced}, harm / k * steep)
            for k in (4, 8, 12, 32)
            for replaced, harm in zip(REPLACED, (500.0, 200.0), strict=True)
        ],
        "pareto": [
            _ratio({"method": method, "size": bits, "bits": bits, "frontier": method == "int"}, 1 + harm * steep / bits)
            for method, harm in (("int", 0.01), ("svd", 0.5), ("pca gram", 40.0))
            for bits in (3, 4, 8)
        ]
        + [{"method": "k-means", "size": 3, "bits": None, "ratio": None, "low": None, "high": None, "frontier": False}],
        "layers": [_ratio({"layer": layer}, 1 + steep / (1 + layer)) for layer in range(6)],
        "bands": [
            _ratio({"first": first, "last": first + 3, "variance": part, "replaced": replaced}, 1 + harm * steep * part)
            for first, part in ((1, 0.7), (5, 0.2), (9, 0.1))
            for replaced, harm in zip(REPLACED, (1.0, 0.5), strict=True)
        ],
        "heads": [
            {
                "form": form,
                "layer": layer,
                "head": head,
                "component_1": rng.normal(),
                "component_2": rng.normal(),
                "cluster": (3 * layer + head) % 12,
            }
            for form in FORMS
            for layer in range(6)
            for head in range(4)
        ],
        "head_roles": [
            {"series": series, "layer": layer, "head": head, "share": rng.normal(), "p": rng.uniform() ** 3}
            for series in ("exchange", "mean", "direct", "within_sense", "random")
            for layer in range(6)
            for head in range(4)
        ],
        "heads_beside": [
            {"layer": layer, "head": head, "cluster": (layer + head) % 4}
            | {name: rng.normal() for name in ("exchange", "direct", *PROPERTIES, "cost_low", "cost_high")}
            for layer in range(6)
            for head in range(4)
        ],
        "compressed": [
            _ratio({"method": method, "size": size, "measure": measure}, 1 + steep / size)
            | {"kept": 1 - steep / size / 2, "kept_low": 0.9 - steep / size / 2, "kept_high": 1.05}
            for method in ("int8", "svd")
            for size in (10, 40)
            for measure in MEASURES
        ],
    }


def _g(steep: float) -> Rows:
    curves = [("word", word, 1 + i / 2) for i, word in enumerate(WORDS)] + [("mean", "mean", 1.5)]
    return [
        {"kind": kind, "word": word, "depth": x, "g": x ** (steep * power)}
        for kind, word, power in curves
        for x in DEPTH
    ]


def _sigma(steep: float) -> Rows:
    return [
        {"word": word, "condition": condition, "depth": x, "sigma": lean * x**steep, "centred_sigma": lean * x}
        for word in WORDS
        for condition, lean in zip(CONDITIONS, (0.5, 0.2, 0.0, -0.2, -0.5), strict=True)
        for x in DEPTH
    ]


def _series(panel: str, series: str, x: float, value: float) -> dict[str, Any]:
    return _banded({"panel": panel, "series": series, "depth": x}, "value", value, 0.1 * x)


def _banded(keys: dict[str, Any], name: str, value: float, half: float) -> dict[str, Any]:
    return keys | {name: value, "low": value - half, "high": value + half}


def _ratio(keys: dict[str, Any], ratio: float) -> dict[str, Any]:
    low, high = INTERVAL_OF_RATIO
    return keys | {"ratio": ratio, "low": low * ratio, "high": high * ratio}


def _exact(keys: dict[str, Any]) -> dict[str, Any]:
    return keys | {"ratio": 1.0, "low": 1.0, "high": 1.0}


def sample_metrics() -> dict[str, Any]:
    """The metrics files of a small run, by name."""
    shares = {"50": 2, "80": 5, "90": 7, "95": 9, "99": 11}
    ratios = {"1": 300.0, "8": 1.02, "all": 1.0}
    columns = ("ratio", "ratio_low", "ratio_high")
    table: dict[str, Any] = dict.fromkeys(columns, ratios)
    table["first_layer_kept"] = dict.fromkeys(columns, dict.fromkeys(ratios, 1.5))
    run: dict[str, Any] = {
        "model": {"name": "small", "source": "folder", "revision": None, "sha256": "0" * 64}
        | {"n_layers": 3, "n_heads": 4, "d_model": 32, "d_head": 8, "n_parameters": 2e6},
        "versions": {"python": "3.11"},
    }
    return {
        "meaning_run": run | {"parameters": {"seed": 0, "words": "data/words.yaml", "nulls.draws": 200}},
        "weights_run": run
        | {"corpus": {"name": "text", "sha256": "1" * 64}, "parameters": {"seed": 0, "pca.center": True}},
        "sigma": {
            "n_words": 3,
            "ordered_words": 2,
            "order_tau": 0.8,
            "collapse_variance": 1.2,
            "few_direction_prompts": 0,
            "without_gradient": 0,
            "repeated_prompts": 0,
            "words": {word: {"separation": 0.1 * i} for i, word in enumerate(WORDS)},
        },
        "g": {
            "word_correlation_min": 0.5,
            "word_correlation_mean": 0.8,
            "increment_correlation_mean": 0.6,
            "null_correlation_mean": 0.2,
            "null_correlation_low": 0.1,
            "null_correlation_high": 0.3,
            "null_increment_correlation": 0.1,
            "null_r2_drift_out": 0.5,
            "rank": {"word_correlation_mean": 0.75, "null_correlation_mean": 0.25},
            "null": {"within_senses": {"word_correlation_mean": 0.2, "decomposition_r2_drift_out": 0.4}},
            "predicted_correlation_min": 0.99,
            "before": {"rank_correlation_mean": 0.7},
            "auc_at_word": {"1": 0.9, "3": 0.9},
            "auc_before": {"1": 0.5, "3": 0.9},
            "peak_depth": 0.9,
            "final_drop": 0.1,
            "alpha": 2.0,
            "best_model": "power",
            "decomposition_r2": 0.7,
            "decomposition_r2_drift_out": 0.8,
            "f_max": dict.fromkeys(WORDS, 0.3),
            "p": {
                "rank.word_correlation_mean": 0.002,
                "final.word_correlation_mean": 0.02,
                "final.increment_correlation_mean": 0.03,
                "final.decomposition_r2_drift_out": 0.04,
                "auc.gradient_own": 0.005,
            },
        },
        "logit_lens": {"lens_lead_depth": 0.8, "prompts_nats_per_byte": 1.2},
        "decode": {"gradient_own": {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95}},
        "intervene": {
            "words": 2,
            "unmeasurable_words": ["alto"],
            "half_depth": {
                "one_direction": 0.5,
                "one_direction_low": 0.3,
                "one_direction_high": None,
                "transplant": 0.4,
                "decoded": 0.2,
                "g": 0.9,
            },
            "response": {"1": 0.1, "3": 1.0},
            "control_max": 0.1,
            "tau": {"decoded": 0.3, "g": None},
        },
        "claims": {
            "alpha": {"published": "0.9", "found": 2.0, "low": 1.5, "high": 2.5, "null": 2.1, "verdict": "fails"},
            "f_max": {
                "published": "0.30 to 0.79",
                "found": [0.3, 0.4],
                "low": None,
                "high": None,
                "null": None,
                "verdict": "holds",
            },
        },
        "pca": {
            "n_heads": 12,
            "components_for_variance": shares,
            "explained_variance_ratio": {"1": 0.4, "2": 0.2, "3": 0.1},
            "circuit": {"components_for_variance": shares},
            "null": {"gram": shares},
        },
        "perplexity": table | {"baseline": {"perplexity": 20.0, "tokens": 4088, "windows": 8, "nats_per_byte": 0.7}},
        "clusters": table | {"replaced_heads": dict.fromkeys(ratios, 3)},
        "rivals": {
            "best": "int",
            "best_bits": 4.1,
            "best_bits_low": 4.0,
            "best_bits_high": 4.3,
            "bits_at_1_05": {"int": 4.1, "svd": None},
            "bits_at_1_05_low": {"int": 4.0, "svd": None},
            "bits_at_1_05_high": {"int": 4.3, "svd": None},
            "bits_at_1_05_foretold": {"int": 4.1, "svd": 9.8},
            "share_of_model": 0.1,
            "left_out": 2,
            "law": {"c": 2.0, "runs": 8, "held_out_factor": 1.4},
        },
        "locate": {
            "tokens": 2555,
            "components": 6,
            "layer_ratio": {"0": 1.4, "1": 1.01},
            "band_ratio": {"1-6": 40.0, "7-12": 1.2},
            "first_layer_kept": {"band_ratio": {"1-6": 20.0, "7-12": 1.1}},
        },
        **_where_the_axes_meet(run),
    }


def _where_the_axes_meet(run: dict[str, Any]) -> dict[str, Any]:
    chance = {"value": 0.12, "null": 0.0, "null_low": -0.1, "null_high": 0.1, "p": 0.03}
    beside = {name: chance | {"low": 0.02, "high": 0.22, "within_layers": chance} for name in PROPERTIES}
    kept = {"method": "int8 8", "kept": 0.97, "low": 0.9, "high": 1.01, "ratio": 1.02}
    return {
        "heads_run": run | {"corpus": {"name": "text"}, "parameters": {"seed": 0, "heads.pairs": 6}},
        "heads_claims": {
            "low_variance": {
                "published": "–",
                "found": 0.12,
                "low": 0.02,
                "high": 0.22,
                "null": 0.0,
                "verdict": "fails",
            }
        },
        "head_roles": {
            "words": 2,
            "unmeasurable_words": ["alto"],
            "pairs": 12,
            "n_heads": 12,
            "heads": {"exchange": 3, "mean": 2, "direct": 4, "within_sense": 0, "random": 1},
            "strongest": {"head": "2.1", "p": 0.0005, "share": 0.31, "low": 0.2, "high": 0.4},
            "top": {"share": 0.8, "low": 0.7, "high": 0.9},
            "half": 3,
            "control_max": {"within_sense": 0.01, "random": 0.02},
            "agreement": chance,
            "costly": 5,
            "beside": {role: beside | {"cluster": chance} for role in ("exchange", "direct")},
        },
        "compressed": {
            "models": 4,
            "untouched": dict.fromkeys(MEASURES, 0.4),
            **{name: {"least_within_5": kept, "most_beyond_25": None, "rank": -0.5} for name in MEASURES},
        },
    }


def write_sample_run(folder: Path, metrics: dict[str, Any] | None = None) -> Path:
    """Write metrics files, by default the sample's, into folder/metrics; gives the folder."""
    (folder / "metrics").mkdir(exist_ok=True)
    metrics = metrics or sample_metrics()
    runs = [metrics[name] for name in ("meaning_run", "weights_run") if name in metrics]
    parameters = {key: value for run in runs for key, value in run["parameters"].items()}
    for name, values in (metrics | {"provenance": {"parameters": parameters}}).items():
        write_json(folder / "metrics" / f"{name}.json", values)
    return folder


def sample_results(metrics: dict[str, Any] | None = None) -> Results:
    """What can be shown of metrics, by default the sample's."""
    with tempfile.TemporaryDirectory() as folder:
        return Results.read(Place("sample", write_sample_run(Path(folder), metrics)), None)

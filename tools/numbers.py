"""Write the numbers of README.md and docs/*.md from the results, or check them.

    python -m tools.numbers              # rewrite from this folder's metrics/, plots/ and bench/
    python -m tools.numbers --check      # exit 1, naming what differs from the committed results

A mark behind a number says where it comes from: `19.69<!--perplexity:baseline.perplexity:.2f-->` is the value under
`baseline`, `perplexity` of metrics/perplexity.json, formatted with `.2f`; `plots/` or `bench/` in front of the name is
another folder. `[key=value,…]` picks the one row of a list; `+` adds up what its rest finds in all entries, `^` takes
the largest. A format that ends in %, G or m gives percent, 10⁹ or minutes (of seconds) and leaves the unit to the text.
`<!--table:NAME-->` … `<!--end-->` holds one of TABLES.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import bench.engines
import bench.stages
import bench.tables
from permeation.frame.errors import PermeationError
from permeation.frame.tables import read_json, read_yaml
from permeation.report.revisions import compare_words, curves_of

PROJECT = Path(__file__).parents[1]
MARK = re.compile(r"(?P<shown>[^\s<>|()\[\]*]+)<!--(?P<name>[\w/-]+):(?P<key>[^:\s]+):(?P<spec>[^\s>]*?)-->")
BLOCK = re.compile(r"(?P<head><!--table:(?P<table>[\w ]+)-->\n).*?(?P<tail><!--end-->)", re.DOTALL)
NOT_THERE = "*Not there yet: the run that is committed has no such table.*"

Read = Callable[[str], Any]  # by the name of a results file, as in a mark; None where there is no such file


class MissingError(PermeationError):
    """A mark or a table asks for what no result holds."""


def in_folder(name: str) -> Any:
    """A results file of this folder."""
    path = PROJECT / path_of(name)
    return read_json(path) if path.is_file() else None


def at_revision(revision: str) -> Read:
    """Results files as they are committed."""

    @cache
    def read(name: str) -> Any:
        shown = _git("show", f"{revision}:{path_of(name)}")
        return None if shown is None else json.loads(shown)

    return read


def has_history() -> bool:
    """Whether this folder is the root of a git checkout with a commit."""
    top = _git("rev-parse", "--show-toplevel")
    return top is not None and Path(top.strip()) == PROJECT.resolve() and _git("rev-parse", "HEAD") is not None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8", check=False
        )
    except OSError:  # no git on this machine
        return None
    return done.stdout if done.returncode == 0 else None


def path_of(name: str) -> str:
    """The file that a mark's name means: metrics/ unless it names another folder."""
    return f"{name}.json" if "/" in name else f"metrics/{name}.json"


def value_of(read: Read, name: str, key: str) -> Any:
    """What stands under a key such as `words.bank.range`, `[layer=0].ratio` or `stages.+.seconds`."""
    if (found := read(name)) is None:
        raise MissingError(f"there is no {path_of(name)}")
    return _under(found, re.findall(r"\[([^\]]*)\]|([^.\[\]]+)", key), f"{path_of(name)} has no {key}")


REDUCE: dict[str, Callable[[list[Any]], Any]] = {"+": sum, "^": max}


def _under(value: Any, parts: list[tuple[str, str]], missing: str) -> Any:
    if not parts:
        return value
    (selector, part), *rest = parts
    if selector:
        wanted = dict(pair.split("=") for pair in selector.split(","))
        rows = [row for row in value if all(str(row[k]) == v for k, v in wanted.items())]
        if len(rows) != 1:
            raise MissingError(f"{missing}: {len(rows)} rows are of {selector}")
        return _under(rows[0], rest, missing)
    whole = ".".join(each for _, each in parts)
    if isinstance(value, Mapping) and whole in value:  # a key may have dots in it
        return value[whole]
    if part in REDUCE:
        entries = value.values() if isinstance(value, Mapping) else value
        return REDUCE[part]([_under(entry, rest, missing) for entry in entries])
    if not isinstance(value, Mapping) or part not in value:
        raise MissingError(missing)
    return _under(value[part], rest, missing)


SCALES = {"%": 100, "G": 1e-9, "m": 1 / 60}


def text_of(value: Any, spec: str) -> str:
    """A value as it is printed; null is a dash."""
    if value is None:
        return "–"
    if spec and spec[-1] in SCALES:
        return format(SCALES[spec[-1]] * value, f"{spec[:-1]}f")
    return format(value, spec)


def ratio_text(row: Mapping[str, Any], ratio: str = "ratio") -> str:
    """`1.0884 [1.0714, 1.1061]`: four decimals below 2, two below 10, none above."""
    digits = 4 if row[ratio] < 2 else 2 if row[ratio] < 10 else 0
    middle, low, high = (f"{row[key]:,.{digits}f}" for key in (ratio, "low", "high"))
    return f"{middle} [{low}, {high}]"


def grid(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, without blanks around its bars: README.md is counted in words."""
    return "\n".join(f"|{'|'.join(line)}|" for line in (header, ["---"] * len(header), *rows))


VERDICTS = {"null_too": "holds, null too", "fails": "does not hold", "not_measurable": "not measurable"}


def claims(read: Read) -> str:
    """Claim by its short name, published, found with interval, null, verdict."""
    if (found := _claims(read)) is None:
        return NOT_THERE
    header = ["claim", "published", "found here", "null model", "verdict"]
    return grid(header, ([name.replace("_", " "), *_checked(claim)] for name, claim in found.items()))


def claims_in_full(read: Read) -> str:
    """The same with each claim in words, from data/published.yaml."""
    if (found := _claims(read)) is None:
        return NOT_THERE
    said = read_yaml(PROJECT / "data" / "published.yaml")
    rows = ([said[name]["claim"], said[name]["model"], *_checked(claim)] for name, claim in found.items())
    return grid(["claim", "said of", "published", "found here", "null model", "verdict"], rows)


def _claims(read: Read, folder: str = "") -> Any:
    """metrics/claims.json, with what the stages that are run on demand found; None where there is none."""
    found, on_demand = (read(f"{folder}{name}") for name in ("claims", "heads_claims"))
    return None if found is None else found | (on_demand or {})


def _checked(claim: Mapping[str, Any]) -> list[str]:
    found = _plain(claim["found"])
    if claim["low"] is not None and not isinstance(claim["found"], list):
        found += f" [{_plain(claim['low'])}, {_plain(claim['high'])}]"
    verdict = VERDICTS.get(claim["verdict"], claim["verdict"])
    return [_plain(claim["published"]), found, _plain(claim["null"]), verdict]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_plain, value))
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


# The second model's results, and those of the words for confirmation, as `docs/results/README.md` says.
SECOND = "docs/results/gemma3-270m"
LONG = "docs/results/smollm2-135m-frontier/"
RUNS = {
    "SmolLM2, 9 words": "",
    "SmolLM2, 36 words": "docs/results/smollm2-135m-confirm/",
    "Gemma 3, 9 words": f"{SECOND}/",
    "Gemma 3, 36 words": "docs/results/gemma3-270m-confirm/",
}


def two_models(read: Read) -> str:
    """Every claim, checked on both models."""
    found = [_claims(read), _claims(read, f"{SECOND}/metrics/")]
    if None in found:
        raise MissingError("there are no claims of both models")
    said = read_yaml(PROJECT / "data" / "published.yaml")
    header = ["claim", "published", "SmolLM2", "", "Gemma 3", ""]
    both = [name for name in found[0] if name in found[1]]
    checked = ((said[name]["claim"], *(_checked(each[name]) for each in found)) for name in both)
    return grid(header, ([name, one[0], one[1], one[3], two[1], two[3]] for name, one, two in checked))


def both_g(read: Read) -> str:
    """How alike the words' g of both models are, on one depth axis."""
    own, other = (curves_of(_there(read, name)) for name in ("plots/meaning/g", f"{SECOND}/plots/meaning/g"))
    words, mean = compare_words(own, other, seed=0)
    return grid(
        ["word", "correlation", "RMSE"],
        (
            [word, *(_interval(like, key) for key in ("correlation", "rmse"))]
            for word, like in ((word, asdict(each)) for word, each in (words | {"mean": mean}).items())
        ),
    )


def _interval(found: Mapping[str, Any], key: str, spec: str = ".3f") -> str:
    text = text_of(found[key], spec)
    if (low := found.get(f"{key}_low")) is not None:
        text += f" [{text_of(low, spec)}, {text_of(found[f'{key}_high'], spec)}]"
    return text


def confirmed(read: Read) -> str:
    """The primary statistics on the nine words and on the 36, of both models."""
    columns = []
    for place in RUNS.values():
        g, uses = (_there(read, f"{place}metrics/{name}" if place else name) for name in ("g", "intervene"))
        p = g["p"]
        columns.append(
            {
                "correlation of g, h = rank (primary)": text_of(g["rank"]["word_correlation_mean"], ".3f"),
                "at the token before the word": text_of(g["before"]["rank_correlation_mean"], ".3f"),
                "with senses shuffled, h = rank": text_of(g["rank"]["null_correlation_mean"], ".3f"),
                "p": text_of(p["rank.word_correlation_mean"], ".4f"),
                "correlation of g, h = final": text_of(g["word_correlation_mean"], ".3f"),
                "with senses shuffled, h = final": text_of(g["null_correlation_mean"], ".3f"),
                "p after Holm": text_of(p["final.word_correlation_mean"], ".3f"),
                "least correlation with g̃": text_of(g["predicted_correlation_min"], ".3f"),
                "words whose use can be measured": str(uses["words"]),
                "R½, one direction (primary)": _interval(uses["half_depth"], "one_direction", ".2f"),
                "R½, transplant": text_of(uses["half_depth"]["transplant"], ".2f"),
                "AUC of 0.9 at depth": text_of(uses["half_depth"]["decoded"], ".2f"),
                "g = ½ at depth": text_of(uses["half_depth"]["g"], ".2f"),
                "largest control": text_of(uses["control_max"], ".2f"),
                "τ of R½ with the depth of AUC 0.9": text_of(uses["tau"]["decoded"], ".2f"),
                "τ of R½ with the depth of g = ½": text_of(uses["tau"]["g"], ".2f"),
            }
        )
    return grid(["", *RUNS], ([name, *(column[name] for column in columns)] for name in columns[0]))


def spectra(read: Read) -> str:
    """Components for each share of the variance, by form, beside random heads."""
    pca = _there(read, "pca")
    shares = list(pca["components_for_variance"])

    def rows() -> Iterator[list[str]]:
        for form, name in FORM_NAMES.items():
            own = (pca if form == "gram" else pca[form])["components_for_variance"]
            yield [name, *(str(own[share]) for share in shares)]
            yield [f"{name}, heads in random frames", *(str(pca["null"][form][share]) for share in shares)]

    return grid(["components for", *(f"{share} %" for share in shares)], rows())


FORM_NAMES = {
    "gram": "gram form",
    "circuit": "circuit form",
    "score": "score form",
    "score_centred": "score form, mean key out",
}


def by_replaced(name: str, key: str, label: str) -> Callable[[Read], str]:
    """A table of ratios with all layers replaced and with the first layer left alone, one row a key."""

    def table(read: Read) -> str:
        rows = _there(read, f"plots/weights/{name}")
        cell = {(_asked(row, key), row["replaced"]): ratio_text(row) for row in rows}
        columns = list(dict.fromkeys(replaced for _, replaced in cell))
        asked = dict.fromkeys(name for name, _ in cell)
        return grid([label, *columns], ([name, *(cell.get((name, c), "–") for c in columns)] for name in asked))

    return table


def _asked(row: Mapping[str, Any], key: str) -> str:
    """A count as it was asked for: 64, or 90% with the count that it means."""
    count, asked = str(row[key]), str(row.get("asked", row[key]))
    return count if asked in (count, "all") else f"{asked} ({count})"


def bands(read: Read) -> str:
    """What dropping each band of components costs."""
    rows = _there(read, "plots/weights/bands")
    columns = list(dict.fromkeys(row["replaced"] for row in rows))
    spans = list(dict.fromkeys((row["first"], row["last"], row["variance"]) for row in rows))
    cell = {(row["first"], row["replaced"]): ratio_text(row) for row in rows}
    return grid(
        ["components dropped", "variance", *columns],
        (
            [f"{first}–{last}", f"{100 * variance:.0f} %", *(cell[first, c] for c in columns)]
            for first, last, variance in spans
        ),
    )


def layers(read: Read) -> str:
    """The three layers that cost most when they alone are rebuilt."""
    rows = sorted(_there(read, "plots/weights/layers"), key=lambda row: -row["ratio"])[:3]
    return grid(["layer rebuilt", "ratio"], ([str(row["layer"]), ratio_text(row)] for row in rows))


def runs_by_bits(folder: str, of_all: bool) -> Callable[[Read], str]:
    """The measured runs of the rivals by what they store: all, those on the frontier standing out, or these alone."""

    def table(read: Read) -> str:
        rows = sorted(_there(read, f"{folder}plots/weights/pareto"), key=lambda row: row["bits"])

        def cells(row: Mapping[str, Any]) -> list[str]:
            agreement = f"{100 * row['agreement']:.1f} %"
            found = [f"{row['bits']:.2f}", row["method"], ratio_text(row), f"{row['kl']:.3g}", agreement]
            return [f"**{cell}**" for cell in found] if row["frontier"] and of_all else found

        shown = (cells(row) for row in rows if row["frontier"] or of_all)
        return grid(["bits a number", "method", "ratio", "KL, nats", "same likeliest token"], shown)

    return table


def bits_by_method(folder: str) -> Callable[[Read], str]:
    """How few bits each method needs at a ratio of 1.05, the fewest first."""

    def table(read: Read) -> str:
        found = _there(read, f"{folder}metrics/rivals" if folder else "rivals")
        value, low, high, foretold = (found[f"bits_at_1_05{part}"] for part in ("", "_low", "_high", "_foretold"))

        def cells(method: str) -> list[str]:
            measured = f"{value[method]:.2f} [{low[method]:.2f}, {high[method]:.2f}]" if value[method] else "–"
            return [method, measured, text_of(foretold[method], ".2f")]

        known = [method for method in value if foretold[method] is not None]
        tried = {row["method"] for row in _there(read, f"{folder}plots/weights/pareto")}
        unknown = [method for method in value if foretold[method] is None]
        never, refused = (", ".join(m for m in unknown if (m in tried) is each) for each in (True, False))
        ordered = sorted(known, key=lambda method: value[method] or foretold[method])
        rows = grid(["method", "bits a number at 1.05", "with what is foretold"], map(cells, ordered))
        said = [f"At no size that was tried: {never}."] if never else []
        said += [f"Refused for this model: {refused}."] if refused else []
        return "\n\n".join([rows, " ".join(said)]) if said else rows

    return table


def paired(folder: str) -> Callable[[Read], str]:
    """The three best methods within each budget of bits, in pairs with the best."""

    def table(read: Read) -> str:
        rows = _there(read, f"{folder}plots/weights/pairs")
        budgets = dict.fromkeys(row["budget"] for row in rows)
        best = [row for budget in budgets for row in [r for r in rows if r["budget"] == budget][:3]]

        def cells(row: Mapping[str, Any]) -> list[str]:
            over = "1" if row["method"] == row["best"] else ratio_text(row)
            return [f"{row['budget']:g}", row["method"], f"{row['bits']:.2f}", over]

        return grid(["bits at most", "method", "bits", "perplexity over the best one's"], map(cells, best))

    return table


def proxies(read: Read) -> str:
    """Spearman's correlation of each error with the harm, best first."""
    proxy = _there(read, "rivals")["proxy"]
    ordered = sorted(proxy.items(), key=lambda item: -(item[1] or 0))
    return grid(
        ["relative error in the", "rank correlation with log ratio"],
        ([FORM_NAMES[form], text_of(value, ".2f")] for form, value in ordered),
    )


def nulls(read: Read) -> str:
    """The headline statistics beside those of every null model (medians over its draws), as far as it has them."""
    g = _there(read, "g")
    models = (read("nulls") or g)["null"]
    columns = {
        "word_correlation_mean": ("correlation of g between words", ".3f"),
        "decomposition_r2": ("R²", ".3f"),
        "alpha": ("α", ".2f"),
        "separation_mean": ("separation", "z.3f"),
    }
    columns = {key: column for key, column in columns.items() if any(key in found for found in models.values())}
    rows = {"as measured": g} | {name.replace("_", " "): found for name, found in models.items()}
    return grid(
        ["directions", *(title for title, _ in columns.values())],
        (
            [name, *(text_of(found.get(key), spec) for key, (_, spec) in columns.items())]
            for name, found in rows.items()
        ),
    )


CONTROLS = {
    "correlation of g between words, h = final": ("word_correlation_mean", "null_correlation_mean"),
    "correlation of g between words, h = rank": ("rank.word_correlation_mean", "rank.null_correlation_mean"),
    "correlation of g's increments, h = final": ("increment_correlation_mean", "null_increment_correlation"),
    "R² of h · f_max · g": ("decomposition_r2", "null_decomposition_r2"),
    "R², drift taken out, h = final": ("decomposition_r2_drift_out", "null_r2_drift_out"),
    "R², drift taken out, h = rank": ("rank.decomposition_r2_drift_out", "rank.null_r2_drift_out"),
    "least correlation of a word's g with g̃, made of its direction prompts": ("predicted_correlation_min", ""),
}


def controls(read: Read) -> str:
    """Agreement of g, and quality of the product, in each way of measuring that the run has; null: senses shuffled."""
    places = [found for found in (read("controls"), _there(read, "g")) if found is not None]

    def found(key: str) -> float | None:
        for place in places:
            try:
                return float(_under(place, [("", part) for part in key.split(".")], key))
            except MissingError:
                continue
        return None

    values = {name: (found(key), found(null)) for name, (key, null) in CONTROLS.items()}
    measured = ([name, text_of(x, ".3f"), text_of(null, ".3f")] for name, (x, null) in values.items() if x is not None)
    return grid(["statistic", "words", "null"], measured)


def before(read: Read) -> str:
    """The AUC at the word, and at the token in front of it, by layer."""
    found = read("controls") or _there(read, "g")
    if "auc_at_word" not in found:
        return NOT_THERE
    layers = list(found["auc_at_word"])
    rows = {"at the word": found["auc_at_word"], "at the token in front of it": found["auc_before"]}
    return grid(
        ["AUC of the senses, graded prompts, at layer", *layers],
        ([name, *(text_of(auc[layer], ".2f") for layer in layers)] for name, auc in rows.items()),
    )


def stage_times(read: Read) -> str:
    """What every stage takes."""
    return bench.stages.table(_there(read, "bench/stages"))


def scorers(read: Read) -> str:
    """The scorer beside its rivals, on each kind of processor that it was timed on."""
    kinds = _there(read, "bench/results")
    return "\n\n".join(
        f"**{kind}**, {found['threads']} threads:\n\n{bench.tables.table(found)}" for kind, found in kinds.items()
    )


def _there(read: Read, name: str) -> Any:
    found = read(name)
    if found is None:
        raise MissingError(f"there is no {path_of(name)}")
    return found


TABLES: dict[str, Callable[[Read], str]] = {
    "claims": claims,
    "claims in full": claims_in_full,
    "both models": two_models,
    "g of both models": both_g,
    "confirmed": confirmed,
    "controls": controls,
    "nulls": nulls,
    "before": before,
    "spectra": spectra,
    "ratios": by_replaced("perplexity", "components", "K"),
    "clusters": by_replaced("clusters", "k", "k"),
    "bands": bands,
    "layers": layers,
    "rivals": runs_by_bits("", of_all=True),
    "bits of SmolLM2": bits_by_method(LONG),
    "bits of Gemma 3": bits_by_method(f"{SECOND}/"),
    "pairs of SmolLM2": paired(LONG),
    "pairs of Gemma 3": paired(f"{SECOND}/"),
    "frontier of SmolLM2": runs_by_bits(LONG, of_all=False),
    "frontier of Gemma 3": runs_by_bits(f"{SECOND}/", of_all=False),
    "proxies": proxies,
    "stage times": stage_times,
    "scorers": scorers,
    "engines": lambda read: bench.engines.table(_there(read, "bench/engines")),
}


def rewritten(text: str, read: Read, problems: list[str]) -> str:
    """The text with every mark and table as the results have it; what cannot be found is added to `problems`."""

    def number(found: re.Match[str]) -> str:
        try:
            shown = text_of(value_of(read, found["name"], found["key"]), found["spec"])
        except (MissingError, KeyError, TypeError, ValueError) as error:
            problems.append(f"{found[0]}: {error}")
            return found[0]
        return shown + found[0].removeprefix(found["shown"])

    def block(found: re.Match[str]) -> str:
        try:
            return f"{found['head']}{TABLES[found['table']](read)}\n{found['tail']}"
        except (MissingError, KeyError) as error:
            problems.append(f"table {found['table']}: {error}")
            return found[0]

    return BLOCK.sub(block, MARK.sub(number, text))


def pages() -> list[Path]:
    """The Markdown files with numbers."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def differences(read: Read) -> list[str]:
    """What the pages say that the results do not, one line each."""
    found: list[str] = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        problems: list[str] = []
        wanted = rewritten(text, read, problems)
        name = page.relative_to(PROJECT)
        found += [f"{name}: {problem}" for problem in problems]
        for line, (old, new) in enumerate(zip(text.splitlines(), wanted.splitlines(), strict=False), start=1):
            if old != new:
                found.append(f"{name}:{line}: {old!r}, and the results give {new!r}")
                break  # what follows may only have moved
    return found


def rewrite(read: Read) -> list[str]:
    """Write the pages anew; gives what no result was found for."""
    found: list[str] = []
    for page in pages():
        page.write_text(rewritten(page.read_text(encoding="utf-8"), read, found), encoding="utf-8")
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tools.numbers", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page says something else")
    parser.add_argument("--revision", help="read the results of this commit (with --check: HEAD), not the folder's")
    arguments = parser.parse_args()
    revision = arguments.revision or ("HEAD" if arguments.check and has_history() else None)
    read = at_revision(revision) if revision else in_folder
    try:
        found = differences(read) if arguments.check else rewrite(read)
    except PermeationError as error:
        sys.exit(f"numbers: {error}")
    sys.exit("\n".join(found) or 0)


if __name__ == "__main__":
    main()

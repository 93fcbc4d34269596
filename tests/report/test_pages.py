"""The pages that people open: `dvc plots` and report.html, as Vega compiles them and as a browser shows them."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc_render.vega import VegaRenderer
from matplotlib import pyplot as plt

from permeation.frame.tables import write_rows
from permeation.report.figures import style
from permeation.report.figures.meaning import FIGURES as MEANING_FIGURES
from permeation.report.figures.weights import FIGURES
from permeation.report.findings import SECTIONS, sections, summarise
from permeation.report.offline import VEGA_LITE, main
from permeation.report.page import page, write_page
from permeation.report.results import Place, Results
from tests.conftest import PROJECT
from tests.support.sample_tables import (
    DEPTH,
    WORDS,
    sample_metrics,
    sample_results,
    sample_tables,
    write_sample_run,
)

TEMPLATES = PROJECT / ".dvc" / "plots"
CHARTS: dict[str, dict[str, Any]] = {
    name: chart
    for entry in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["plots"]
    for name, chart in entry.items()
}
# The page's Vega is newer than the one that Vega-Lite 5 was made with; it says so at each chart, and draws it.
KNOWN = "The compiled spec uses Vega v5, but current version is v6"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def table_of(chart: dict[str, Any]) -> str:
    (path,) = chart["y"]
    return Path(path).stem


def marks(svg: str) -> int:
    """How many drawn things (not axes, legends or titles) an SVG by Vega holds; a point's empty path is none."""
    groups = re.findall(r'class="mark-(?!group)\w+ role-mark[^"]*"[^>]*>(.*?)</g>', svg, re.DOTALL)
    return sum(len(re.findall(r'<(?:path|line|text)\b(?![^>]*\bd="")', group)) for group in groups)


def svg_of(name: str, *revisions: str) -> str:
    """A chart as Vega draws it, with the sample tables of a seed for each revision."""
    vl_convert = pytest.importorskip("vl_convert")
    chart = CHARTS[name]
    ((path, column),) = chart["y"].items()
    rows = [row | {"rev": rev} for seed, rev in enumerate(revisions) for row in sample_tables(seed)[table_of(chart)]]
    settings = chart | {"y": column, "y_label": chart["y_label"], "template_dir": str(TEMPLATES)}
    spec = VegaRenderer(rows, path, **settings).get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(spec)
    return str(vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE))


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_compiles_and_has_marks(name: str) -> None:
    counts = []
    for revisions in (("HEAD",), ("HEAD", "workspace")):
        svg = svg_of(name, *revisions)
        assert all(rev in svg for rev in revisions)
        counts.append(marks(svg))
    assert 0 < counts[0] < counts[1]


@pytest.mark.parametrize("name", ["g", "sigma"])
def test_words_stand_in_the_order_of_their_file(name: str) -> None:
    assert tuple(word for word in re.findall(r">(\w+)</text>", svg_of(name, "HEAD")) if word in WORDS) == WORDS


@pytest.mark.parametrize("name", ["nulls", "controls", "intervene", "depths"])
def test_a_band_is_of_one_series(name: str) -> None:
    """Rows of two in one band would make one ragged shape of both."""
    bands = re.findall(r'class="mark-area[^>]*>\s*<path[^>]* d="([^"]*)"', svg_of(name, "HEAD"))
    assert bands
    assert {band.count(",") for band in bands} == {2 * len(DEPTH)}


def test_every_template_is_a_chart_of_dvc_with_a_use() -> None:
    used = {chart["template"] for chart in CHARTS.values()}
    assert used <= {path.stem for path in TEMPLATES.glob("*.json")}
    for path in TEMPLATES.glob("*.json"):
        text = path.read_text()
        assert json.loads(text)["$schema"].endswith("v5.json")
        assert {"DATA", "TITLE", "X", "Y"} <= set(re.findall(r"<DVC_METRIC_(\w+)>", text)), path.name


@dataclass(frozen=True)
class Visit:
    """What a browser made of a page: its elements when all was drawn, its messages, and what it asked a network for."""

    dom: str
    console: list[str]
    requests: set[str]


def visit(page: Path, profile: Path) -> Visit:
    """Open a page in headless Chromium, with no name resolved."""
    log = profile / "net.json"
    done = subprocess.run(
        [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--window-size=1280,900"),
            *(f"--user-data-dir={profile}", "--virtual-time-budget=15000", "--enable-logging=stderr"),
            *(f"--log-net-log={log}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return Visit(
        dom=done.stdout,
        console=[line for line in done.stderr.splitlines() if "CONSOLE" in line and KNOWN not in line],
        # The browser's own requests have no origin.
        requests={
            event["url"]
            for event in events
            if event.get("initiator", "not an origin") != "not an origin"
            and not event["url"].startswith(("file", "data"))
        },
    )


@needs_browser
def test_a_page_that_asks_and_fails_is_noticed(tmp_path: Path) -> None:
    """What the tests below find absent would be seen if it were there."""
    page = tmp_path / "page.html"
    page.write_text(
        '<img src="http://example.invalid/x.png"><script>fetch("https://example.invalid/y"); throw 1</script>'
    )
    seen = visit(page, tmp_path / "profile")
    assert seen.requests == {"http://example.invalid/x.png", "https://example.invalid/y"}
    assert any("Uncaught" in line for line in seen.console)


def project_with_two_revisions(folder: Path) -> Path:
    """A git and DVC project with the plots of this one: tables of one seed in HEAD, of another in the workspace."""
    names = {path for chart in CHARTS.values() for path in chart["y"]}
    for name in (".dvc/config", ".dvc/.gitignore", "dvc.yaml", "params.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    shutil.copytree(TEMPLATES, folder / ".dvc" / "plots")
    for seed in (0, 1):
        for name in names:
            write_rows(folder / name, sample_tables(seed)[Path(name).stem])
        if seed == 0:
            who = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
            for command in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "first")):
                subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


@needs_browser
def test_the_page_of_two_revisions_draws_everything_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    project = project_with_two_revisions(tmp_path / "project")
    python = (sys.executable, "-m")
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src"), "HOME": str(tmp_path)}
    for command in ("permeation.report.offline",), ("dvc", "plots", "diff", "HEAD", "-o", "out"):
        done = subprocess.run([*python, *command], cwd=project, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    seen = visit(project / "out" / "index.html", tmp_path / "profile")
    parts = re.split(r'<div id="([\w-]+)"', seen.dom)
    drawn = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(drawn) == set(CHARTS)
    for name, part in drawn.items():
        assert marks(part) > 0, name
        assert "HEAD</text>" in part, name
        assert "workspace</text>" in part, name
    assert seen.console == []
    assert seen.requests == set()


def test_outside_a_project_no_page_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"offline: .*\.dvc is missing"):
        main()


@pytest.fixture
def finished(tmp_path: Path) -> Place:
    """A folder with the metrics and figures of a run; one of its figures belongs to no section."""
    write_sample_run(tmp_path)
    for name in ("meaning/sigma", "meaning/g", "weights/perplexity", "weights/of_another_kind"):
        figure, axis = plt.subplots()
        axis.plot([1, 2])
        path = tmp_path / "plots" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        style.save(figure, path)
    return Place("here", tmp_path)


def test_the_page_has_every_figure_once_and_every_finding(finished: Place) -> None:
    text = write_page(Results.read(finished, None)).read_text(encoding="utf-8")
    assert text.count("<img ") == text.count("data:image/png") == 4
    assert text.count("<section") == len(SECTIONS) + 3  # more figures, what was run, how to run it again
    assert "plots/weights/of_another_kind.json" in text
    assert "nulls.draws" in text
    assert "0" * 64 in text
    assert not re.search(r'(?:src|href|action)\s*=\s*"(?!data:|#)|@import|url\(|<script', text)


def test_an_axis_of_other_parameters_is_not_on_the_page(finished: Place) -> None:
    results = Results.read(finished, {"nulls.draws": 4, "seed": 0})
    text = write_page(results).read_text(encoding="utf-8")
    assert "nulls.draws was 200 and is 4" in text
    assert text.count("<img ") == 2
    assert "plots/meaning/g.json" not in text


def test_what_a_user_names_is_text_on_the_page() -> None:
    metrics = sample_metrics()
    for run in ("meaning_run", "weights_run"):
        metrics[run]["model"]["name"] = "<script>alert(1)</script>"
    assert "<script" not in page(sample_results(metrics), {})


@pytest.mark.parametrize(
    "missing", ["claims", "sigma", "g", "decode", "intervene", "pca", "perplexity", "clusters", "rivals", "locate"]
)
def test_a_part_of_a_run_has_a_summary_too(missing: str) -> None:
    metrics = {name: values for name, values in sample_metrics().items() if name != missing}
    titles = [section.title for section in sections(metrics)]
    assert 0 < len(titles) < len(SECTIONS)
    assert all(title.upper() in summarise(sample_results(metrics)) for title in titles)


def said_of(metrics: dict[str, Any]) -> str:
    """The summary in one line."""
    return " ".join(summarise(sample_results(metrics)).split())


def test_the_words_follow_the_numbers() -> None:
    metrics = sample_metrics()
    said = said_of(metrics)
    assert "correlate by 0.750 on average, with shuffled senses by 0.250 (p = 0.0020, the primary test)" in said
    assert "it is 0.800 against 0.200 (p = 0.02 after Holm)" in said
    assert "explains 70 % of σ's variance" in said
    assert "it explains 80 %, with shuffled senses 50 % (p = 0.04 after Holm)" in said
    assert "at depth 0.50 in the median over 2 words (95 % interval 0.30 to –)" in said
    assert "does not tell their senses apart: alto" in said
    assert "alpha 0.9 2 [1.5, 2.5] 2.1 does not hold" in said
    assert "serve more than once" not in said
    metrics["sigma"]["repeated_prompts"] = 4
    assert "4 prompts serve more than once" in said_of(metrics)


def test_a_run_without_measurable_words_says_so() -> None:
    metrics = sample_metrics()
    metrics["intervene"] = {"words": 0, "unmeasurable_words": ["alto", "bank"]}
    assert "enough to measure it (alto, bank)" in said_of(metrics)


def test_what_was_not_measured_is_not_claimed() -> None:
    metrics = sample_metrics()
    metrics["g"] |= {"word_correlation_mean": None, "word_correlation_min": None, "peak_depth": 1.0}
    metrics["g"]["before"] = {"rank_correlation_mean": None}
    for column in ("ratio", "ratio_low", "ratio_high"):
        metrics["perplexity"][column] = {"all": 1.0}
    said = said_of(metrics)
    assert "With a single word there is nothing to compare g with." in said
    assert "falls by" not in said
    assert "No K short of all was measured. With all components it is 1.0000." in said


def metrics_of_one_word() -> dict[str, Any]:
    """As the stages write them for a list of one word: what compares words is null or left out."""
    metrics = sample_metrics()
    metrics["sigma"] |= {"n_words": 1, "ordered_words": 1, "words": {"bank": {"separation": 0.2}}}
    absent = ("word_correlation_mean", "word_correlation_min", "increment_correlation_mean", "null_correlation_mean")
    p = {name: 0.5 for name in metrics["g"]["p"] if "correlation" not in name}
    metrics["g"] |= dict.fromkeys(absent) | {"f_max": {"bank": 0.3}, "before": {"rank_correlation_mean": None}, "p": p}
    metrics["intervene"] |= {"words": 1, "unmeasurable_words": [], "tau": {"decoded": None, "g": None}}
    return metrics


def test_a_run_with_one_word_speaks_of_one_word() -> None:
    metrics = metrics_of_one_word()
    said = said_of(metrics)
    plural = r"over words|words? and layers|the words'|each word's|\b1 words|on average; all|of 1 word|Kendall's τ of –"
    assert re.findall(plural, said) == []
    assert "an AUC of 0.90 on average over layers" in said
    assert "a Kendall's τ of 0.80; the five are in order" in said
    assert "with g the word's own" in said
    assert "correlates with the word's g by 0.990" in said
    assert "at depth 0.50 for the one word that can be measured, replacing" in said
    metrics["sigma"]["ordered_words"] = 0
    metrics["intervene"]["half_depth"] |= {"one_direction": None, "decoded": None}
    said = said_of(metrics)
    assert "the five are not in order (by chance one word in 120 would be)" in said
    assert "in the next token at no layer for the one word" in said
    assert "counts as decoded at no layer, and g reaches ½ at depth 0.90" in said


def test_the_weaknesses_of_a_list_of_words_are_counted() -> None:
    metrics = sample_metrics()
    metrics["sigma"] |= {"few_direction_prompts": 1, "without_gradient": 2, "repeated_prompts": 1}
    said = said_of(metrics)
    assert "1 of 3 words has fewer than 8 direction prompts in a sense" in said
    assert "2 of 3 words have no gradient" in said
    assert "1 prompt serves more than once, and is left out" in said


def test_the_fewest_bits_that_keep_the_model_are_said() -> None:
    metrics = sample_metrics()
    said = said_of(metrics)
    assert "At 5 % more perplexity int stores W_Q and W_K in the fewest bits a number: 4.10 [4.00, 4.30]" in said
    assert "svd not bracketed 9.80" in said
    assert "right within a factor of 1.4 in runs that it was not fitted to. 2 runs that it rules out were not" in said
    metrics["rivals"] |= {"best": None, "bits_at_1_05": {"int": None, "svd": None}, "law": {"c": None}}
    said = said_of(metrics)
    assert "No run of 2 methods stays within 5 %" in said
    assert "squared score error" not in said


def test_prompts_that_the_model_may_not_read_are_said() -> None:
    metrics = sample_metrics()
    assert "nats, a byte of the text 0.70." in said_of(metrics)
    metrics["logit_lens"]["prompts_nats_per_byte"] = 2.1
    assert "3.0 times as much" in said_of(metrics)


def test_a_quick_run_says_so() -> None:
    metrics = sample_metrics()
    metrics["weights_run"]["parameters"]["quick"] = True
    assert "QUICK RUN" in said_of(metrics)
    assert "QUICK RUN" in page(sample_results(metrics), {})


@needs_browser
def test_the_page_opens_on_a_phone_without_a_network(finished: Place) -> None:
    page = write_page(Results.read(finished, None))
    phone = finished.folder / "phone.html"
    phone.write_text(
        f"""<iframe src="{page.as_uri()}" style="width: 390px; height: 800px"></iframe>
        <script>onload = () => {{
            const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
            document.body.dataset.widths = [root.scrollWidth, root.clientWidth];
            document.body.dataset.images = [...page.images].map(image => image.naturalWidth > 0);
        }}</script>"""
    )
    seen = visit(phone, finished.folder / "profile")
    (needed, there) = re.search(r'data-widths="(\d+),(\d+)"', seen.dom).groups()
    assert int(needed) <= int(there) <= 390
    assert 'data-images="true,true,true,true"' in seen.dom
    assert seen.console == []
    assert seen.requests == set()


def test_the_best_of_many_that_fail_is_named() -> None:
    metrics = sample_metrics()
    for column in ("ratio", "ratio_low", "ratio_high"):
        metrics["perplexity"][column] = {"1": 20.0, "8": 3.0, "99": None, "all": 1.0}
        metrics["perplexity"]["first_layer_kept"][column] = {"1": 9.0, "8": 2.0, "99": None, "all": 1.0}
    said = said_of(metrics)
    assert "99 not measured not measured" in said
    assert "none of K = 1, 8 stays within 5 %" in said
    assert "K = 8, multiplies it by 3.0000" in said


def test_one_list_entry_is_no_list() -> None:
    metrics = sample_metrics()
    part = {column: {"4": 30.0} for column in ("ratio", "ratio_low", "ratio_high")}
    metrics["clusters"] |= {**part, "first_layer_kept": part, "replaced_heads": {"4": 12}}
    assert "k = 4 multiplies the perplexity by 30." in said_of(metrics)


def test_the_frontier_is_strong_and_what_is_beaten_pale() -> None:
    figure = FIGURES["pareto"](sample_tables(1)["pareto"])
    axis = figure.axes[0]
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {"int", "beaten"}
    pale = [line for line in axis.get_lines() if line.get_alpha() == 0.4 and len(line.get_xdata())]
    assert sorted(float(line.get_xdata()[0]) for line in pale) == [3, 4, 8]  # svd; pca gram is out of the picture
    plt.close(figure)


@pytest.mark.parametrize("name", ["sigma", "meaning", "depths"])
def test_with_one_word_the_label_stands_clear_of_the_legend(name: str) -> None:
    style.use_style()
    rows = [row for row in sample_tables(0)[name] if row.get("word", row.get("panel")) == "bank"]
    figure = MEANING_FIGURES[name](rows)
    figure.draw_without_rendering()
    legend, label = figure.legends[0], figure._supylabel
    assert not legend.get_window_extent().overlaps(label.get_window_extent())
    plt.close(figure)


def test_one_word_has_no_agreement_of_heads() -> None:
    metrics = sample_metrics()
    assert "Two words' maps of the heads" in said_of(metrics)
    metrics["head_roles"]["agreement"] = None
    assert "Two words' maps of the heads" not in said_of(metrics)

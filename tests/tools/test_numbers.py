"""Numbers in README.md and docs/ are those of the committed results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tools import numbers

RESULTS: dict[str, Any] = {
    "perplexity": {
        "baseline": {"perplexity": 19.687, "dtype": "float32"},
        "ratio": {"64": 441.43, "none": None},
        "seconds": 120,
    },
    "plots/pareto": [{"method": "int8", "share": 0.5, "ratio": 1.0}, {"method": "int4", "share": 0.5, "ratio": 1.137}],
}


def rewrite(text: str, results: Any = RESULTS) -> str:
    problems: list[str] = []
    found = numbers.rewritten(text, results.get, problems)
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("mark", "shown"),
    [
        ("perplexity:baseline.perplexity:.2f", "19.69"),
        ("perplexity:baseline.dtype:s", "float32"),
        ("perplexity:ratio.64:,.0f", "441"),
        ("perplexity:ratio.none:.2f", "–"),
        ("plots/pareto:[method=int4,share=0.5].ratio:.3f", "1.137"),
        ("plots/pareto:[method=int8].share:.0%", "50"),
        ("plots/pareto:+.share:.1f", "1.0"),
        ("plots/pareto:^.ratio:.3f", "1.137"),
        ("perplexity:seconds:.0m", "2"),
    ],
)
def test_a_mark_is_filled_from_the_results(mark: str, shown: str) -> None:
    assert rewrite(f"([0<!--{mark}-->, a 1 b") == f"([{shown}<!--{mark}-->, a 1 b"


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("absent:a:.2f", "there is no metrics/absent.json"),
        ("perplexity:baseline.loss:.2f", "metrics/perplexity.json has no baseline.loss"),
        ("plots/pareto:[share=0.5].ratio:.2f", "plots/pareto.json has no [share=0.5].ratio: 2 rows are of share=0.5"),
        ("perplexity:baseline.dtype:.2f", "Unknown format code 'f'"),
    ],
)
def test_a_mark_without_a_result_is_named_and_left_alone(mark: str, reason: str) -> None:
    problems: list[str] = []
    text = f"7<!--{mark}-->"
    assert numbers.rewritten(text, RESULTS.get, problems) == text
    assert reason in problems[0]


def test_a_table_without_results_says_so() -> None:
    block = "<!--table:claims-->\nold\n<!--end-->"
    assert rewrite(block) == f"<!--table:claims-->\n{numbers.NOT_THERE}\n<!--end-->"


def test_the_table_of_claims() -> None:
    one = {"published": "> 0.96", "found": 0.9666, "low": 0.938, "high": 0.982, "null": 0.946, "verdict": "null_too"}
    span = {"published": "0.30 to 0.79", "found": [0.261, 0.48], "low": 0.2, "high": 0.55, "null": None}
    found = {"g_between_words": one, "f_max": span | {"verdict": "fails"}}
    assert rewrite("<!--table:claims-->\n<!--end-->", {"claims": found}).splitlines()[3:-1] == [
        "|g between words|> 0.96|0.967 [0.938, 0.982]|0.946|holds, null too|",
        "|f max|0.30 to 0.79|0.261 to 0.48|–|does not hold|",
    ]


def test_the_table_of_controls_has_what_the_run_has() -> None:
    g = {"word_correlation_mean": 0.967, "null_correlation_mean": 0.944}
    rank = {"word_correlation_mean": 0.96, "null_correlation_mean": 0.795}
    auc = {"auc_at_word": {"5": 0.91, "30": 0.94}, "auc_before": {"5": 0.57, "30": 0.92}}
    results = {"g": g, "controls": {"rank": rank, **auc}}
    assert rewrite("<!--table:controls-->\n<!--end-->", results).splitlines()[3:-1] == [
        "|correlation of g between words, h = final|0.967|0.944|",
        "|correlation of g between words, h = rank|0.960|0.795|",
    ]
    assert rewrite("<!--table:before-->\n<!--end-->", results).splitlines()[3:-1] == [
        "|at the word|0.91|0.94|",
        "|at the token in front of it|0.57|0.92|",
    ]


def test_a_table_of_ratios_names_what_was_asked_for() -> None:
    row = {"replaced": "all layers", "ratio": 1.5, "low": 1.4, "high": 1.6}
    rows = [row | {"components": 64, "asked": "64"}, row | {"components": 164, "asked": "90%"}]
    found = rewrite("<!--table:ratios-->\n<!--end-->", {"plots/weights/perplexity": rows})
    assert found.splitlines()[3:-1] == ["|64|1.5000 [1.4000, 1.6000]|", "|90% (164)|1.5000 [1.4000, 1.6000]|"]


def test_an_unknown_table_is_named() -> None:
    problems: list[str] = []
    numbers.rewritten("<!--table:nothing-->\n<!--end-->", RESULTS.get, problems)
    assert problems == ["table nothing: 'nothing'"]


def test_the_pages_say_what_the_committed_results_say() -> None:
    if not numbers.has_history():
        pytest.skip("this folder is no git checkout with a commit, so it has no committed results")
    assert numbers.differences(numbers.at_revision("HEAD")) == []


# What the prose may say without a mark: settings and bounds, published figures, versions, names.
UNMARKED = {
    *("0.5", "0.9", "1.05"),
    *("0.96", "0.98", "0.982", "0.30", "0.79", "0.83", "0.85", "0.88", "4.2", "1.07", "0.11", "0.25"),
    *("2512.05117", "3.11"),
}


@pytest.mark.parametrize("name", ["README.md", "docs/results.md", "docs/performance.md"])
def test_every_number_of_a_run_is_marked(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8")
    for hidden in (
        numbers.BLOCK,
        numbers.MARK,
        re.compile(r"```.*?```", re.DOTALL),
        re.compile(r"`[^`]*`|\]\([^)]*\)"),
    ):
        text = hidden.sub("", text)
    assert set(re.findall(r"\d+\.\d+", text)) <= UNMARKED


def test_the_command_names_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "metrics" / "perplexity.json").write_text(json.dumps(RESULTS["perplexity"]))
    page = tmp_path / "README.md"
    page.write_text("# A\n\n7<!--perplexity:ratio.64:.0f-->-fold\n")
    monkeypatch.setattr(numbers, "PROJECT", tmp_path)
    monkeypatch.setattr("sys.argv", ["numbers", "--check"])
    assert not numbers.has_history()
    with pytest.raises(SystemExit, match=r"README.md:3: '7.*441"):
        numbers.main()
    for arguments in ([], ["--check"]):
        monkeypatch.setattr("sys.argv", ["numbers", *arguments])
        with pytest.raises(SystemExit) as ended:
            numbers.main()
        assert ended.value.code == 0
    assert page.read_text().startswith("# A\n\n441<!--")
    (tmp_path / "metrics" / "perplexity.json").write_text("{")
    with pytest.raises(SystemExit, match=r"numbers: .*perplexity.json: cannot be read as JSON"):
        numbers.main()

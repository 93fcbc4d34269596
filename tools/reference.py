"""Write the pages that follow from the code: docs/parameters.md, docs/stages.md and the comments of params.yaml.

    python -m tools.reference            # also after `dvc exp run`, which strips the comments from params.yaml
    python -m tools.reference --check    # exit 1, naming what is out of date

What a setting does is said once, in its field (`checked(check, about)` in the settings modules); what a stage does, in
its `desc` in dvc.yaml.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

import networkx as nx
import yaml

from permeation.config import Config
from permeation.frame.checks import Settings
from permeation.frame.errors import PermeationError
from permeation.frame.pipeline import stages_of
from permeation.frame.tables import read_yaml

PROJECT = Path(__file__).parents[1]
WIDTH = 118
PARAMETERS = """# Parameters

Every key of `params.yaml`. Change one in the file, or for a single run with `dvc exp run -S key=value`; only the stages
that depend on it run again. `dvc exp run` strips the comments from `params.yaml`; `python -m tools.reference` writes
them back and keeps the values. This page is made from the settings' own descriptions by the same command.
"""
HEAD = """# What each key accepts: docs/parameters.md. `dvc exp run -S key=value` takes these comments away, which
# `python -m tools.reference` writes; `make back` brings the committed file and its results back."""
STAGES = """# Stages

What `dvc stage list` prints, with the parameters of each stage. A stage writes its folder under `data/`; the report
stages write `metrics/`, `plots/` and `report.html`. The last three stand in `heads/dvc.yaml`: a plain `dvc repro`
leaves them out, and `dvc repro heads/dvc.yaml` runs them ([heads](heads.md)). Made from both files by
`python -m tools.reference`.
"""
GRAPH = """An arrow leads from a stage to one that needs it; it is left out where a longer way leads there. `dvc dag`
draws all of them."""


class _Blocks(yaml.SafeDumper):
    """YAML with the items of a list indented under its key, as params.yaml has them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Shares such as "90%" in quotes, so that nobody takes them for numbers; names as they are."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if text[:1].isdigit() else None)


_Blocks.add_representer(str, _text)


def settings_of(cls: type[Settings]) -> Iterator[tuple[Field[Any], type[Settings] | None]]:
    """The fields of a group of settings, each with the class of its section if it is one."""
    hints = get_type_hints(cls)
    for each in fields(cls):
        kind = hints[each.name]
        yield each, kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def accepted(setting: Field[Any]) -> str:
    """What the setting's check accepts, in the words of its own message."""
    check = setting.metadata["check"]
    try:
        check("", object())
    except PermeationError as error:
        words = str(error).rpartition("accepted: ")[2]
    try:
        check("", None)
    except PermeationError:
        return words
    return f"null, or {words}"


def parameters_page() -> str:
    """docs/parameters.md."""
    parts = [PARAMETERS]
    alone = [each for each, section in settings_of(Config) if section is None]
    parts.append(_table("", alone))
    for each, section in settings_of(Config):
        if section is not None:
            parts += [f"## {each.name}\n", _table(section.prefix, [field for field, _ in settings_of(section)])]
    return "\n".join(parts)


def _table(prefix: str, settings: list[Field[Any]]) -> str:
    rows = [
        f"| `{prefix}{each.name}` | {_cell(each.metadata['about'])} | {_cell(accepted(each))} |" for each in settings
    ]
    return "\n".join(["| key | what it does | accepted |", "|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def commented(params: Mapping[str, Any]) -> str:
    """params.yaml with these values, and above each key what it does."""
    lines = HEAD.splitlines()
    for each, section in settings_of(Config):
        if section is None:
            lines += _entry(each, params[each.name], "")
            continue
        lines += ["", f"{each.name}:"]
        for field, _ in settings_of(section):
            lines += _entry(field, params[each.name][field.name], "  ")
    return "\n".join(lines) + "\n"


def _entry(setting: Field[Any], value: Any, indent: str) -> list[str]:
    about = textwrap.wrap(setting.metadata["about"], WIDTH - len(indent))
    entry = yaml.dump({setting.name: value}, Dumper=_Blocks, allow_unicode=True, width=1000).rstrip()
    return [*(f"{indent}# {line}" for line in about), *textwrap.indent(entry, indent).splitlines()]


def stages_page() -> str:
    """docs/stages.md."""
    stages = stages_of(PROJECT)
    rows = [
        f"| `{name}` | {stage['desc']} | {', '.join(f'`{key}`' for key in stage.get('params', ())) or '–'} |"
        for name, stage in stages.items()
    ]
    table = "\n".join(["| stage | what it does | parameters |", "|---|---|---|", *rows])
    return f"{STAGES}\n{table}\n\n{GRAPH}\n\n```mermaid\n{graph(stages)}\n```\n"


def graph(stages: Mapping[str, Any]) -> str:
    """The stages as a Mermaid flowchart, an arrow from each to those that need it; what longer ways say is left out."""
    writer = {path: name for name, stage in stages.items() for path in map(_path, _written(stage))}
    needs = nx.DiGraph((writer[dep], name) for name, stage in stages.items() for dep in stage["deps"] if dep in writer)
    return "\n".join(["flowchart TD", *sorted(f"    {a} --> {b}" for a, b in nx.transitive_reduction(needs).edges)])


def _written(stage: Mapping[str, Any]) -> list[Any]:
    return [*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())]


def _path(out: str | Mapping[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def written() -> dict[Path, str]:
    """Every file that this tool writes, with what belongs into it."""
    params = PROJECT / "params.yaml"
    return {
        PROJECT / "docs" / "parameters.md": parameters_page(),
        PROJECT / "docs" / "stages.md": stages_page(),
        params: commented(read_yaml(params)),
    }


def outdated() -> list[Path]:
    """The files that are not as `written` has them; a params.yaml that `dvc exp run` has stripped is no mistake."""
    return [
        path
        for path, text in written().items()
        if path.read_text(encoding="utf-8") != text
        and (path.suffix == ".md" or "#" in path.read_text(encoding="utf-8"))
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is out of date")
    if parser.parse_args().check:
        stale = outdated()
        sys.exit(f"out of date, run python -m tools.reference: {', '.join(map(str, stale))}" if stale else 0)
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

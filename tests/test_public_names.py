"""What one uses from a notebook: the public names, and the examples of the pages."""

import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import pytest
import torch

import permeation
from tests.conftest import PROJECT
from tests.support import tiny


def example(page: str) -> str:
    """The one example in Python on a page."""
    (code,) = re.findall(r"```python\n(.*?)```", (PROJECT / page).read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


@pytest.mark.parametrize("name", permeation.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(permeation, name).__name__ == name
    assert name in dir(permeation)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, permeation; print({'torch', 'numpy', 'yaml'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_sigma_of_own_residuals() -> None:
    names: dict[str, Any] = {"model": tiny.model("gpt2"), "tokenizer": tiny.tokenizer()}
    exec(example("README.md"), names)
    assert names["sigma"].shape == (1, tiny.LAYERS)
    river, money = names["river"], names["money"]
    along = permeation.order_parameter(river, permeation.contrast(river[:, -1], money[:, -1]))
    assert along[:, -1].mean() > 0


def test_the_ratio_of_an_own_change() -> None:
    def change(changed: Any) -> None:
        with torch.no_grad():
            changed.lm_head.weight.mul_(1.5)

    text = (PROJECT / "data" / "words.yaml").read_text(encoding="utf-8")
    names: dict[str, Any] = {"model": tiny.model("gpt2"), "tokenizer": tiny.tokenizer(), "text": text, "change": change}
    code = example("docs/weights.md").replace("512", "16").replace("4096", "128")
    with redirect_stdout(StringIO()) as printed:
        exec(code, names)
    assert len(names["untouched"]) == 8
    assert not np.allclose(names["changed"], names["untouched"])
    assert "low=" in printed.getvalue()

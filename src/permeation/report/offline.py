"""Make `dvc plots` pages that open without a network: `python -m permeation.report.offline`, once per checkout.

DVC's own pages load Vega from a content delivery network. This writes a page template with the scripts inside it,
taken from the package vl-convert-python, and names it in the checkout's local DVC configuration, next to it. Both
files stay out of git, and without them `dvc plots` works as it does everywhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{{refresh_tag}}
<title>semantic-permeation: plots</title>
<script>
{scripts}
</script>
<style>
body {{ font-family: system-ui, sans-serif; margin: 1.5rem auto; max-width: 62rem; padding: 0 1rem; }}
body > div {{ margin: 0 0 2.5rem; overflow-x: auto; background: #fff; border-radius: 4px; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #14171a; }} body > div {{ padding: .5rem; }} }}
@media print {{ body > div {{ break-inside: avoid; overflow: visible; }} }}
</style>
</head>
<body>
{{plot_divs}}
</body>
</html>
"""
VEGA_LITE = "5.20"


def write_page(folder: Path) -> Path:
    """Write the template into a .dvc folder; gives its path."""
    import vl_convert

    scripts = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # type: ignore[call-arg]  # its stub lacks the default
    # The page's own markers are in braces; a script that ends early would close its tag.
    assert "</script" not in scripts
    path = folder / "plots_page.html"
    path.write_text(PAGE.format(scripts=scripts), encoding="utf-8")
    return path


def main() -> None:
    """Write the page and name it in .dvc/config.local; exits 1 with one line outside a DVC project."""
    folder = Path(".dvc")
    if not folder.is_dir():
        sys.exit(f"offline: {folder.resolve()} is missing; this is run in the folder that holds dvc.yaml")
    path = write_page(folder)
    command = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", path.name]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

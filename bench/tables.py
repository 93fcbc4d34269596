"""What the bench of the scorer found, as tables; apart from it, so that pages are written without its libraries."""

from __future__ import annotations

from typing import Any


def table(found: dict[str, Any]) -> str:
    """One processor's results in Markdown."""
    lines = [
        "| model | scorer | library | × labels= | range | share of the best ceiling | NLL − float32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, model in found["models"].items():
        exact = model["candidates"]["ours, float32"]["nll_per_token"]
        lines += [
            f"| {name} | {scorer} | {row['library']} | {row['ratio']:.2f} | "
            f"{row['ratio_low']:.2f} – {row['ratio_high']:.2f} | "
            f"{100 * row['share_of_ceiling']:.0f} % | {row['nll_per_token'] - exact:+.1e} |"
            for scorer, row in model["candidates"].items()
        ]
    lines += ["", "| model | matmul ceiling | GFLOP/s |", "|---|---|---|"]
    for name, model in found["models"].items():
        peaks = model["matmul_flops_per_second"].items()
        lines += [f"| {name} | {which} | {speed / 1e9:,.0f} |" for which, speed in peaks]
    if found["rounding"]:
        lines += ["", "| | float32 | bfloat16 | bfloat16 / float32 − 1 |", "|---|---|---|---|"]
    for row in found["rounding"]:
        exact, rounded = row["float32"], row["bfloat16"]
        lines.append(f"| {row['what']} | {exact:.4f} | {rounded:.4f} | {rounded / exact - 1:+.1e} |")
    return "\n".join(lines)

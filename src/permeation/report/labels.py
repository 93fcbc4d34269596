"""What things are called in tables, figures and sentences: here, and where Vega compares with it in .dvc/plots/."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# Null models.
SHUFFLED, SENSELESS = "senses shuffled", "no sense in the direction"
# Heads that a spectrum is of: the model's, and those of the same sizes in random directions.
OWN, RANDOM, UNIT = "as they are", "random frames", "unit norm"
# Forms of W_QK.
FORMS = {
    "gram": "gram form",
    "circuit": "circuit form",
    "score": "score form",
    "score_centred": "score form, mean key out",
}
# Stages may write the key in a table; the reports put the name in its place.
NULLS = {"senses_shuffled": SHUFFLED, "within_senses": SENSELESS}
HEADS = {"own": OWN, "unit": UNIT, "null": RANDOM, "unit_null": f"{RANDOM}, {UNIT}"}
NAMES = {"condition": NULLS, "part": NULLS, "word": NULLS, "heads": HEADS}  # by column


def named(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table with names in place of keys."""
    return [{column: NAMES.get(column, {}).get(value, value) for column, value in row.items()} for row in rows]

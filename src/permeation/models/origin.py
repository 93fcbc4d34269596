"""What is recorded of where a model or a text came from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where a model or text came from, as it is recorded next to it; no path of the machine is kept.

    Attributes:
        name: what the person asked for. source: what that stood for. revision: the commit that the hub resolved, or
            the SHA-256 of a file. terms: what its use is bound to, where that has to be said.
        attention_bits: bits for each number of W_Q and W_K in a quantised file.
    """

    name: str
    source: str
    revision: str | None
    terms: str | None = None
    attention_bits: float | None = None

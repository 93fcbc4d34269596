"""How a language model settles the sense of a word, and whether its attention heads share a small subspace.

The names below are those that one uses from a notebook. Each is imported when it is first used, so that
`import permeation` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The public names of each module.
_PUBLIC = {
    "frame.errors": ("PermeationError",),
    "meaning.sigma": ("contrast", "order_parameter"),
    "meaning.words": ("read_words",),
    "models.load": ("load_folded", "load_model"),
    "models.tokenizer": ("load_tokenizer",),
    "perplexity.nll": ("window_nll",),
    "perplexity.ratio": ("estimate",),
    "perplexity.windows": ("Text",),
    "rivals.stored": ("read_packed",),
    "takeaway": ("apply",),
    "weights.forms": ("circuit_kernel", "gram_kernel"),
    "weights.heads": ("read_heads",),
    "weights.inject": ("GramInjection", "injected"),
    "weights.pca": ("fit_pca",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """A public name, imported at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'permeation' has no attribute {name!r}")
    return getattr(import_module(f"permeation.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """All names, also those that nobody has used yet."""
    return sorted({*globals(), *_MODULES})

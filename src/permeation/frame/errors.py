"""The one exception whose message is for the person who runs the pipeline."""

import textwrap


class PermeationError(Exception):
    """Something is wrong with the input; one line names the key or the file, what was found and what is accepted."""


def one_line(error: Exception) -> str:
    """What an error says, in one readable line."""
    return textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=" …")

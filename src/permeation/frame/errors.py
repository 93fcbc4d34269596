"""The one exception a person who runs the pipeline is meant to read."""


class PermeationError(Exception):
    """Bad input or a bad state, said in one line: the key or the file, what was found, what is accepted."""

"""The one exception whose message is for the person who runs the pipeline."""


class PermeationError(Exception):
    """Something is wrong with the input; one line names the key or the file, what was found and what is accepted."""

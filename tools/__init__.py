"""Tools for those who work on the project: they write what is generated and check it."""

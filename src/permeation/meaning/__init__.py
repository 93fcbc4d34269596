"""The meaning axis: how a residual stream settles on a sense. Arrays in, arrays out; no files, no printing."""

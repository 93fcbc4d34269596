"""What a run found: in words, in figures, on a page."""

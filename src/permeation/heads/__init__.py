"""Where both axes meet: which heads bring the sense of a word, and what compression does to it (docs/heads.md)."""

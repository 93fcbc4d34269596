"""How a language model settles the sense of a word, and whether its attention heads share a small subspace."""

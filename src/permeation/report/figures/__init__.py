"""Figures from the same long-format rows that `dvc plots` draws: rows in, a matplotlib Figure out."""

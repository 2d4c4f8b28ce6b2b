"""The columns and constants of the spine model, for contenders that must not import `scoring`: its import is no cost of theirs."""

from __future__ import annotations

NUMBERS = tuple(f"x{n:02d}" for n in range(16))
CATEGORIES = tuple(f"c{n}" for n in range(4))
WORDS, DIM = 1_000, 8  # known values of a category, and numbers that each is embedded in; slot 0 is for the unknown
MEANS = tuple(float(n) for n in range(len(NUMBERS)))  # a null counts as the mean
SCALES = tuple(1 + n / 4 for n in range(len(NUMBERS)))
TREE_COLUMNS = tuple(f"x{n:02d}" for n in range(28))

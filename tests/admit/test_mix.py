"""Whom rules cost, by value: the same however rows are split; free text never leaves."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scoring.admit.mix import MOST_VALUES, Mix, compared
from scoring.settings import Column

ROWS = 6_000
RNG = np.random.default_rng(0)
BATCH = pa.record_batch(
    {
        "group": pa.array(RNG.choice(["a", "b", None], ROWS).tolist()).dictionary_encode(),
        "flag": RNG.random(ROWS) < 0.5,
        "free": [f"text {n}" for n in range(ROWS)],
    }
)
BAD = np.flatnonzero(RNG.random(ROWS) < 0.05)
REASONS = [(("x:null",), ("x:null", "rule:r"))[n % 2] for n in range(len(BAD))]


def mixed(edges: list[int]) -> dict[str, dict[str, dict[str, int]]]:
    mix = Mix(("group", "flag", "free"))
    for start, stop in pairwise(edges):
        inside = (start <= BAD) & (stop > BAD)
        reasons = [r for r, there in zip(REASONS, inside, strict=True) if there]
        mix.add(BATCH.slice(start, stop - start), np.arange(start, stop), BAD[inside] - start, reasons)
    return mix.finished()


@given(st.lists(st.integers(0, ROWS), max_size=4))
def test_windows_do_not_matter(cuts):
    assert mixed([0, *sorted(cuts), ROWS]) == mixed([0, ROWS])


def test_lost_rows_are_counted_and_all_rows_estimated():
    found = mixed([0, ROWS])
    assert sum(found["x:null"]["group"].values()) == len(BAD)
    assert sum(found["rule:r"]["flag"].values()) == len(BAD) // 2
    whole = found[""]["group"]
    assert set(whole) == {"a", "b", "(null)"}
    assert abs(sum(whole.values()) - ROWS) < 64
    first = BATCH.column("group").slice(0, 4096).to_pylist()
    assert whole["a"] >= first.count("a")
    assert (whole["a"] - first.count("a")) % 64 == 0


def test_free_text_does_not_leave():
    assert "text" not in str(mixed([0, ROWS]))
    assert set(mixed([0, 1])[""]) == {"group", "flag", "free"}
    assert "free" not in mixed([0, MOST_VALUES + 1])[""]


def test_which_columns_are_compared():
    columns = {"id": Column("string", role="id"), "code": Column("string", pattern="a.*"), "n": Column("int64")}
    columns |= {"group": Column("string"), "hour": Column("int32", allowed=(0, 1)), "new": Column("bool", role="feature")}
    assert compared(columns) == ("group", "hour", "new")

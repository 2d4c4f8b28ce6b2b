"""JSON Lines by blocks and line by line are one reading: held against a slow one that looks at one line at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from read_windows import places, rows_of, windows

from scoring.sources.json_blocks import parsed

WANTED = ["a", "b", 'ö"', "never"]
KEYS = ["a", "b", 'ö"', "c"]
VALUES = [
    None, True, 0, -1, 7, 2**53, 2**53 + 1, -(2**63), 2**63, 10**30, 0.5, -0.25, 1e300, 12345678901234567.0, "", "x", "é",
    "2020-01-01", "12", "NaN", "a\"b", "\n", {"k": [1]}, [],
]  # fmt: skip
BROKEN = [
    b"", b"  ", b"\r", b"{", b"[1]", b"5", b'{"a": 1} {"a": 2}', b'{"a": 1}{"b":', b"2}", b'{"a":', b"1}", b'{"a": 1,}',
    b'{"a": NaN}', b'{"a": [-Infinity]}', b'{"a": "\xff"}', b'{"c": "\xff"}', b'{"a": "\\ud800"}', b'{"c": "\\ud800"}',
    b'{"a": 01}', b'{"a": "\t"}', b'{"a": 1, "a": 2}', b'{"a": 1, "a": "x"}', b'{"\\u0061": 3}', b'{"\\u0062": null}',
    b' {"a": 4} ', b'{"a": 1e400}', b'{"a": -0}', b'\x0b{"a": 1}', b'{"a": 1}\r', b'{"a": "\\ud83d\\ude00"}', b'{}',
    b'{"a": "x\\', b'{"c": [{}', b'{"b": 1}]}',
]  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=4).map(
    lambda row: json.dumps(row, ensure_ascii=len(row) % 2 == 0).encode()
)
LINES = st.one_of(OBJECTS, OBJECTS, st.sampled_from(BROKEN))
# Runs of one line make pieces that are refused and pieces that are not.
FILES = st.lists(st.tuples(LINES, st.sampled_from([1, 1, 1, 2, 300, 700])), max_size=8)


def reference(lines: list[bytes]) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Objects by place, and the places of what is none."""
    rows, bad, place = {}, [], -1
    for line in lines:
        if not line.strip():
            continue
        place += 1
        try:
            row = json.loads(line.decode(), parse_constant=lambda name: 1 / 0)
            json.dumps(row, ensure_ascii=False).encode()
            rows[place] = dict(row)
        except (ValueError, ZeroDivisionError, TypeError):
            bad.append(place)
    return rows, bad


def column(values: list[Any]) -> tuple[pa.DataType, list[Any]]:
    """By the rule: one type that holds every value as it is, or else text."""
    kinds = {type(v) for v in values} - {type(None)}
    largest = max([abs(v) for v in values if type(v) is int], default=0)
    if kinds <= {bool}:
        return (pa.bool_() if kinds else pa.null()), values
    if kinds == {int} and largest < 2**63:
        return pa.int64(), values
    if kinds == {float} or (kinds == {int, float} and largest <= 2**53):
        return pa.float64(), [v if v is None else float(v) for v in values]
    return pa.string(), [v if v is None or type(v) is str else json.dumps(v, ensure_ascii=False) for v in values]


@settings(max_examples=120)
@given(FILES, st.sampled_from([7, 100, 10_000]), st.booleans())
@example([(b'{"a": 1}', 700), (b'{"a": 2.5}', 1), (b'{"a": 9007199254740993}', 700)], 100, True)
@example([(b'{"b": "x"}', 700), (b'{"b": "y", "a": null}', 300), (b'{"\\u0061": 7}', 700)], 100, True)
@example([(b'{"a": {"k": 1}}', 700)] * 60, 10_000, True)
def test_blocks_and_lines_read_the_same(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[bytes, int]], rows: int, pruned: bool
) -> None:
    lines = [line for line, times in runs for _ in range(times)]
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    wanted, bad = reference(lines)
    found = windows("jsonl", path, WANTED if pruned else None, rows=rows)
    assert places(found) == (list(wanted), bad)
    names = list(dict.fromkeys(key for row in wanted.values() for key in row if not pruned or key in WANTED))
    made = {name: column([row.get(name) for row in wanted.values()]) for name in names}
    for window in found:
        assert {f.name: f.type for f in window.batch.schema} == {name: kind for name, (kind, _) in made.items()}
    read = rows_of(found)
    assert {name: [row[name] for row in read] for name in names} == {name: values for name, (_, values) in made.items()}
    assert all(window.batch.schema.names == names for window in found)


def test_large_files_are_read_by_blocks(tmp_path: Path) -> None:
    """Several blocks, and what comes late changes the type of what came first."""
    lines = [json.dumps({"n": n, "t": f"text {n}", "f": n / 3}) for n in range(120_000)]
    lines[0] = "\ufeff" + lines[0]  # a byte order mark is no part of the first line
    lines[70_000] = "{broken"
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n" + json.dumps({"n": "late"}) + "\n")
    assert path.stat().st_size > 4 << 20
    found = windows("jsonl", path, ["n", "f", "t"], rows=50_000)
    good, bad = places(found)
    assert (len(good), bad) == (120_000, [70_000])
    values = pa.chunked_array([window.batch.column("n") for window in found])
    assert values.to_pylist() == [*(str(n) for n in range(120_000) if n != 70_000), "late"]
    assert sum(pa.chunked_array([window.batch.column("f") for window in found]).is_null().to_pylist()) == 1


def test_arrow_is_asked_only_what_it_answers_exactly() -> None:
    types = {"a": pa.int64(), "t": pa.string()}
    batch = parsed(b'{"a": 1, "z": 3}\n{"t": "2020-01-01", "z": {}}', 2, types, True)
    assert batch is not None
    assert batch.to_pylist() == [{"a": 1, "t": None}, {"a": None, "t": "2020-01-01"}]
    for text in (
        b'{"a": 1.0}',
        b'{"a": 9223372036854775808}',
        b'{"t": 5}',
        b'{"a": NaN}',
        b'{"z": NaN}',
        b'{"z": "\xff"}',
        b'{"a": 1}{}',
    ):
        assert parsed(text, 1, types, True) is None
    assert parsed(b'{"z": 1}', 1, types, False) is None

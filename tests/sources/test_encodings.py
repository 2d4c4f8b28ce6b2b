"""Bytes that are no text: a line costs itself only, at its place, text kept; a file in another encoding is named, with advice."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from read_windows import places, rows_of, windows

from scoring.errors import SourceError
from scoring.settings import Csv


def file(folder: Path, data: bytes, name: str = "a.csv") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_a_line_that_is_not_utf8_costs_itself_only(tmp_path: Path) -> None:
    data = b'a,b\n1,x\n2,\xff\xfe\n3,"two\nlines \xe9"\n4,\n\n5,y\xe9,z\n\xc3\n6,NA\n7,\xc3\xa9\n8,8\n9,9\n'
    found = windows("csv", file(tmp_path, data), ["a", "b"], rows=2, csv=Csv(null_values=("", "NA")))
    assert rows_of(found) == [{"a": a, "b": b} for a, b in zip("146789", ["x", None, None, "é", "8", "9"], strict=True)]
    assert places(found) == ([0, 3, 6, 7, 8, 9], [1, 2, 4, 5])
    lines = [(r.text, r.reason) for w in found for r in w.rejected]
    assert lines == [(text, "line:encoding") for text in ("2,\\xff\\xfe", '3,"two\nlines \\xe9"', "5,y\\xe9,z", "\\xc3")]


def test_it_does_not_matter_which_column_is_asked_for(tmp_path: Path) -> None:
    path = file(tmp_path, b"a,b\n1,\xff\n2,y\n3,z\n")
    for columns in (["a"], ["b"], [], None):
        found = windows("csv", path, columns)
        assert places(found) == ([1, 2], [0])
        assert sum(w.batch.num_rows for w in found) == 2


LONG = 4 << 20  # a block of the reader


@pytest.mark.parametrize("packed", [False, True])
def test_rows_before_a_late_bad_byte_are_handed_out_once(tmp_path: Path, packed: bool) -> None:
    lines = [b"%d,%s" % (n, b"x" * 60) for n in range(3 * LONG // 64)]
    bad = [10, len(lines) // 2, len(lines) - 1]
    for n in bad[1:]:
        lines[n] += b"\xff"
    lines[bad[0]] += b",too,many"
    data = b"a,b\n" + b"\n".join(lines) + b"\n"
    found = windows("csv", file(tmp_path, gzip.compress(data, 1) if packed else data, "a.csv.gz"), ["a"], rows=10_000)
    good, rejected = places(found)
    assert rejected == bad
    assert good == [n for n in range(len(lines)) if n not in bad]
    assert [int(row["a"]) for row in rows_of(found)] == good


CELLS = [b"a", b"", b" ", b"\xff", b"\xc3\xa9", b"\xe9\x80", b'"', b",", b"\n", b"\xef\xb7\x90"]  # the last: half of a mark
FIELDS = st.lists(st.sampled_from(CELLS), max_size=3)


@settings(max_examples=150)
@given(st.lists(st.lists(FIELDS.map(b"".join), min_size=1, max_size=3), max_size=12), st.integers(1, 4), st.booleans())
def test_every_record_is_a_row_or_rejected_as_if_the_bytes_were_letters(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[bytes]], rows: int, strip: bool
) -> None:
    """The reference: the same records with "Z" for each bad byte tell which of the others are rows, and how they read."""
    folder = tmp_path_factory.mktemp("csv")
    quoted = [b",".join(b'"' + cell.replace(b'"', b'""') + b'"' for cell in record) for record in records]
    bad = [n for n, line in enumerate(quoted) if not _is_utf8(line)]
    form = Csv(null_values=("a",), strip=strip)
    path = file(folder, b"a,b\n" + b"\n".join(quoted))
    if 2 * len(bad) > len(records):
        with pytest.raises(SourceError, match=r"not utf-8: \d+ of \d+ lines.*source\.csv\.encoding"):
            windows("csv", path, rows=rows, csv=form)
        return
    found = windows("csv", path, rows=rows, csv=form)
    clean = [line if n not in bad else b'"Z"' for n, line in enumerate(quoted)]  # one field: no row either
    other = windows("csv", file(folder, b"a,b\n" + b"\n".join(clean), "b.csv"), rows=100, csv=form)
    assert rows_of(found) == rows_of(other)
    assert places(found) == places(other)
    assert [r.row for w in found for r in w.rejected if r.reason == "line:encoding"] == bad


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("a,b\nzwölf,1\nfünf,2\nx,3\n", "latin-1"), ("a,b\n1,2\n", "utf-16"), ("a,b\n1,2\n", "utf-16-le"), ("a,é\n1,2\n", "cp1252")],
)
def test_a_file_in_another_encoding_is_named_with_advice(tmp_path: Path, text: str, encoding: str) -> None:
    path = file(tmp_path, text.encode(encoding))
    with pytest.raises(SourceError, match=r"not utf-8.*Set source\.csv\.encoding"):
        windows("csv", path)
    assert len(rows_of(windows("csv", path, csv=Csv(encoding=encoding)))) == text.count("\n") - 1


def test_other_encodings_have_bad_bytes_too(tmp_path: Path) -> None:
    path = file(tmp_path, b"a,b\n1,x\n2,\x81\n3,y\n")
    found = windows("csv", path, csv=Csv(encoding="cp1252"))
    assert (places(found), [r.text for w in found for r in w.rejected]) == (([0, 2], [1]), ["2,\\x81"])


def test_a_file_without_quotes_keeps_its_lines(tmp_path: Path) -> None:
    found = windows("csv", file(tmp_path, b'a;b\n1;"\n2;"\xff\n3;x\n'), csv=Csv(quote="", delimiter=";"))
    assert (rows_of(found)[0]["b"], [r.text for w in found for r in w.rejected]) == ('"', ['2;"\\xff'])

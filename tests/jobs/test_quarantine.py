"""The workbench counts what is there, in any size, and shows nothing that may be somebody's."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import ConfigError
from scoring.jobs.arguments import words
from scoring.jobs.quarantine import command, quarantine, render, shown
from scoring.settings import Sink
from scoring.sinks.publish import Identity, publish
from scoring.sinks.staged import StagedWriter
from scoring.stores import LocalStore
from scoring.types import BadFile, Counts, Fragment, Output, Slice

RULES = ("amount:range", "amount:type", "email:allowed", "n:null")
CONFIG = "contract: {columns: {amount: {dtype: string}, n: {dtype: int64, pii: direct}, email: {dtype: string}}}\n"
Row = tuple[str, tuple[str, ...]]  # stage, reasons


def workspace(folder: Path, partitions: dict[str, list[Row]], config: str = CONFIG, lost: int = 0) -> Path:
    """A published partition of bad rows each, under run r-<key>; the first has lost a file of `lost` rows too."""
    store = LocalStore(str(folder))
    for number, (key, rows) in enumerate(partitions.items()):
        run = f"r-{key}"
        store.put(f"runs/{run}/run.json", b"{}")
        store.put(f"runs/{run}/config.yaml", config.encode())
        work = Slice(key, (Fragment(f"/in/{key}", "1", (0, 1), 0, len(rows), 1),))
        writer = StagedWriter(store, run, work, "a", Sink(row_group_rows=3), "1", [Output("score")])
        for place, (stage, reasons) in enumerate(rows):
            raw = pa.record_batch({"amount": ["12,5"], "n": [place], "email": [f"anna{place}@example.org"], "secret": ["hush"]})
            writer.quarantine(raw, f"/in/{key}/{place % 2}", np.array([place]), stage, [reasons])
        gone = (BadFile("/in/cut", "read", "footer missing", lost),) if lost and not number else ()
        for bad in gone:
            writer.bad_file(bad)
        count = len(rows) + sum(bad.rows for bad in gone)
        receipt = writer.commit(rows_in=count, counts=Counts(0, count), bad_files=gone)
        publish(store, Identity(run, {}, {}, "f"), key, "in", [receipt], ())
    return folder


ROWS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.lists(st.sampled_from(RULES), min_size=1, max_size=3, unique=True).map(tuple)),
        st.tuples(st.just("score"), st.sampled_from([("ValueError: poison: 7",), ("non-finite",)])),
    ),
    max_size=12,
)


@given(ROWS, st.integers(0, 3))
def test_counts_are_those_of_a_slow_look(tmp_path_factory: pytest.TempPathFactory, rows: list[Row], samples: int) -> None:
    place = workspace(tmp_path_factory.mktemp("q") / "w", {"day=1": rows}, lost=5)
    found = quarantine(str(place), samples=samples)
    spelled = [[f"{stage}:{r.split(': ')[0] if stage == 'score' else r}" for r in reasons] for stage, reasons in rows]
    assert found.rows == len(rows) + 5
    assert found.reasons == Counter(r for row in spelled for r in row) + Counter({"read:unreadable": 5})
    assert found.pairs == Counter(f"{a} & {b}" for row in spelled for a, b in combinations(sorted(row), 2))
    assert found.files == Counter(f"/in/day=1/{n % 2}" for n in range(len(rows))) + Counter({"/in/cut": 5})
    wanted = {rule: min(samples, sum(rule in row for row in spelled)) for rule in found.reasons if rule != "read:unreadable"}
    assert Counter(s.rule for s in found.samples if s.row is not None) == Counter(wanted)
    for sample in found.samples:
        assert sample.row is None or sample.rule in spelled[sample.row]


def test_samples_show_the_value_that_broke_the_rule_and_no_person(tmp_path: Path) -> None:
    bad: list[Row] = [("admit", ("amount:type", "email:allowed", "n:null"))]
    found = quarantine(str(workspace(tmp_path / "w", {"day=1": bad})))
    assert {s.rule: s.value for s in found.samples} == {
        "admit:amount:type": "'12,5'",
        "admit:email:allowed": "str like 'aaaa9@aaaaaaa.aaa'",
        "admit:n:null": "int like '9'",
    }
    said = json.dumps(found, default=vars) + render(found)
    assert not [word for word in ("anna", "hush") if word in said]


@pytest.mark.parametrize("config", ["", "contract: 7", "{"])
def test_where_the_contract_cannot_be_read_all_is_masked(tmp_path: Path, config: str) -> None:
    found = quarantine(str(workspace(tmp_path / "w", {"day=1": [("admit", ("amount:type",))]}, config)))
    assert [s.value for s in found.samples] == ["str like '99,9'"]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("12,5", "'12,5'"),
        (" 7", "' 7'"),
        ("N/A", "'N/A'"),
        ("1e400", "'1e400'"),
        ("", "''"),
        (9_999_999.99, "9999999.99"),
        (31, "31"),
        (True, "True"),
        (None, "null"),
        (4111111111111111, "int like '9999999999999999'"),
        ("+41 79 123 45 67", "str like '+99 99 999 99 99'"),
        ("0791234567", "str like '9999999999'"),
        ("Zoë\x1b[2J", "str like 'aaa?[9a'"),
        ("x" * 99, f"str like '{'a' * 24}…'"),
        (b"raw", "a bytes"),
        ({"name": "Anna"}, "a dict"),
        (["Anna"], "a list"),
    ],
)
def test_what_may_be_seen(value: Any, seen: str) -> None:
    assert shown(value) == seen


@pytest.mark.parametrize("value", ["12,5", 31, 3.5, True, "Anna", b"x"])
def test_nothing_of_a_hidden_value_is_seen(value: Any) -> None:
    assert str(value) not in shown(value, hidden=True)


def test_of_one_partition_or_run(tmp_path: Path) -> None:
    row: Row = ("admit", ("amount:range",))
    place = str(workspace(tmp_path / "w", {"day=1": [row], "day=2": [row, row]}))
    assert [quarantine(place, *choice).rows for choice in ((), ("day=1",), ("day=2",), (None, "r-day=1"))] == [3, 1, 2, 1]
    with pytest.raises(ConfigError, match=r"under partition=day=3\. Nearest: day="):
        quarantine(place, "day=3")
    found, code = command(words("quarantine", [f"workspace={place}", "partition=day=2", "samples=0"]))
    assert (found.rows, found.samples, code) == (2, (), 0)

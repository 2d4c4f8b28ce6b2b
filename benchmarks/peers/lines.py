"""A part of the comparison by itself, told as JSON lines: what `make bench-spine`, `bench-text` and `bench-forest` print."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.cases import TEXTS, Case, prepare
from peers.turns import CHECKED, Log, Turns

Line = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """`theirs` is measured on another case where it says so."""

    name: str
    case: Case
    ours: str
    theirs: str
    beside: Case | None = None


def measured(
    cases: Sequence[Case], names: Sequence[str], folder: Path, rounds: int, texts: Path = TEXTS,
    only: Mapping[str, Sequence[str]] | None = None,
) -> list[Line]:  # fmt: skip
    """Lines of raw.jsonl, the check before the clock included. `only`: which contenders, by the name of a case.

    Raises: SystemExit: a contender failed, or its answers are not those of the others.
    """
    folder = folder.absolute()
    places = {case.name: prepare(case, folder, texts) for case in cases}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        log = Log(Path(place) / "raw.jsonl")
        turns = Turns(log, Path(place), places, only or {})
        turns.go(cases, names, rounds)
        found = log.lines()
    for line in found:
        wrong = line.get("error") or (not line["agreement"]["holds"] and line["agreement"] if "agreement" in line else None)
        if wrong:
            raise SystemExit(f"{line['case']}, {line['contender']}: {wrong}")
    return [line for line in found if "machine" not in line and line.get("round") != CHECKED]


def printed(found: Sequence[Line], pairs: Sequence[Pair]) -> None:
    """One JSON object for each pair: medians of rows per second."""
    for pair in pairs:
        mine, theirs = _rates(found, pair.case, pair.ours), _rates(found, pair.beside or pair.case, pair.theirs)
        a, b = statistics.median(mine), statistics.median(theirs)
        row = {"name": pair.name, "ours": round(a, 1), "theirs": round(b, 1), "ratio": round(a / b, 3)}
        print(json.dumps(row | {"unit": "rows/s", "n": len(mine)}))


def agreements(found: Sequence[Line], case: Case, names: Sequence[str]) -> None:
    """One JSON object for each contender: its largest difference from the library."""
    for line in found:
        if "agreement" in line and line["case"] == case.name and line["contender"] in names:
            off, allowed = line["agreement"]["largest"], line["agreement"]["allowed"]
            row = {"name": f"forest {case.kind} {line['contender']}, largest difference from the library", "ours": off}
            print(json.dumps(row | {"theirs": allowed, "ratio": round(off / allowed, 4), "unit": "relative", "n": 1}))


def _rates(found: Sequence[Line], case: Case, name: str) -> list[float]:
    return [line["rate"] for line in found if line["case"] == case.name and line["contender"] == name and "round" in line]

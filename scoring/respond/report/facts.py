"""What a report is made of: plain data, gathered once. The same facts give the same page, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scoring.errors import StoreError
from scoring.types import BadFile, Check, Cost, PartitionRecord, RunRecord
from scoring.watch.drift import Finding


@dataclass(frozen=True)
class Histogram:
    """Rows by cell, cells named by `labels`. `before` are those of the baseline; `ordered`: cells follow each other on a scale."""

    labels: tuple[str, ...]
    before: tuple[int, ...]
    now: tuple[int, ...]
    ordered: bool


@dataclass(frozen=True)
class Found:
    """A comparison with the baseline, and the partition it was made in."""

    partition: str
    finding: Finding


@dataclass(frozen=True)
class WatchedColumn:
    """A column of the input, or a score, over all partitions of the run.

    `worst` holds the worst finding of each family, the worst first; `within` the worst of the segments that were found drifted.
    `trail` says for each partition, in order, how often the limit went into the effect (1.0 = at it), and whether it was found.
    `picture` is of the partition that the worst finding is of.
    """

    name: str
    score: bool
    worst: tuple[Found, ...]
    within: tuple[Found, ...] = ()
    trail: tuple[tuple[str, float, bool], ...] = ()
    picture: Histogram | None = None


@dataclass(frozen=True)
class ScoreColumn:
    """A score over all rows of the run. Means are None where they are not known; `picture` needs a baseline."""

    name: str
    rows: int
    mean: float | None
    mean_before: float | None
    picture: Histogram | None


@dataclass(frozen=True)
class Example:
    """A quarantined row; `row` is its place in the file, None where the file was lost as a whole; `value` is masked already."""

    rule: str
    file: str
    row: int | None
    value: str


@dataclass(frozen=True)
class Facts:
    """`workspace` is where the commands of the page point. `settings` are all of the run, by path, as kept. `price` is
    that of a device for an hour. `baseline` says why there is nothing to compare with, "" if there is.
    """

    record: RunRecord
    workspace: str
    settings: Mapping[str, str] = field(default_factory=dict)
    device_share: float = 1.0  # how much of a device a lane holds: GPUs, or cores where there is none
    price: float | None = None
    columns: tuple[WatchedColumn, ...] = ()
    scores: tuple[ScoreColumn, ...] = ()
    examples: tuple[Example, ...] = ()
    baseline: str = ""


def record_of(raw: Mapping[str, Any], where: str) -> RunRecord:
    """`record.json` as it was written; keys that a newer version added are left out.

    Raises:
        StoreError: it is not the record of a run.
    """
    try:
        known = {f.name: raw[f.name] for f in fields(RunRecord) if f.name in raw}
        partitions = [p | {"checks": tuple(Check(**c) for c in p["checks"])} for p in known["partitions"]]
        return RunRecord(
            **known
            | {
                "partitions": tuple(PartitionRecord(**p) for p in partitions),
                "bad_files": tuple(BadFile(**b) for b in known.get("bad_files", ())),
                "costs": tuple(Cost(**c) for c in known.get("costs", ())),
                "notes": tuple(known.get("notes", ())),
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{where} is not the record of a run: {error!r}. Expected the file as scoring run wrote it.") from None

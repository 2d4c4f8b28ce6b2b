"""Runs as a reader knows them: when they began, how they ended or how far they are, what became of their partitions.

`record.json` says how a run ended, `progress.json` how far it is. A run that goes on writes that every second: if it says "running"
and has not been written for a minute, the process is gone, and nobody could say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scoring.respond.ui.shelf import Damaged, Shelf, real, table, text, whole

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # as scoring.ledger.runs takes them
_DATED = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\d*-[0-9a-f]{6}")  # a name that was made for a run
_SILENT_S = 60.0
_OUTCOMES = ("in", "scored", "quarantined", "suppressed")
_MOST_WORDS = 2_000  # characters of a message


@dataclass(frozen=True)
class Part:
    """A partition as a run left it; `warned` says what failed or warned: (check, subject, status, found, expected)."""

    key: str
    status: str
    rows: Mapping[str, int]
    version: int
    warned: tuple[tuple[str, str, str, str, str], ...] = ()


@dataclass(frozen=True)
class Ended:
    """`record.json`, without what only the report needs. `skipped` counts partitions that stood already."""

    status: str
    rows: Mapping[str, int]
    parts: tuple[Part, ...]
    skipped: int
    reasons: Mapping[str, int]
    model: str
    started: str
    finished: str
    message: str
    rate: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """`progress.json`. `eta` is seconds left, from and to."""

    status: str
    updated: str
    done: int
    planned: int
    scored: int
    quarantined: int
    suppressed: int
    slices: tuple[int, int]
    rate: float
    lanes: int
    eta: tuple[float, float] | None


@dataclass(frozen=True)
class Run:
    """`state`: a status of the record, or "running", "silent" (it went on and says nothing any more), "begun" (nothing but its
    beginning is known), "damaged".
    """

    id: str
    started: str
    state: str
    ended: Ended | None = None
    progress: Progress | None = None
    damage: tuple[Damaged, ...] = field(default=())


def ids(shelf: Shelf) -> list[str]:
    """All runs, the newest first."""
    known = [name for name in shelf.folders("runs") if NAME.fullmatch(name)]
    named = [name for name in known if not _DATED.fullmatch(name)]
    began = dict(zip(named, shelf.many(shelf.lasting, (f"runs/{n}/run.json" for n in named), _began), strict=True))
    return sorted(known, key=lambda name: (_when(name, began.get(name)), name), reverse=True)


def load(shelf: Shelf, names: Sequence[str], now: datetime) -> list[Run]:
    """`now` in UTC."""
    ended = shelf.many(shelf.changing, (f"runs/{name}/record.json" for name in names), _ended)
    progress = shelf.many(shelf.changing, (f"runs/{name}/progress.json" for name in names), _progress)
    began = shelf.many(shelf.lasting, (f"runs/{name}/run.json" for name in names), _began)
    return [_run(name, found, now) for name, found in zip(names, zip(ended, progress, began, strict=True), strict=True)]


def _run(name: str, found: tuple[Any, Any, Any], now: datetime) -> Run:
    damage = tuple(one for one in found if isinstance(one, Damaged))
    ended, progress, began = (None if isinstance(one, Damaged) else one for one in found)
    state = _state(ended, progress, damage, now)
    started = str(began or "") or (ended.started if ended else "") or _when(name, None)
    return Run(name, started, state, ended, progress, damage)


def _state(ended: Ended | None, progress: Progress | None, damage: tuple[Damaged, ...], now: datetime) -> str:
    if progress is not None and progress.status == "running":
        if (age := age_s(progress.updated, now)) is not None and age <= _SILENT_S:
            return "running"
        if ended is None or ended.finished < progress.updated:
            return "silent"
    if ended is not None:
        raised = progress is not None and progress.status == "failed" and progress.updated > ended.finished
        return "failed" if raised else ended.status
    if any(one.name.endswith("record.json") for one in damage):
        return "damaged"
    return progress.status if progress is not None else "begun"


def age_s(stamp: str, now: datetime) -> float | None:
    """Seconds since a moment in ISO 8601; None where it is none."""
    try:
        then = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return (now - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()


def _when(name: str, began: Any) -> str:
    """ISO 8601, as far as it is known: by the file of its beginning, or by its name."""
    if found := _DATED.fullmatch(name):
        year, month, day, hour, minute, second = found.groups()
        return f"{year}-{month}-{day}T{hour}:{minute}:{second}+00:00"
    return began if isinstance(began, str) else ""


def _began(raw: Any) -> str:
    return text(raw["started"])


def _ended(raw: Any) -> Ended:
    mine = [one for one in raw["partitions"] if one["status"] != "skipped"]
    rates, model = table(raw["rates"]), table(raw.get("model", {}))
    return Ended(
        status=text(raw["status"]),
        rows=_rows(raw["rows"]),
        parts=tuple(_part(one) for one in mine),
        skipped=len(raw["partitions"]) - len(mine),
        reasons={rule: whole(rows) for rule, rows in table(raw.get("reasons", {})).items()},
        model=" ".join(text(model[word]) for word in ("name", "version") if word in model),
        started=text(raw.get("started", "")),
        finished=text(raw.get("finished", "")),
        message=text(raw.get("message", ""))[:_MOST_WORDS],
        rate=real(rates.get("rows_per_second", 0.0)),
        seconds=real(rates.get("wall_seconds", 0.0)),
    )


def _rows(raw: Any) -> dict[str, int]:
    return {outcome: whole(table(raw).get(outcome, 0)) for outcome in _OUTCOMES}


def _part(raw: Any) -> Part:
    words = ("name", "subject", "status", "actual", "expected")
    bad = [tuple(text(c[word])[:300] for word in words) for c in raw.get("checks", ()) if c["status"] in ("warn", "fail")]
    return Part(text(raw["key"]), text(raw["status"]), _rows(raw["rows"]), whole(raw.get("version", 0)), tuple(bad))  # type: ignore[arg-type]


def _progress(raw: Any) -> Progress:
    rows, slices, eta = table(raw["rows"]), table(raw["slices"]), raw.get("eta_seconds")
    return Progress(
        status=text(raw["status"]),
        updated=text(raw["updated"]),
        done=whole(rows["done"]),
        planned=whole(rows["planned"]),
        scored=whole(raw["scored"]),
        quarantined=whole(raw["quarantined"]),
        suppressed=whole(raw["suppressed"]),
        slices=(whole(slices["done"]), whole(slices["planned"])),
        rate=real(raw["rows_per_second"]),
        lanes=whole(raw["lanes"]),
        eta=(real(eta[0]), real(eta[1])) if eta else None,
    )

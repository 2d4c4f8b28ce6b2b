"""Partitions as they stand: published, with warnings, stale, held, failed, damaged; by newest manifest and newest runs.

Names of manifests are listed, their contents read for the partitions that a page shows. Whether a partition is held or failed is
known from the records of the newest runs: each run tries again what is not published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from scoring.release.change import named
from scoring.respond.ui.runs import Run
from scoring.respond.ui.shelf import Damaged, Shelf, table, text, whole
from scoring.watch.tables import window

ROOT = "scores/_manifests"
BAD = ("failed", "held", "refused", "paused")
STATES = (*BAD, "damaged", "missing", "published-with-warnings", "stale", "published")  # the worst first


@dataclass(frozen=True)
class Published:
    """A manifest, without its files. `quarantined` files are (public name, rows)."""

    key: str
    version: int
    run_id: str
    created: str
    parts: Mapping[str, str]
    model: str
    rows: Mapping[str, int]
    warned: tuple[tuple[str, str, str, str, str], ...]
    released: str
    quarantine: int


@dataclass(frozen=True)
class Standing:
    """`differs` names what the newest published run did otherwise, empty unless it is stale. `run_id` is who says `state`."""

    key: str
    state: str
    run_id: str = ""
    version: int = 0
    rows: Mapping[str, int] | None = None
    differs: tuple[str, ...] = ()
    why: str = ""
    published: Published | None = None


class Partitions:
    """Those of a workspace, for one page. `runs` are the newest, the newest first."""

    def __init__(self, shelf: Shelf, runs: Sequence[Run]) -> None:
        self._shelf = shelf
        self._manifests = newest(shelf.names(ROOT))
        self._tried = _tried(runs)
        self._parts = self._current(runs)

    @property
    def keys(self) -> Collection[str]:
        return self._manifests.keys() | {key for key, (_, part) in self._tried.items() if part.status in BAD}

    def look(self, keys: Iterable[str]) -> list[Standing]:
        asked = list(keys)
        names = [self._manifests[key] for key in asked if key in self._manifests]
        read = dict(zip(names, self._shelf.many(self._shelf.lasting, names, _published), strict=True))
        return [self._standing(key, read.get(self._manifests.get(key, ""))) for key in asked]

    def _standing(self, key: str, found: Published | Damaged | None) -> Standing:
        tried, part = self._tried.get(key, (None, None))
        if isinstance(found, Damaged):
            return Standing(key, "damaged", why=f"{found.name}: {found.why}")
        later = tried is not None and tried.ended is not None and (found is None or tried.ended.finished > found.created)
        if tried is not None and part is not None and part.status in BAD and later:
            why = next((f"{w[0]} {w[3]}, expected {w[4]}" for w in part.warned if w[2] == "fail"), "")
            return Standing(key, part.status, tried.id, found.version if found else 0, part.rows, why=why, published=found)
        if found is None:
            return Standing(key, "damaged", why="its manifest is gone")
        differs = tuple(named(found.parts, self._parts)) if self._parts else ()
        state = "published-with-warnings" if found.warned else "stale" if differs else "published"
        return Standing(key, state, found.run_id, found.version, found.rows, differs, published=found)

    def _current(self, runs: Sequence[Run]) -> Mapping[str, str]:
        """What the newest run that published something was made of."""
        for run in runs:
            for part in run.ended.parts if run.ended else ():
                if part.version and part.key in self._manifests:
                    found = self._shelf.lasting(f"{ROOT}/{part.key}/v{part.version:05d}.json", _published)
                    if isinstance(found, Published):
                        return found.parts
        return {}


def newest(names: Iterable[str]) -> dict[str, str]:
    """Partition -> its newest manifest."""
    found: dict[str, str] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        if file.startswith("v") and file.endswith(".json"):
            found[folder[len(ROOT) + 1 :]] = name  # sorted: later ones are newer
    return found


def versions(shelf: Shelf, key: str) -> list[Published | Damaged]:
    """The newest first. `key` must be one that is known."""
    folder = f"{ROOT}/{key}/"
    names = [name for name in shelf.names(ROOT) if name.startswith(folder) and "/" not in name[len(folder) :]]
    found = shelf.many(shelf.lasting, reversed(names), _published)
    return [one for one in found if one is not None]


@lru_cache(maxsize=1 << 16)
def day(key: str) -> date | None:
    """The day that a key names ("date=2026-01-01/hour=05")."""
    try:
        start, _ = window(key)
    except (ValueError, OverflowError):
        return None
    return start.date() if start else None


@lru_cache(maxsize=1 << 16)
def series(key: str) -> str:
    """A key without its time: partitions of one series follow each other."""
    return "/".join(part for part in key.split("/") if not _timed(part))


def order(key: str) -> tuple[date, str]:
    """For sorting: by day, then by name."""
    return day(key) or date.min, key


def _timed(part: str) -> bool:
    name, _, value = part.partition("=")
    if name == "hour":
        return True
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _tried(runs: Sequence[Run]) -> dict[str, tuple[Run, Any]]:
    """Partition -> what the newest run that touched it made of it."""
    found: dict[str, tuple[Run, Any]] = {}
    for run in reversed(runs):
        for part in run.ended.parts if run.ended else ():
            found[part.key] = (run, part)
    return found


def _published(raw: Any) -> Published:
    words = ("name", "subject", "status", "actual", "expected")
    bad = tuple(tuple(text(c[word])[:300] for word in words) for c in raw["checks"] if c["status"] in ("warn", "fail"))
    counts = {outcome: whole(rows) for outcome, rows in table(raw["counts"]).items()}
    override = raw.get("override")
    return Published(
        key=text(raw["key"]),
        version=whole(raw["version"]),
        run_id=text(raw["run_id"]),
        created=text(raw.get("created", "")),
        parts={name: text(value) for name, value in table(raw["parts"]).items()},
        model=" ".join(text(raw["model"][word]) for word in ("name", "version") if word in raw["model"]),
        rows={"in": sum(counts.values()), "scored": 0, "quarantined": 0, "suppressed": 0, **counts},
        warned=bad,  # type: ignore[arg-type]
        released=f"{text(override['actor'])} on {text(override['decided'])}: {text(override['reason'])}" if override else "",
        quarantine=sum(whole(file["rows"]) for file in raw["quarantine"]),
    )

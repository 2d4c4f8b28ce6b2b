"""What was asked for on the command line, checked: words of the verb, not settings of the job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Literal, get_args

from scoring.errors import UsageError
from scoring.release.intervals import Grain, instant, zone
from scoring.release.staleness import WHICH, Which
from scoring.respond.verbs import VERBS

Order = Literal["oldest", "newest"]
_PINNED = re.compile(r"pinned:(.+)")
_FORM = "scoring backfill … start=2026-01-01 end=2026-02-01 which=missing"


@dataclass(frozen=True)
class Request:
    """`grain` None: what the folders are. `max_cost` is in the currency of `hardware.price_per_hour`. `model` is "current", "as-of"
    or "pinned:VERSION".
    """

    start: datetime
    end: datetime
    where: tzinfo
    grain: Grain | None = None
    which: tuple[Which, ...] = ("missing",)
    order: Order = "oldest"
    max_partitions: int | None = None
    max_cost: float | None = None
    model: str = "current"

    @property
    def pinned(self) -> str:
        """The version, "" if none is pinned."""
        found = _PINNED.fullmatch(self.model)
        return found[1] if found else ""


def parse(words: Mapping[str, str]) -> Request:
    """Raises: UsageError: a word is missing, or says what cannot be."""
    for needed in ("start", "end"):
        if not words.get(needed):
            raise UsageError(f"scoring backfill needs {needed}=…: {_FORM}")
    where = zone(words.get("timezone"))
    model = words.get("model", "current")
    if model not in ("current", "as-of") and not _PINNED.fullmatch(model):
        raise UsageError(f"model={model} is not known here. Say model=current, model=as-of or model=pinned:VERSION.")
    return Request(
        instant("start", words["start"], where),
        instant("end", words["end"], where),
        where,
        _one_of("grain", words.get("grain"), get_args(Grain), None),
        tuple(dict.fromkeys(_one_of("which", one, WHICH, None) for one in words.get("which", "missing").split(","))),
        _one_of("order", words.get("order"), get_args(Order), "oldest"),
        _number("max_partitions", words.get("max_partitions"), int, 1),
        _number("max_cost", words.get("max_cost"), float, 0),
        model,
    )


def _one_of(word: str, said: str | None, known: tuple[Any, ...], default: Any) -> Any:
    if said is None:
        return default
    if said not in known:
        raise UsageError(f"{word}={said} is not known. Say {word}={'|'.join(known)}.")
    return said


def _number(word: str, said: str | None, kind: Any, least: float) -> Any:
    if said is None:
        return None
    try:
        found = kind(said)
    except ValueError:
        found = -1
    if not least <= found < float("inf"):
        raise UsageError(f"{word}={said} is no number from {least} on.")
    return found


def line(words: Mapping[str, str]) -> str:
    """The words as they can be said again."""
    return " ".join(f"{name}={words[name]}" for name in VERBS["backfill"].words if name in words)

"""Whether to ask for a training, to report a broken feed, or neither. Pure.

The window are the `of_last` latest partitions of this model that were judged or are broken, by the day they name: a run may publish
a month at once, and a month of nightly runs says the same. One broken partition in it and no training is asked for: the model
would learn the break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from scoring.respond.retraining.judged import Verdict
from scoring.settings import Retraining
from scoring.types import digest

Kind = Literal["retrain", "incident", "nothing"]


@dataclass(frozen=True)
class Asked:
    """An event of before. `id` may be the beginning of one."""

    kind: Kind
    id: str
    when: datetime


@dataclass(frozen=True)
class Decision:
    """`why` in words; `about` are the verdicts that it rests on: drifted ones, or broken ones. `window` is what was looked at."""

    kind: Kind
    why: str
    window: tuple[Verdict, ...] = ()
    about: tuple[Verdict, ...] = ()

    def id(self, model: str) -> str:
        """Of what was found, not of when: SHA-256 of model, window and reasons. `model` is its digest."""
        named = [[v.name, v.start, v.end] for v in self.about]
        reasons = [list(map(dict, v.reasons if self.kind == "retrain" else v.broken)) for v in self.about]
        return digest([self.kind, model, named, reasons])


def decide(verdicts: Sequence[Verdict], model: str, past: Sequence[Asked], when: datetime, settings: Retraining) -> Decision:
    """`past` are the events of this workspace so far; `model` is the digest of the one that scores now."""
    window = tuple(v for v in verdicts if v.model == model)[-settings.of_last :]
    drifted, broken = (tuple(v for v in window if wanted(v)) for wanted in (_drifted, _broken))
    asking, reporting = Decision("retrain", "", window, drifted), Decision("incident", "", window, broken)
    past = [one for one in past if not (one.when == when and _named(one, model, asking, reporting))]  # this pass, told again
    seen = f"{len(drifted)} of the {len(window)} latest judged partitions drifted"
    if len(drifted) < settings.drifted:
        return Decision("nothing", f"{seen}, fewer than {settings.drifted}", window)
    if broken:
        return _once(replace(reporting, why=f"{seen}, and the feed is broken in {len(broken)}: fix upstream"), model, past)
    if why := _withheld(drifted, past, when, settings):
        return Decision("nothing", f"{seen}; {why}", window)
    return _once(replace(asking, why=seen), model, past)


def _drifted(verdict: Verdict) -> bool:
    return verdict.drifted


def _broken(verdict: Verdict) -> bool:
    return bool(verdict.broken)


def _withheld(drifted: Sequence[Verdict], past: Sequence[Asked], when: datetime, settings: Retraining) -> str:
    rows = sum(v.rows for v in drifted)
    if rows < settings.min_rows:
        return f"{rows:,} rows in them, fewer than min_rows ({settings.min_rows:,})"
    asked = [one.when for one in past if one.kind == "retrain"]
    until = max(asked, default=datetime.min.replace(tzinfo=when.tzinfo)) + timedelta(days=settings.cool_down_days)
    if asked and when < until:
        return f"cool-down until {until.isoformat()}"
    month = [one for one in asked if (one.year, one.month) == (when.year, when.month)]
    if len(month) >= settings.monthly_budget:
        return f"{len(month)} asked for in {when:%Y-%m}, the monthly budget"
    return ""


def _once(made: Decision, model: str, past: Sequence[Asked]) -> Decision:
    """What was asked for stays asked for."""
    said = any(_named(one, model, made) for one in past)
    return Decision("nothing", f"{made.why}; said already", made.window) if said else made


def _named(one: Asked, model: str, *made: Decision) -> bool:
    return any(one.id and decision.id(model).startswith(one.id) for decision in made)

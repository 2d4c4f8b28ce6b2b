"""From facts to HTML: templates escape all that they print, and what cannot be seen is replaced before. It looks as the report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scoring.respond.manual import clean
from scoring.respond.report import words
from scoring.respond.ui import calendar
from scoring.respond.ui.runs import Progress, Run, age_s
from scoring.respond.ui.shelf import Damaged

_HERE = Path(__file__).parent
_REPORT = _HERE.parent / "report" / "templates"
_LONGEST = 20_000  # paths of pictures; names are cut before
_STATES = {"running": "running", "silent": "no sign of life", "begun": "begun", "damaged": "damaged"}
_BAD, _WARN = ("failed", "held", "damaged", "missing"), ("published-with-warnings", "silent", "paused", "refused", "stale", "warn")


def render(page: str, facts: Mapping[str, Any]) -> str:
    """Raises: what a bug raises."""
    return _environment().get_template(page).render(**facts)


def style() -> str:
    """The style of the report, as a file."""
    return (_REPORT / "style.html").read_text("utf-8").strip().removeprefix("<style>").removesuffix("</style>")


def static(name: str) -> str:
    """A file of ours. Raises: OSError."""
    return (_HERE / "static" / name).read_text("utf-8")


def ago(stamp: str, now: datetime) -> str:
    """ "3 min ago"; "" where the moment is not known."""
    age = age_s(stamp, now)
    if age is None:
        return ""
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if age >= size:
            return f"{age // size:,.0f} {word} ago"
    return f"{max(age, 0):.0f} s ago"


def took(run: Run) -> str:
    return words.duration(run.ended.seconds) if run.ended and run.ended.seconds > 0 else words.NONE


def left(progress: Progress) -> str:
    """Time left, as a range where the two estimates differ."""
    if progress.eta is None:
        return "not known yet"
    soon, late = (words.duration(max(seconds, 0.0)) for seconds in progress.eta)
    return soon if soon == late else f"{soon} to {late}"


def headline(last: Run | None, counts: Mapping[str, int], going: list[Run]) -> str:
    """The state of a workspace, for somebody who reads nothing else."""
    found = [f"{words.plural(counts[s], 'partition')} {calendar.label(s)}" for s in ("failed", "held", "damaged") if counts.get(s)]
    found += [f"{words.plural(counts['missing'], 'day')} missing"] if counts.get("missing") else []
    wrong = f" {', '.join(found)}." if found else ""
    if going:
        return f"{'A run goes' if len(going) == 1 else f'{len(going)} runs go'} on.{wrong}"
    if last is None:
        return f"No run has ended here yet.{wrong}"
    ended = {"published": "published everything", "published-with-warnings": "published everything, with warnings"}
    ended |= {
        "held": "was held by a gate",
        "failed": "failed",
        "paused": "stopped before its end",
        "damaged": "left a damaged record",
    }
    return f"The last run {ended.get(last.state, words.status(last.state))}.{wrong or ' Nothing is open.'}"


def _tone(state: str) -> str:
    """The class of a tag."""
    return " fail" if state in _BAD or state == "fail" else " warn" if state in _WARN else " live" if state == "running" else ""


def _state(state: str) -> str:
    return _STATES.get(state) or words.status(state)


def _key(key: str) -> str:
    """A key in the query of an address."""
    return quote(key, safe="=", errors="replace")


def _share_of(part: float, whole: float) -> str:
    return words.share(part, whole)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(_HERE / "templates"), FileSystemLoader(_REPORT)]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(count=words.count, moment=words.moment, plural=words.plural, name=words.name, duration=words.duration)
    made.filters.update(ago=ago, took=took, left=left, tone=_tone, state=_state, label=calendar.label, key=_key, share=_share_of)
    made.tests.update(damaged=lambda one: isinstance(one, Damaged), a_text=lambda one: isinstance(one, str))
    made.globals.update(headline=headline, tallied=calendar.tallied, NONE=words.NONE, MARKS=calendar.MARKS)
    return made


def _printable(value: Any) -> Any:
    """What a template prints: markup that a template made as it is, all other text without what cannot be seen."""
    return clean(value, _LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value

"""What the system says while it works: events with facts, through the standard library's `logging`, as `scoring.<room>`.

The standard library, because lanes say things too and a bare GPU machine has nothing else; how lines look, and where they go, is
decided in `respond/logs.py` alone. Who embeds us has handlers of their own: what these are handed is clean already, for secrets are
taken out here. No row and no value of one is ever a fact. Nothing here raises.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from scoring.errors import ScoringError, bug
from scoring.redact import scrub

ROOT = "scoring"
FACTS = "scoring_facts"  # the attribute of a LogRecord
_LONGEST = 500  # characters of a fact

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - never changed in place

logging.getLogger(ROOT).addHandler(logging.NullHandler())  # as libraries do: whether anything is printed is for the program to say


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """All that is said inside, in this thread and those that were given its context, has these facts: run_id, slice_id, …"""
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


class Log:
    """`Log("pool").warning("lane.lost", lane=3)`: an event is named by what it is about and what happened."""

    def __init__(self, room: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{room}")

    def debug(self, event: str, **facts: Any) -> None:
        self._say(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._say(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._say(logging.WARNING, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._say(logging.ERROR, event, facts)

    def _say(self, level: int, event: str, facts: Mapping[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            with suppress(Exception):
                clean = {name: _clean(value) for name, value in {**_about.get(), **facts}.items() if value not in (None, "")}
                self._logger.log(level, "%s", _Line(event, clean), extra={FACTS: {"event": event, **clean}})


class _Line:
    """For handlers that know nothing of us: event key=value key=value."""

    def __init__(self, event: str, facts: Mapping[str, Any]) -> None:
        self._event, self._facts = event, facts

    def __str__(self) -> str:
        return " ".join([self._event, *(f"{name}={value!r}" for name, value in self._facts.items())])


def why(error: BaseException) -> dict[str, str]:
    """The facts of an error: its class and what it says, without data and without a traceback."""
    return {"error": type(error).__name__, "message": str(error) if isinstance(error, ScoringError) else bug(error)}


def _clean(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(inner) for inner in value]
    text = scrub(str(value)[: 2 * _LONGEST])[:_LONGEST]
    return text if text.isprintable() else "".join(c if c.isprintable() else "�" for c in text)

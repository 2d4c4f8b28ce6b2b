"""What is to be done now, what is due later, and whether the run is coming to its end."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from scoring.pool.actions import Action, Ending, Kind, Note, Outcome


class Agenda:
    """`grace_s`: how long slices in hand may go on once the run is to end. `stop` is how it ends; the first reason stays."""

    def __init__(self, grace_s: float) -> None:
        self.stop: Outcome | None = None
        self._grace_s = grace_s
        self._stop_by = 0.0
        self._actions: list[Action] = []
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._timed = 0
        self.on_grace_over: Callable[[float], None] = lambda now: None

    def do(self, action: Action) -> None:
        self._actions.append(action)

    def note(self, event: str, text: str) -> None:
        self._actions.append(Note(text[:500], event))

    def at(self, due: float, what: Callable[..., None], *given: Any) -> None:
        """Call `what(*given, now)` once `due` has come. Nothing is ever taken off: what is out of date does nothing."""
        self._timed += 1
        heapq.heappush(self._timers, (due, self._timed, what, given))

    def run_due(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            _, _, what, given = heapq.heappop(self._timers)
            what(*given, now)

    def next_due(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def end(self, ending: Ending, message: str, kind: Kind, now: float, grace_s: float | None = None) -> None:
        """Begin to stop. A later call can only hurry."""
        by = now + (self._grace_s if grace_s is None else grace_s)
        if self.stop is None or by < self._stop_by:
            self.stop = self.stop or Outcome(ending, message, kind)
            self._stop_by = by
            self.at(by, self.on_grace_over)

    def take(self) -> list[Action]:
        """The actions since the last call."""
        actions, self._actions = self._actions, []
        return actions

"""How live work and backfills share a workspace: live work has it for itself and goes first, backfills leave and come back.

Each side says that it is there before it looks for the other, so that at least one sees the other; if both do, the backfill leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from scoring.errors import BusyError, PausedError
from scoring.ledger.leases import Leases
from scoring.ledger.presence import LOOK_S, Presence
from scoring.log import Log
from scoring.redact import scrub
from scoring.stores import Store

_PATIENCE_S = 900.0  # for slices that backfills have in hand
_STEP_S = 0.05

_log = Log("jobs")


@contextmanager
def alone(store: Store, owner: Mapping[str, str]) -> Iterator[None]:
    """The workspace for one: as `Store.lock`, and no backfill at work in it.

    Raises:
        BusyError: other live work has it, or a backfill does not leave within 15 minutes.
    """
    presence = Presence(store, "live", scrub(owner["run"]))
    presence.enter()
    try:
        with store.lock(owner):
            _let_leave(presence)
            yield
    finally:
        presence.leave()


def _let_leave(presence: Presence) -> None:
    end = time.monotonic() + _PATIENCE_S
    told = False
    while here := presence.others("backfill"):
        if time.monotonic() > end:
            raise BusyError(f"{here[0].said()} does not leave the workspace. Wait for it to end, or end it.")
        if not told:
            _log.warning("run.waits", message=f"waiting for {here[0].said()} to finish the slices in hand")
            told = True
        time.sleep(_STEP_S)


class Seat:
    """A backfill's place in a workspace: taken when nothing live is there, left when something live comes, and taken again.

    A context manager. `should_stop` says why waiting is to end.
    """

    def __init__(self, store: Store, what: str, should_stop: Callable[[], str | None]) -> None:
        self._presence, self._should_stop = Presence(store, "backfill", what), should_stop
        self.leases = Leases(store, self._presence.me.id, lambda: {one.id for one in self._presence.others()})

    @property
    def wanted(self) -> bool:
        """Whether live work waits: to be looked at between intervals, it costs nothing."""
        return self._presence.live_waits.is_set()

    def __enter__(self) -> Seat:
        self._take()
        return self

    def __exit__(self, *raised: object) -> None:
        self.leases.release_all()
        self._presence.leave()

    def give_way(self) -> None:
        """Leave, and come back when the live work is over. Nothing may be in hand. Raises: PausedError: asked to stop meanwhile."""
        self.leases.release_all()
        self._presence.leave()
        self._take()

    def alone_here(self) -> bool:
        """Whether no other backfill is at work."""
        return not self._presence.others()

    def _take(self) -> None:
        while True:
            while self._presence.others("live"):
                if why := self._should_stop():
                    raise PausedError(f"{why} The backfill was waiting for live work in the workspace.")
                time.sleep(LOOK_S / 5)
            self._presence.live_waits.clear()
            self._presence.enter()
            if not self._presence.others("live"):
                return
            self._presence.leave()

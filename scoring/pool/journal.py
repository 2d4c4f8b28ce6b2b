"""What the loop of a run says of lanes and slices, for the log: starts, losses, retries, what was done and what was given up.

Told of every action and event in the driver's thread; decides nothing.
"""

from __future__ import annotations

from scoring.log import Log
from scoring.pool import Died, Event, Ready, Replied, StartFailed
from scoring.pool.actions import Action, Finished, GiveUp, Look, Note, Send, StartLane
from scoring.types import Failure, Receipt, Slice

_log = Log("pool")


class Journal:
    """Of one run. Remembers where a slice was sent last, while it is aboard, and which slices have failed."""

    def __init__(self) -> None:
        self._aboard: dict[str, int] = {}
        self._failed: set[str] = set()

    def acted(self, action: Action) -> None:
        match action:
            case Send(lane, work, attempt):
                self._sent(lane, work, attempt)
            case Finished(work, receipt):
                self._done(work, receipt)
            case StartLane(lane, kind):
                _log.info("lane.start", lane=lane, kind=kind)
            case Look(work):
                self._failed.add(work.id)
            case GiveUp(work, cause, message, attempts):
                said = {"slice_id": work.id, "partition": work.partition, "attempts": attempts, "cause": cause}
                _log.error("slice.given_up", **said, message=message)
            case Note(text, event):
                _log.warning(event, message=text)

    def happened(self, event: Event) -> None:
        match event:
            case Ready(lane, facts):
                _log.info(
                    "lane.ready", lane=lane, **{name: facts[name] for name in ("device", "route", "host", "pid") if name in facts}
                )
            case StartFailed(lane, cause, permanent, kind):
                _log.warning("lane.start_failed", lane=lane, cause=kind, permanent=permanent, message=cause)
            case Died(lane, cause, kind):
                _log.warning("lane.died", lane=lane, cause=kind, message=cause)
            case Replied(lane, attempt, answer) if isinstance(answer, Failure):
                said = {"lane": lane, "slice_id": answer.slice_id, "attempt": attempt, "cause": answer.kind}
                _log.warning("slice.failed", **said, message=answer.message, lane_usable=answer.lane_usable)

    def _sent(self, lane: int, work: Slice, attempt: str) -> None:
        self._aboard[work.id] = lane
        said = {"lane": lane, "slice_id": work.id, "partition": work.partition, "attempt": attempt}
        if work.id in self._failed:
            _log.info("slice.retry", **said)
        else:
            _log.debug("slice.sent", **said)

    def _done(self, work: Slice, receipt: Receipt) -> None:
        counts, said = receipt.counts, {"slice_id": work.id, "partition": work.partition, "attempt": receipt.attempt}
        lane = self._aboard.pop(work.id, None)
        self._failed.discard(work.id)
        if receipt.notes:  # a rung of the fallback ladder
            _log.warning("slice.fallback", lane=lane, **said, routes=receipt.routes, message="; ".join(receipt.notes))
        rows = {
            "rows": receipt.rows_in,
            "scored": counts.scored,
            "quarantined": counts.quarantined,
            "suppressed": counts.suppressed,
        }
        seconds = round(sum(receipt.seconds.values()), 3)
        _log.info("slice.done", lane=lane, **said, **rows, seconds=seconds, device=receipt.device, routes=receipt.routes)

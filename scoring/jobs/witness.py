"""A run as seen from outside: that it began, how it ended, and, where it failed, with everybody told before the error goes on.

One that never began is told as well, as a failed run of its own: whoever waits for the scores must hear that there will be none, be
it that there is nothing to read, that the bundle is refused or that another run holds the workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from scoring.jobs import asked, telling
from scoring.jobs.live import Live
from scoring.ledger import runs
from scoring.log import Log, about, why
from scoring.redact import scrub
from scoring.respond.logs import Logs
from scoring.settings import Job
from scoring.stores import Store, open_store
from scoring.types import RunRecord

_log = Log("jobs")


def witnessed(score: Callable[..., RunRecord], said: Sequence[str] = (), logs: Logs | None = None) -> Callable[..., RunRecord]:
    """The same run, logged, and told of while it goes on. One that raises is told of, as failed, before it goes on raising. `said`
    is the command line, "run" and its words.
    """

    def scored(job: Job, config: str, watcher: Any, *more: Any) -> RunRecord:
        noted = Noted(watcher, logs)
        try:
            with Live(job, noted) as live:
                record = score(job, config, live, *more)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a panic of Polars is no Exception
            _fail(job, noted, error, said)
            raise
        with about(run_id=record.run_id):
            facts = {
                "status": record.status,
                "rows": record.rows,
                "seconds": record.rates.get("wall_seconds"),
                "cause": record.cause,
            }
            level = _log.error if record.status == "failed" else _log.info
            level("run.end", **facts, message=record.message)
        return record

    return scored


def _fail(job: Job, noted: Noted, error: BaseException, said: Sequence[str]) -> None:
    """What is said and told must not hide why the run failed."""
    with suppress(Exception):
        facts = why(error)
        if not noted.run_id:
            _never_began(job, noted, facts["message"])
        with about(run_id=noted.run_id):
            stage = "run" if noted.began else "begin"
            _log.error("run.failed", stage=stage, exit_code=getattr(error, "exit_code", 70), **facts)
            tell(job, _failed(noted, facts["message"]), said)


def tell(job: Job, record: RunRecord, said: Sequence[str] = ()) -> telling.Told | None:
    """As `telling.tell`, with a line in the log."""
    told = telling.tell(job, record, said)
    if told is not None:
        with about(run_id=record.run_id):
            facts = {"delivered": {name: one["delivered"] for name, one in told.receivers.items()}, "seconds": told.seconds}
            waits = {name: one["why"] for name, one in told.receivers.items() if one["waits"] or one["lost"]}
            (_log.warning if waits or told.why else _log.info)("run.told", **facts, waits=waits or None, message=told.why)
    return told


class Noted:
    """A watcher that remembers which run began, and when, and lets the log know its place."""

    def __init__(self, watcher: Any, logs: Logs | None) -> None:
        self._watcher, self._logs = watcher, logs
        self.run_id, self.began, self.started = "", False, _now()

    def begin(self, run_id: str, resumed: bool, lanes: int, store: Store) -> None:
        self.run_id, self.began, self.started = run_id, True, asked.started(store, run_id) or _now()
        self.open(store)
        self._watcher.begin(run_id, resumed, lanes, store)

    def open(self, store: Store) -> None:
        if self._logs is not None:
            self._logs.begin(self.run_id, store)

    def planned(self, partition: str, slices: int, rows: int) -> None:
        self._watcher.planned(partition, slices, rows)

    def finished(self, receipt: Any) -> None:
        self._watcher.finished(receipt)

    def end(self, record: RunRecord) -> None:
        self._watcher.end(record)


def _never_began(job: Job, noted: Noted, message: str) -> None:
    """A name for it, and a record, if the workspace can be written and no other run has the name."""
    noted.run_id = runs.name_of(job.run_id) or f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"[:18] + "-failed"
    with suppress(Exception):
        store = open_store(job.workspace)
        noted.open(store)
        if not store.exists(f"runs/{noted.run_id}/run.json"):
            store.put(f"runs/{noted.run_id}/record.json", _failed(noted, message).to_json().encode())


def _failed(noted: Noted, message: str) -> RunRecord:
    """The record of a run that could not write one."""
    none = {"in": 0, "scored": 0, "quarantined": 0, "suppressed": 0}
    empty = RunRecord(noted.run_id, "failed", none, (), {}, {}, {}, {}, {})
    return replace(empty, started=noted.started, finished=_now(), message=scrub(message))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

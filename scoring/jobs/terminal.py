"""What a person at a terminal sees of a verb: results on stdout, the rest on stderr, signals that stop it, its exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from types import FrameType
from typing import Any

import psutil

from scoring.jobs import endings
from scoring.jobs.arguments import Said
from scoring.redact import scrub
from scoring.respond.manual import program
from scoring.settings import Job, Logs
from scoring.types import RunRecord

Pass = Callable[..., RunRecord]  # (job, config, watcher, why to stop)


def show(text: str) -> None:
    """For stdout. Whoever reads it may have had enough (`| head`): that changes no exit code."""
    with suppress(BrokenPipeError):
        print(scrub(text), flush=True)


def say(text: str) -> None:
    """For stderr."""
    with suppress(OSError):
        print(scrub(text), file=sys.stderr, flush=True)


def report(found: Any, render: Callable[[Any], str], as_json: bool) -> int:
    """Show what a verb found, for people or programs; the exit code of a verb that has no other."""
    show(json.dumps(asdict(found), indent=2) if as_json else render(found))
    return 0


def verbose(said: Logs) -> Logs:
    """What -v asks for."""
    wanted = "debug" if said.stderr_level == "debug" else "info"
    return replace(said, stderr="text" if said.stderr == "none" else said.stderr, stderr_level=wanted)  # type: ignore[arg-type]


class Signals:
    """Ctrl-C, SIGTERM and a lost terminal ask the run to stop; a second signal ends it at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        hung_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)  # nohup ignores it
        for one in (signal.SIGINT, signal.SIGTERM, *hung_up):
            signal.signal(one, self._received)

    def why(self) -> str | None:
        return None if self.number is None else f"Stopped by {signal.Signals(self.number).name}."

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            for process in psutil.Process().children(recursive=True):  # some of Ray's would stay for a minute
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            if sys.stderr.isatty():
                say("\x1b[?25h")  # the progress bar hides the cursor
            os._exit(128 + number)
        self.number = number
        say("Stopping: what is in hand may finish; again to stop at once.")


def run(score: Pass, job: Job, config: str, again: Sequence[str], as_json: bool) -> int:
    """A run or requeue with its progress, its summary and its page; `again` are the words that go on with it. The exit code."""
    from scoring.jobs import telling, witness
    from scoring.respond import summary
    from scoring.respond.logs import Logs as Logging
    from scoring.respond.progress import ProgressWatcher

    telling.refuse(job.respond)
    stop, only_json = Signals(), job.respond.logs.stderr == "json"
    watcher = ProgressWatcher(None if only_json else sys.stderr)
    with Logging(job.respond.logs, say if only_json else watcher.say, colours=sys.stderr.isatty()) as logs:
        with watcher:
            record = witness.witnessed(score, again, logs)(job, config, watcher, stop.why)
        show(record.to_json() if as_json else summary.render(record, job.workspace, program(sys.argv[0])))
        _told(job, record, again, as_json)
    if record.status in ("paused", "failed"):
        _to_go_on(again)
    if stop.number is not None and record.status == "paused":
        return 128 + stop.number
    return endings.code(record.status, record.cause)


def backfill(job: Job, config: str, again: Sequence[str], said: Said) -> int:
    """A backfill with the progress of its passes, or its calendar with --dry-run. The exit code."""
    from scoring.jobs import telling
    from scoring.jobs.backfill import backfill as score
    from scoring.jobs.backfill import plan
    from scoring.jobs.backfills.account import render
    from scoring.respond.logs import Logs as Logging

    as_json = "--json" in said.flags
    if "--dry-run" in said.flags:
        return report(plan(job, said.own), partial(render, colour=sys.stdout.isatty()), as_json)
    telling.refuse(job.respond)
    stop, only_json = Signals(), job.respond.logs.stderr == "json"
    with Logging(job.respond.logs, say, colours=sys.stderr.isatty()) as logs:
        watch = partial(_watched, job, None if only_json else sys.stderr, logs)
        found, ran = score(job, config, said.own, watch, stop.why)
        report(found, render, as_json)
        for one, record in ran:
            _told(one, record, again, as_json)
    if stop.number is not None and any(record.status == "paused" for _, record in ran):
        _to_go_on(again)
        return 128 + stop.number
    return found.exit_code


@contextmanager
def _watched(job: Job, stream: Any, logs: Any) -> Iterator[Any]:
    """The watcher of one pass of a backfill: its progress, its log, and who is told while it goes on."""
    from scoring.jobs.live import Live
    from scoring.jobs.witness import Noted
    from scoring.respond.progress import ProgressWatcher

    with ProgressWatcher(stream) as watcher, Live(job, Noted(watcher, logs)) as live:
        yield live


def _told(job: Job, record: RunRecord, said: Sequence[str], as_json: bool) -> None:
    """Make the page of an ended run, tell systems of it, and say where and what came of that. `said` is the command line."""
    from scoring.jobs import witness
    from scoring.jobs.reporting import Page

    page, told = Page(job, record), witness.tell(job, record, said)
    for line in (page.line(program(sys.argv[0])), told.line() if told else ""):
        if line:
            (say if as_json else show)(line)


def _to_go_on(again: Sequence[str]) -> None:
    say(f"State is kept. To go on: {program(sys.argv[0])} {' '.join(shlex.quote(word) for word in again)}")

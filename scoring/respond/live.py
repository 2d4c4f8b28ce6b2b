"""Telling of a run while it goes on, in a process of its own: START and RUNNING to the receiver of lineage, how far it is as a
textfile.

Started by `scoring/jobs/live.py`, which gives one line of JSON on stdin and another word when the run is over. Reads the workspace:
what the run was asked, and its progress.json. Whatever cannot be told now, whoever tells of the end tells then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from scoring.respond.delivery import TextFile, deliver
from scoring.respond.outbox import Message, Outbox
from scoring.respond.receivers import lineage_receiver, respond
from scoring.respond.story import Story, begun
from scoring.settings import Respond
from scoring.stores import Store, open_store

_FILE_EVERY_S = 15.0
_DIED = "The process of the run ended without a word. The same command goes on where it was."


def main() -> None:
    """The process. Ends itself: a thread that hangs in a receiver is left behind."""
    given = json.loads(sys.stdin.readline())
    end = End(sys.stdin)
    with suppress(Exception):
        store = open_store(given["workspace"])
        Live(store, begun(store, given["name"], given["run_id"]), respond(given["respond"])).go(end)
    os._exit(0)


class End:
    """Of a run: said on a stream, or seen by the stream's own end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._came, self.died = stream, threading.Event(), False
        threading.Thread(target=self._listen, name="end", daemon=True).start()

    def within(self, seconds: float) -> bool:
        return self._came.wait(max(seconds, 0))

    def _listen(self) -> None:
        self.died = not self._stream.readline()
        self._came.set()


@dataclass
class Due:
    """Something to do every so often; `at` is in monotonic seconds."""

    at: float
    every_s: float

    def now(self) -> bool:
        """Whether it is due; the next time is counted from here."""
        now = time.monotonic()
        if now < self.at:
            return False
        self.at = now + self.every_s
        return True


class Live:
    """Until the end, and no longer."""

    def __init__(self, store: Store, story: Story, settings: Respond) -> None:
        self._store, self._story, self._settings = store, story, settings
        self._outbox, self._lineage = Outbox(store), lineage_receiver(settings)

    def go(self, end: End) -> None:
        if self._lineage is not None:
            with suppress(Exception):
                self._began()
        now = time.monotonic()
        events, file = Due(now + self._settings.lineage.every_s, self._settings.lineage.every_s), Due(now, _FILE_EVERY_S)
        while not end.within(min(events.at, file.at) - time.monotonic()):
            progress = self._progress()
            if events.now():
                with suppress(Exception):
                    self._goes_on(progress)
            if file.now():
                with suppress(Exception):
                    self._write(progress)
        self._remove_file()
        if end.died and self._lineage is not None:
            self._died(self._progress())

    def _began(self) -> None:
        from scoring.respond.lineage.events import events
        from scoring.respond.lineage.journal import serialised

        record = dict(self._story.record) | {"finished": self._story.record["started"]}  # of an end that is not told
        self._tell(serialised(events(replace(self._story, record=record), self._settings.lineage, os.environ)[:1]))

    def _goes_on(self, progress: Mapping[str, Any]) -> None:
        from scoring.respond.lineage.events import running
        from scoring.respond.lineage.journal import serialised

        if progress and self._lineage is not None:
            self._tell(serialised([running(self._story, self._settings.lineage, os.environ, progress, _now())]))

    def _died(self, progress: Mapping[str, Any]) -> None:
        """Nobody else would end this pass, unless its record stands: then the next run tells of it."""
        from scoring.respond.lineage.events import events
        from scoring.respond.lineage.journal import serialised

        record = dict(self._story.record)
        key = f"runs/{record['run_id']}/record.json"
        if self._store.exists(key) and json.loads(self._store.get(key)).get("started") == record["started"]:
            return
        if progress:
            rows = {name: progress[name] for name in ("scored", "quarantined", "suppressed")}
            record["rows"] = {"in": progress["rows"]["done"], **rows}
        ended = replace(self._story, record=record | {"status": "paused", "finished": _now(), "message": _DIED})
        self._tell(serialised(events(ended, self._settings.lineage, os.environ)[1:]))

    def _tell(self, lines: list[str]) -> None:
        """Kept, then written down, then sent, with all that waits. What cannot be kept is left to whoever tells of the end."""
        from scoring.respond.lineage.journal import Journal, messages

        for message in messages(self._story, lines):
            self._outbox.keep(message)
        Journal(self._store, self._story).add(lines)
        assert self._lineage is not None
        deliver([self._lineage], (), self._outbox, time.monotonic() + self._settings.limit_s, lambda outcome: None)

    def _progress(self) -> dict[str, Any]:
        """{} where there is none yet, or only that of an earlier pass."""
        with suppress(Exception):
            found: dict[str, Any] = json.loads(self._store.get(f"runs/{self._story.record['run_id']}/progress.json"))
            return found if found["updated"] >= self._story.record["started"] else {}
        return {}

    def _write(self, progress: Mapping[str, Any]) -> None:
        from scoring.respond.live_metrics import live_text

        textfile = self._settings.metrics.textfile
        if progress and textfile:
            TextFile("live", live_file(textfile)).send(Message("live", "live", live_text(self._story.name, progress)), 0)

    def _remove_file(self) -> None:
        if self._settings.metrics.textfile:
            with suppress(OSError):
                Path(live_file(self._settings.metrics.textfile)).unlink(missing_ok=True)


def live_file(textfile: str) -> str:
    """Beside the metrics of the last run, which stay as they are while the next one goes on."""
    return f"{textfile.removesuffix('.prom')}.live.prom"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

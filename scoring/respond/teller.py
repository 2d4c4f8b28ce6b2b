"""Telling of a run, in a process of its own: whatever hangs, dies or fills up here, the run is over and published.

Started by `scoring/jobs/telling.py`, which gives one line of JSON on stdin and reads one line for each thing that happened from
stdout. Makes all messages, keeps them in the outbox, then delivers, and gives up a moment before it would be ended.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from scoring.errors import ScoringError
from scoring.respond.delivery import Http, Outcome, Receiver, TextFile, deliver, reason
from scoring.respond.outbox import Message, Outbox
from scoring.respond.story import LAST_SUCCESS, SUCCESS, Story, tell
from scoring.settings import Lineage, Logs, Metrics, Respond
from scoring.stores import LocalStore, Store, open_store
from scoring.stores.names import MissingError

_SPARE_S = 0.3  # to say how it ended
EVENTS = "openlineage.jsonl"
_lock = threading.Lock()


def main() -> None:
    """The process. Ends itself: a thread that hangs in a receiver is left behind."""
    given = json.loads(sys.stdin.readline())
    settings = respond(given["respond"])
    with suppress(Exception), tempfile.TemporaryDirectory(prefix="scoring-told-") as spare:  # what was said so far is what is known
        store = _store(given["workspace"], spare)
        Teller(store, given["name"], settings).go(given["record"], given["until"] - _SPARE_S)
    sys.stdout.flush()
    os._exit(0)


def _store(workspace: str, spare: str) -> Store:
    """The workspace; where that is the trouble, a folder that goes away with us: what can be sent now is."""
    try:
        return open_store(workspace)
    except ScoringError:
        return LocalStore(spare)


def respond(plain: dict[str, Any]) -> Respond:
    """Settings that were checked already, from their plain form."""
    inner = {"lineage": Lineage(**plain["lineage"]), "metrics": Metrics(**plain["metrics"]), "logs": Logs(**plain["logs"])}
    return Respond(**plain | inner)


def say(outcome: Outcome) -> None:
    with _lock:
        print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201 - what the other end reads


class Teller:
    """`until` is in monotonic seconds, which all processes of a machine share."""

    def __init__(self, store: Store, name: str, settings: Respond) -> None:
        self._store, self._name, self._settings = store, name, settings
        self._outbox = Outbox(store)

    def go(self, record: dict[str, Any], until: float) -> None:
        receivers = self._receivers()
        fresh: list[Message] = []
        whole: list[str] = []  # runs of which everything was made
        own = record["run_id"] if record["started"] else ""  # a run that did nothing goes by the name of the last one
        for one in (*self._earlier(own), record):
            made, complete = self._made(one, newest=one is record)
            fresh += made
            whole += [one["run_id"]] if complete and one["started"] else []
        states: dict[tuple[str, str], str] = {}

        def heard(outcome: Outcome) -> None:
            states[outcome.to, outcome.id] = outcome.state
            say(outcome)

        for name, count in self._homeless(receivers):
            say(Outcome(name, "", "waits", f"{count} message(s) for a receiver that is not set any more"))
        deliver(receivers, fresh, self._outbox, until, heard)
        if all(states.get((m.to, m.id), "lost") != "lost" for m in fresh):
            for run_id in whole:
                with suppress(Exception):
                    self._outbox.unmark(run_id)

    def _receivers(self) -> list[Receiver]:
        lineage, metrics = self._settings.lineage, self._settings.metrics
        found: list[Receiver] = []
        if lineage.enabled and lineage.url:
            found.append(Http("lineage", lineage.url, "POST", lineage.token_env))
        if metrics.textfile:
            found.append(TextFile("textfile", metrics.textfile))
        if metrics.pushgateway:
            from scoring.respond.metrics import group

            found.append(Http("pushgateway", group(metrics.pushgateway, self._name), "PUT", metrics.token_env))
        return found

    def _homeless(self, receivers: Sequence[Receiver]) -> Iterator[tuple[str, int]]:
        with suppress(Exception):
            known = {r.name for r in receivers}
            yield from ((name, n) for name, n in self._outbox.counts().items() if name not in known)

    def _earlier(self, run_id: str) -> Iterator[dict[str, Any]]:
        """Records of runs of which nobody could be told. One that still goes on has none, or that of an earlier pass."""
        with suppress(Exception):
            for name in self._outbox.untold():
                if name != run_id:
                    with suppress(MissingError, ValueError):
                        yield json.loads(self._store.get(f"runs/{name}/record.json"))

    def _made(self, record: dict[str, Any], newest: bool) -> tuple[list[Message], bool]:
        """The messages on a run, and whether each teller made its own: one that fails is no trouble of the others."""
        made: list[Message] = []
        try:
            story = self._story(record, newest)
        except Exception as error:
            say(Outcome("all", record["run_id"], "lost", f"the record cannot be told: {reason(error)}"))
            return [], False
        complete = True
        for name, teller in (("lineage", self._lineage), ("metrics", self._metrics)):
            try:
                made += teller(story, newest)
            except Exception as error:
                say(Outcome(name, record["run_id"], "lost", f"it could not be made: {reason(error)}"))
                complete = False
        return made, complete

    def _story(self, record: dict[str, Any], newest: bool) -> Story:
        story = tell(self._store, self._name, record)
        if not newest or record["status"] not in SUCCESS:
            return story
        now = datetime.fromisoformat(record["finished"]).timestamp() if record["finished"] else time.time()
        with suppress(Exception):
            self._store.replace(LAST_SUCCESS, json.dumps({"timestamp": now, "run_id": record["run_id"]}).encode())
        return replace(story, last_success=now)

    def _lineage(self, story: Story, newest: bool) -> Sequence[Message]:
        """A run that did nothing has no lineage."""
        if not self._settings.lineage.enabled or not story.record["started"]:
            return ()
        from scoring.respond.lineage.events import events, lines, messages

        found = events(story, self._settings.lineage, os.environ)
        key = f"runs/{story.record['run_id']}/{EVENTS}"
        before = self._store.get(key).decode() if self._store.exists(key) else ""
        self._store.replace(key, lines(found, before).encode())
        return messages(found) if self._settings.lineage.url else ()

    def _metrics(self, story: Story, newest: bool) -> Sequence[Message]:
        """Those of an earlier run are not told late: they would take the place of newer ones."""
        wanted = [name for name in ("textfile", "pushgateway") if getattr(self._settings.metrics, name)]
        if not newest or not wanted:
            return ()
        from scoring.respond.metrics import messages

        return messages(story, tuple(wanted))

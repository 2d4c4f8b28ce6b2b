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
from scoring.respond.alerts.commands import Said
from scoring.respond.delivery import Outcome, Receiver, deliver, reason
from scoring.respond.outbox import UNTOLD, Message, Outbox
from scoring.respond.receivers import receivers, respond
from scoring.respond.story import LAST_SUCCESS, SUCCESS, Story, tell
from scoring.settings import Respond
from scoring.stores import LocalStore, Store, open_store
from scoring.stores.names import MissingError

_SPARE_S = 0.3  # to say how it ended
_TRIM_S = 0.2  # to see to the limits of the outbox
_lock = threading.Lock()


def main() -> None:
    """The process. Ends itself: a thread that hangs in a receiver is left behind."""
    given = json.loads(sys.stdin.readline())
    settings = respond(given["respond"])
    with suppress(Exception), tempfile.TemporaryDirectory(prefix="scoring-told-") as spare:  # what was said so far is what is known
        store = _store(given["workspace"], spare)
        said = Said(tuple(given["said"]), given["folder"])
        Teller(store, given["name"], settings, said).go(given["record"], given["until"] - _SPARE_S)
    sys.stdout.flush()
    os._exit(0)


def _store(workspace: str, spare: str) -> Store:
    """The workspace; where that is the trouble, a folder that goes away with us: what can be sent now is."""
    try:
        return open_store(workspace)
    except ScoringError:
        return LocalStore(spare)


def say(outcome: Outcome) -> None:
    with _lock:
        print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201 - what the other end reads


class Teller:
    """`said` is the command line of the run. `until` is in monotonic seconds, which all processes of a machine share."""

    def __init__(self, store: Store, name: str, settings: Respond, said: Said) -> None:
        self._store, self._name, self._settings, self._said = store, name, settings, said
        self._outbox = Outbox(store)

    def go(self, record: dict[str, Any], until: float) -> None:
        known = receivers(self._settings, self._name, self._store)
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

        deliver(known, fresh, self._outbox, until - _TRIM_S, heard)
        for message in fresh:
            if (message.to, message.id) not in states:
                heard(Outcome(message.to, message.id, "lost", "no time was left"))
        if all(states.get((m.to, m.id), "lost") != "lost" for m in fresh):
            for run_id in whole:
                with suppress(Exception):
                    self._outbox.unmark(run_id)
        self._trim()
        for name, count in self._homeless(known):
            say(Outcome(name, "", "waits", f"{count} message(s) for a receiver that is not set any more"))

    def _trim(self) -> None:
        """After the last try: what is given up could not be delivered now either."""
        limits = self._settings.outbox
        with suppress(Exception):
            for one in self._outbox.trim(limits.max_bytes, limits.max_days, time.time()):
                say(Outcome("all" if one.to == UNTOLD else one.to, one.id, "given_up", one.why))

    def _homeless(self, known: Sequence[Receiver]) -> Iterator[tuple[str, int]]:
        with suppress(Exception):
            names = {receiver.name for receiver in known}
            yield from ((name, n) for name, n in self._outbox.counts().items() if name not in names)

    def _earlier(self, run_id: str) -> Iterator[dict[str, Any]]:
        """Records of runs that nobody was told of, oldest first. One that still goes on has none, or that of an earlier pass."""
        found: list[dict[str, Any]] = []
        with suppress(Exception):
            for name in self._outbox.untold():
                if name != run_id:
                    with suppress(MissingError, ValueError):
                        found.append(json.loads(self._store.get(f"runs/{name}/record.json")))
        yield from sorted(found, key=lambda one: str(one["started"]))

    def _made(self, record: dict[str, Any], newest: bool) -> tuple[list[Message], bool]:
        """The messages on a run, and whether each teller made its own: one that fails is no trouble of the others."""
        made: list[Message] = []
        try:
            story = self._story(record, newest)
        except Exception as error:
            say(Outcome("all", record["run_id"], "lost", f"the record cannot be told: {reason(error)}"))
            return [], False
        complete = True
        tellers = (self._lineage, self._metrics, self._alerts, self._retraining)
        for name, teller in zip(("lineage", "metrics", "alerts", "retraining"), tellers, strict=True):
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
        from scoring.respond.lineage.events import events
        from scoring.respond.lineage.journal import Journal, messages, serialised

        whole = serialised(events(story, self._settings.lineage, os.environ))
        journal = Journal(self._store, story)
        lines = journal.unsent(whole)
        journal.add(lines)
        return messages(story, lines) if self._settings.lineage.url else ()

    def _metrics(self, story: Story, newest: bool) -> Sequence[Message]:
        """Those of an earlier run are not told late: they would take the place of newer ones."""
        wanted = [name for name in ("textfile", "pushgateway") if getattr(self._settings.metrics, name)]
        if not newest or not wanted:
            return ()
        from scoring.respond.metrics import messages

        return messages(story, tuple(wanted))

    def _alerts(self, story: Story, newest: bool) -> Sequence[Message]:
        """Those of an earlier run too: what began to fire then is told now. Its command line is not known any more."""
        if not self._settings.alerts.enabled:
            return ()
        from scoring.respond.alerts.notify import receivers as of_chats
        from scoring.respond.alerts.notify import urls
        from scoring.respond.alerts.tell import Alerting

        urls_env = self._settings.alerts.notify.urls_env or ""
        people = [receiver.name for receiver in of_chats(urls_env)]
        environment = os.environ | {f"secret_url_{place}": url for place, url in enumerate(urls(urls_env))}
        alerting = Alerting(self._store, self._name, self._settings.alerts, people, environment)
        return alerting.tell(story, self._said if newest else Said())

    def _retraining(self, story: Story, newest: bool) -> Sequence[Message]:
        if not self._settings.retraining.enabled:
            return ()
        from scoring.respond.retraining.tell import Asking

        return Asking(self._store, self._name, self._settings.retraining, os.environ).tell(story)

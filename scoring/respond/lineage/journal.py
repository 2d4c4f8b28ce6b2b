"""`runs/<run id>/openlineage.jsonl`: the events of a run, one a line, and which of them are still to be sent.

While a run goes on its events are kept in the outbox before they stand here; when it has ended, they stand here first. So all of a
pass that stands here without its end is kept or delivered; a pass that stands here whole, and is to be told again, is told whole:
its telling was cut off.

A pass is a run of its own for OpenLineage. Its id follows from the run's and from when it began, and ids of messages from that and
from the event, so that telling it again tells the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde
from openlineage.client.uuid import generate_static_uuid

from scoring.respond.outbox import Message
from scoring.respond.story import Story
from scoring.stores import Store

RECEIVER = "lineage"
EVENTS = "openlineage.jsonl"
_PLACES = {"START": 0, "RUNNING": 1}  # whatever else there is comes last


def run_id(story: Story) -> str:
    """The UUID of a pass: version 7, of the time it began."""
    record = story.record
    return str(generate_static_uuid(datetime.fromisoformat(record["started"]), f"{story.workspace}\0{record['run_id']}".encode()))


def messages(story: Story, lines: Sequence[str]) -> tuple[Message, ...]:
    """One for each event of the pass, named so that they sort in the order in which they are to come."""
    return tuple(Message(RECEIVER, _name(story.record["started"], json.loads(line)), line) for line in lines)


def serialised(events: Sequence[RunEvent]) -> list[str]:
    return [Serde.to_json(event) for event in events]


class Journal:
    """Of one pass; the file holds those of other passes too. Raises StoreError or OSError, as the store does."""

    def __init__(self, store: Store, story: Story) -> None:
        self._store, self._pass = store, run_id(story)
        self._key = f"runs/{story.record['run_id']}/{EVENTS}"

    def add(self, lines: Sequence[str]) -> None:
        """What stands there already is not written twice."""
        standing = self._all()
        new = [line for line in lines if line not in standing]
        if new:
            self._store.replace(self._key, "".join(f"{line}\n" for line in [*standing, *new]).encode())

    def unsent(self, whole: Sequence[str]) -> list[str]:
        """Of START and end, `whole`, and of what stands here of the pass: what nobody has kept for sending yet."""
        standing = self._own()
        kinds = [_kind(line) for line in standing]
        if "START" not in kinds:
            return list(whole)
        if all(kind in _PLACES for kind in kinds):
            return list(whole[1:])
        return [whole[0], *(line for line, kind in zip(standing, kinds, strict=True) if kind == "RUNNING"), *whole[1:]]

    def _own(self) -> list[str]:
        return [line for line in self._all() if self._pass in line and _plain(line).get("run", {}).get("runId") == self._pass]

    def _all(self) -> list[str]:
        return self._store.get(self._key).decode().splitlines() if self._store.exists(self._key) else []


def _name(began: str, event: dict[str, Any]) -> str:
    kind = event["eventType"]
    at = f"-{_digits(event['eventTime'])}" if kind == "RUNNING" else ""
    return f"{_digits(began)[:14]}-{event['run']['runId']}-{_PLACES.get(kind, 2)}{at}-{kind.lower()}"


def _digits(moment: str) -> str:
    return re.sub(r"[^0-9]", "", moment.partition("+")[0])


def _kind(line: str) -> str:
    return str(_plain(line).get("eventType"))


def _plain(line: str) -> dict[str, Any]:
    """{} for a line that somebody cut off."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

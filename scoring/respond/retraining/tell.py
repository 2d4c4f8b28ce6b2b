"""The teller of retraining events: a story in, messages out; verdicts on partitions are kept in `<workspace>/retraining/passes`.

The events stand in `<workspace>/events`, one complete file each, put if absent and never taken away: cool-down and budget go by the
names of these files, and one that is damaged counts as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scoring.redact import scrubbed
from scoring.respond.outbox import Message
from scoring.respond.passes import Pass, Passes
from scoring.respond.retraining.decide import Asked, decide
from scoring.respond.retraining.judged import Verdict, judged, merged
from scoring.respond.story import Story
from scoring.settings import Retraining
from scoring.stores import Store

FOLDER, EVENTS = "retraining/passes", "events"
HTTP, COMMAND = "retraining-http", "retraining-command"
_NAME = re.compile(rf"{EVENTS}/(\d{{8}}T\d{{6}}Z)-(retrain|incident)-([0-9a-f]{{16}})\.json")


@dataclass(frozen=True)
class Known:
    """After a pass. `decision` says in words what came of it."""

    verdicts: tuple[Verdict, ...] = ()
    decision: str = ""

    @classmethod
    def of(cls, raw: Any) -> Known:
        """From JSON. Raises: TypeError, ValueError, KeyError, AttributeError: it is something else."""
        return cls(tuple(map(Verdict.of, raw["verdicts"])), str(raw["decision"]))

    def plain(self) -> dict[str, Any]:
        return {"verdicts": [v.plain() for v in self.verdicts], "decision": self.decision}


class Asking:
    """`environment` is searched for secrets that may not be told."""

    def __init__(self, store: Store, name: str, settings: Retraining, environment: Mapping[str, str]) -> None:
        self._store, self._settings, self._environment = store, settings, environment
        self._passes = Passes(store, FOLDER, name, Known.of, self._relived)

    def tell(self, story: Story) -> tuple[Message, ...]:
        """At most one event, and nothing where no partition was judged. A pass that is told again gives the same.

        Raises: StoreError, OSError: the state cannot be listed or kept, or the event not be written.
        """
        own = Pass.of(story.record)
        before = self._passes.before(own, Known(), lambda known: known)
        if before is None or own.settled:
            return ()
        fresh = judged(story, own.when.isoformat(), self._settings.threshold)
        verdicts = merged(before.verdicts, fresh)
        if not fresh:
            return ()
        model = str((story.record["model"] or {}).get("digest", ""))
        decision = decide(verdicts, model, list(self._past()), own.when, self._settings)
        made: tuple[Message, ...] = ()
        if decision.kind != "nothing":
            from scoring.respond.retraining.events import CONTENT_TYPE, event

            body = self._safe(event(decision, story, own.when, self._settings))
            name = f"{own.when.astimezone(UTC):%Y%m%dT%H%M%SZ}-{decision.kind}-{decision.id(model)[:16]}"
            self._store.put(f"{EVENTS}/{name}.json", body.encode())
            made = tuple(Message(to, name, body, CONTENT_TYPE) for to in self._receivers())
        self._passes.keep(own, Known(verdicts, f"{decision.kind}: {decision.why}").plain())
        return made

    def _relived(self, known: Known, own: Pass, story: Story) -> Known:
        """A pass whose state was lost: its verdicts, and no event."""
        verdicts = merged(known.verdicts, judged(story, own.when.isoformat(), self._settings.threshold))
        after = Known(verdicts, known.decision)
        self._passes.keep(own, after.plain())
        return after

    def _receivers(self) -> Iterator[str]:
        yield from ([HTTP] if self._settings.url else []) + ([COMMAND] if self._settings.command else [])

    def _past(self) -> Iterator[Asked]:
        for key in self._store.list(EVENTS):
            if found := _NAME.fullmatch(key):
                when = datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                yield Asked(found[2], found[3], when)  # type: ignore[arg-type]

    def _safe(self, body: str) -> str:
        return json.dumps(scrubbed(json.loads(body), self._environment), sort_keys=True)

"""The teller of alerts: a story in, messages out; what is known of alerts is kept in `<workspace>/alerts/passes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from scoring.redact import scrub
from scoring.respond.alerts import quiet
from scoring.respond.alerts.acks import acknowledged
from scoring.respond.alerts.commands import Said, commands
from scoring.respond.alerts.course import Note, Seen, State, advance
from scoring.respond.alerts.matching import Hit, found
from scoring.respond.alerts.rules import Rule, rules
from scoring.respond.alerts.wording import message, postable
from scoring.respond.outbox import Message
from scoring.respond.passes import Pass, Passes
from scoring.respond.story import Story
from scoring.settings import Alerts
from scoring.stores import Store

FOLDER = "alerts/passes"
ALERTMANAGER = "alertmanager"
PATH = "/api/v2/alerts"


class Alerting:
    """`people` are the names of receivers of notifications; `environment` is searched for secrets that may not be told."""

    def __init__(self, store: Store, name: str, settings: Alerts, people: Sequence[str], environment: Mapping[str, str]) -> None:
        self._store, self._name, self._settings = store, name, settings
        self._people, self._environment = people, environment
        self._rules = rules(settings)
        self._passes = Passes(store, FOLDER, name, State.of, self._relived)

    def tell(self, story: Story, said: Said) -> tuple[Message, ...]:
        """Nothing, if a later pass was told already. A pass that is told again gives the same messages.

        Raises: StoreError, OSError: the state cannot be listed or kept.
        """
        own = Pass.of(story.record)
        before = self._passes.before(own, State(), _unannounced)
        if before is None:
            return ()
        after, notes = self._stepped(before, own, story, said)
        if own.settled and not after.firing and not notes:
            return ()
        self._passes.keep(own, after.plain())
        return (*self._to_alertmanager(after, notes, own, story), *self._to_people(notes, own, story))

    def _stepped(self, state: State, own: Pass, story: Story, said: Said) -> tuple[State, tuple[Note, ...]]:
        what = {rule.name: found(rule, story, own.settled) for rule in self._rules}
        made = partial(self._commands, story, said)
        told = {name: None if hits is None else [self._clean(hit) for hit in hits] for name, hits in what.items()}
        seen = Seen(self._name, own.run_id, own.when.isoformat(), told, own.settled, made)
        marks = acknowledged(self._store, state.firing)
        return advance(state, seen, self._rules, marks, self._settings.escalate_after)

    def _relived(self, state: State, own: Pass, story: Story) -> State:
        """A pass whose state was lost: kept again, and nobody is told of it."""
        after, _ = self._stepped(state, own, story, Said())
        self._passes.keep(own, after.plain())
        return after

    def _commands(self, story: Story, said: Said, rule: Rule, hit: Hit) -> list[tuple[str, str]]:
        return [(self._safe(why), self._safe(command)) for why, command in commands(rule, hit, story, said)]

    def _clean(self, hit: Hit) -> Hit:
        labels = {name: self._safe(value) for name, value in hit.labels.items()}
        return replace(hit, labels=labels, said=self._safe(hit.said), partitions=tuple(map(self._safe, hit.partitions)))

    def _safe(self, text: str) -> str:
        return scrub(text, self._environment)

    def _to_alertmanager(self, state: State, notes: Sequence[Note], own: Pass, story: Story) -> tuple[Message, ...]:
        if not self._settings.alertmanager.url:
            return ()
        body = postable(state, notes, story.workspace, own.when, self._settings.alertmanager.expires_h)
        return (Message(ALERTMANAGER, f"{own.id}-alerts", body),) if body else ()

    def _to_people(self, notes: Sequence[Note], own: Pass, story: Story) -> tuple[Message, ...]:
        """One message, or two in quiet hours, of which that with the warnings waits. What is gone waits as it was told."""
        until = quiet.until(self._settings.notify, own.when)
        later = [n for n in notes if until and n.alert.severity != "page"]
        now = [n for n in notes if n not in later]
        made: list[Message] = []
        for to in self._people:
            told: tuple[tuple[Sequence[Note], str, dict[str, Any]], ...] = ((now, "alerts", {}),)
            told += ((later, "alerts-quiet", {"after": until.isoformat()}),) if until else ()
            for some, name, more in told:
                if some:
                    body = message(some, self._name, own.run_id, story.workspace)
                    made.append(Message(to, f"{own.id}-{name}", body, **more))
        return tuple(made)


def _unannounced(state: State) -> State:
    """Of runs from before alerts were judged here, or whose state somebody removed: what fires is told once more."""
    return replace(state, firing=tuple(replace(a, told=False, runs=0) for a in state.firing), gone=())

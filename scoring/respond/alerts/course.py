"""The course of an alert from run to run: fires, is hidden by another, acknowledged, escalated, gone. Pure.

An alert is its labels, severity aside; their digest is its fingerprint. It fires while its rule found it in `at_least` of the
`of_last` last runs that could tell, and is told when it begins and is not hidden, when `escalate_after` runs have passed without an
acknowledgement, and, if it had been told, when it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from scoring.respond.alerts.matching import Hit
from scoring.respond.alerts.rules import Rule
from scoring.types import digest

_REMEMBERED = 200  # alerts that are gone
Kind = Literal["new", "again", "escalated", "resolved"]


@dataclass(frozen=True)
class Alert:
    """`since` and `until` are ISO 8601 in UTC; `runs` are counted since it was last told; `run_id` is the last that found it.

    `told`: somebody was told that it fires. `hidden`: by another that fires. `commands` are (why, command).
    """

    fingerprint: str
    rule: str
    severity: str
    labels: dict[str, str]
    said: str
    run_id: str
    since: str
    until: str = ""
    partitions: tuple[str, ...] = ()
    count: int = 0
    commands: tuple[tuple[str, str], ...] = ()
    runs: int = 0
    told: bool = False
    hidden: bool = False
    escalated: bool = False
    acknowledged: bool = False

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Alert:
        """From JSON. Raises: TypeError, ValueError, KeyError, AttributeError: it is not an alert."""
        known = {f: raw[f] for f in cls.__dataclass_fields__}
        for name, kind in _TYPES.items():
            if not isinstance(known[name], kind):
                raise TypeError(f"{name} is {known[name]!r}")
        commands = tuple((str(why), str(command)) for why, command in known["commands"])
        return cls(**known | {"partitions": tuple(map(str, known["partitions"])), "commands": commands})

    @property
    def all_labels(self) -> dict[str, str]:
        """With those that change while it fires."""
        return self.labels | {"severity": self.severity} | ({"escalated": "true"} if self.escalated else {})


_TYPES = {
    **dict.fromkeys(("fingerprint", "rule", "severity", "said", "run_id", "since", "until"), str),
    **dict.fromkeys(("told", "hidden", "escalated", "acknowledged"), bool),
    **dict.fromkeys(("runs", "count"), int),
    **{"labels": dict, "partitions": list, "commands": list},
}


@dataclass(frozen=True)
class State:
    """After a pass. `history` holds, by rule, the fingerprints found in each of the last runs that could tell, oldest first."""

    firing: tuple[Alert, ...] = ()
    gone: tuple[Alert, ...] = ()
    history: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Any) -> State:
        """From JSON. Raises: as `Alert.of`."""
        history = {str(rule): tuple(tuple(map(str, run)) for run in runs) for rule, runs in raw["history"].items()}
        return cls(tuple(map(Alert.of, raw["firing"])), tuple(map(Alert.of, raw["gone"])), history)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Seen:
    """A pass as the rules see it: what each found, None where it cannot tell. `commands` are made for an alert that was found.

    `settled`: it found everything published: whatever was wrong with a run is mended. `when` is ISO 8601 in UTC.
    """

    pipeline: str
    run_id: str
    when: str
    found: Mapping[str, Sequence[Hit] | None]
    settled: bool = False
    commands: Callable[[Rule, Hit], Sequence[tuple[str, str]]] | None = None


@dataclass(frozen=True)
class Note:
    """Something to tell. `before` are the labels under which it was told last, where these are others now."""

    kind: Kind
    alert: Alert
    before: Mapping[str, str] = field(default_factory=dict)


def fingerprint(labels: Mapping[str, str]) -> str:
    return digest(dict(labels))[:16]


def advance(
    state: State, seen: Seen, rules: Sequence[Rule], acknowledged: Collection[tuple[str, str]], escalate_after: int
) -> tuple[State, tuple[Note, ...]]:
    """The state after a pass, and what is to be told. `acknowledged` holds (fingerprint, since)."""
    hits = {rule.name: _named(rule, seen) for rule in rules}
    history = {rule.name: _history(rule, state, seen, hits[rule.name]) for rule in rules}
    before = {alert.fingerprint: alert for alert in state.firing}
    now: list[Alert] = []
    for rule in rules:
        for mark in sorted(_firing(rule, history[rule.name])):
            if (alert := _alert(rule, seen, mark, before.get(mark), hits[rule.name])) is not None:
                now.append(replace(alert, acknowledged=(mark, alert.since) in acknowledged))
    shown = _hidden(now, rules)
    told = [_told(alert, escalate_after, counts=not seen.settled) for alert in shown]
    firing = tuple(alert for alert, _ in told)
    left = {alert.fingerprint for alert in firing}
    gone = [replace(a, until=max(seen.when, a.since)) for a in state.firing if a.fingerprint not in left and a.told]
    notes = [*(note for _, note in told if note is not None), *(Note("resolved", a) for a in gone)]
    return State(firing, (*state.gone, *gone)[-_REMEMBERED:], history), tuple(notes)


def _named(rule: Rule, seen: Seen) -> dict[str, tuple[dict[str, str], Hit]] | None:
    """Labels and hit by fingerprint."""
    hits = seen.found.get(rule.name)
    if hits is None:
        return None
    own = {"alertname": rule.name, "pipeline": seen.pipeline}
    labelled = [(dict(rule.labels) | dict(hit.labels) | own, hit) for hit in hits]
    return {fingerprint(labels): (labels, hit) for labels, hit in labelled}


def _history(rule: Rule, state: State, seen: Seen, hits: Mapping[str, Any] | None) -> tuple[tuple[str, ...], ...]:
    past = state.history.get(rule.name, ())
    if hits is None:
        return past[-rule.of_last :]
    if seen.settled:
        return ()
    return (*past, tuple(sorted(hits)))[-rule.of_last :]


def _firing(rule: Rule, history: Sequence[Sequence[str]]) -> Iterator[str]:
    for mark in {mark for run in history for mark in run}:
        if sum(mark in run for run in history) >= rule.at_least:
            yield mark


def _alert(
    rule: Rule, seen: Seen, mark: str, standing: Alert | None, hits: Mapping[str, tuple[dict[str, str], Hit]] | None
) -> Alert | None:
    """One that fires already keeps its severity; without a hit of this run it keeps its words."""
    if not hits or mark not in hits:
        return standing
    labels, hit = hits[mark]
    made = standing or Alert(mark, rule.name, rule.severity, labels, "", "", seen.when)
    commands = tuple(seen.commands(rule, hit)) if seen.commands else ()
    about = replace(made, said=hit.said, partitions=hit.partitions, count=hit.count, commands=commands)
    return replace(about, run_id=seen.run_id)


def _hidden(alerts: Sequence[Alert], rules: Sequence[Rule]) -> list[Alert]:
    """Pages first, then in the order of the rules: an alert that is hidden hides none, so that one of them is always told."""
    place = {rule.name: n for n, rule in enumerate(rules)}
    inhibits = {rule.name: rule.inhibits for rule in rules}
    shown: list[Alert] = []
    for alert in sorted(alerts, key=lambda a: (a.severity != "page", place[a.rule], a.fingerprint)):
        over = (by for by in shown if not by.hidden and by.rule != alert.rule)
        hidden = any(_covers(glob, alert) for by in over for glob in inhibits[by.rule])
        shown.append(replace(alert, hidden=hidden))
    return shown


def _covers(glob: str, alert: Alert) -> bool:
    return fnmatchcase(alert.rule, glob) or glob == f"severity={alert.severity}"


def _told(alert: Alert, escalate_after: int, counts: bool) -> tuple[Alert, Note | None]:
    """A pass that judged nothing has no news of what was hidden: the next one that judges will."""
    if alert.hidden or (not alert.told and not counts):
        return alert, None
    if not alert.told:
        first = replace(alert, told=True, runs=0)
        return first, Note("new", first)
    later = replace(alert, runs=alert.runs + counts)
    if alert.acknowledged or not counts or not escalate_after or later.runs < escalate_after:
        return later, None
    raised = replace(later, runs=0, severity="page", escalated=True)
    return raised, Note("again", raised) if alert.escalated else Note("escalated", raised, alert.all_labels)

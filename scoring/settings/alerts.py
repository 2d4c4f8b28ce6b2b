"""Alerts and retraining events: what fires, who is told, when a model is asked to be trained again.

Addresses hold no secret: tokens, and the addresses of people, come from the environment by the name of their variable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from scoring.settings.checking import AtLeastNone, AtLeastOne, NotNegative, Positive, Share

Severity = Literal["warn", "page"]


@dataclass(frozen=True)
class AlertRule:
    """A rule looks at one of three: `check` (names of checks), `run` (how the run ended) or `metric`. Names are globs.

    What is None is as in the shipped rule of that name, and where there is none: every subject and severity of a check, status warn
    and fail, severity warn, 1 of the last 1. `inhibits` are names of rules, or "severity=warn", whose alerts are hidden meanwhile.
    """

    enabled: bool | None = None
    check: tuple[str, ...] | None = None
    subject: tuple[str, ...] | None = None  # a column, a reason, a partition
    status: tuple[Literal["warn", "fail"], ...] | None = None  # of the check
    check_severity: Literal["warn", "error"] | None = None
    run: tuple[Literal["published-with-warnings", "held", "paused", "failed"], ...] | None = None
    metric: str | None = None  # as Prometheus knows it: scoring_null_ratio
    where: dict[str, str] | None = None  # labels of the metric: {column: amount}
    above: float | None = None
    below: float | None = None
    at_least: AtLeastOne | None = None  # so many …
    of_last: AtLeastOne | None = None  # … of the last runs that could tell
    severity: Severity | None = None
    labels: dict[str, str] | None = None
    inhibits: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Alertmanager:
    """Prometheus Alertmanager, API v2."""

    url: str | None = None  # http://alertmanager:9093
    token_env: str = "SCORING_ALERTMANAGER_TOKEN"
    expires_h: Positive = 192.0  # it forgets an alert that no run has repeated for so many hours


@dataclass(frozen=True)
class Notify:
    """Chats, mail and the rest, by apprise. Its URLs hold secrets, so that only their variable is named here."""

    urls_env: str | None = None  # the variable that holds one or more URLs, separated by blanks
    quiet: str | None = None  # "22:00-07:00": warnings wait till its end, and go out with the next run after it
    timezone: str = "UTC"  # of `quiet`


@dataclass(frozen=True)
class Alerts:
    """`rules` by name: what is said of a shipped rule changes that of it, another name is a rule of your own."""

    enabled: bool = True
    rules: dict[str, AlertRule] = field(default_factory=dict)
    escalate_after: AtLeastNone = 3  # runs without acknowledgement after which an alert is sent again, as page; 0: never
    alertmanager: Alertmanager = Alertmanager()
    notify: Notify = Notify()


@dataclass(frozen=True)
class Retraining:
    """CloudEvents that ask for a model to be trained again, in <workspace>/events; `url` and `command` get them as well."""

    enabled: bool = False
    drifted: AtLeastOne = 3  # so many …
    of_last: AtLeastOne = 5  # … of the latest judged partitions must have drifted
    threshold: Share = 0.1  # share of rows that moved, of a column or a score, from which on a partition counts as drifted
    cool_down_days: NotNegative = 7.0  # after a request
    monthly_budget: AtLeastOne = 2  # requests in a calendar month, UTC
    min_rows: AtLeastNone = 10_000  # scored rows of the drifted partitions; with fewer there is nothing to learn from
    approvals: tuple[str, ...] = ()  # who has to approve; told with the event, and decided there
    url: str | None = None  # POST, structured mode
    token_env: str = "SCORING_RETRAINING_TOKEN"
    command: tuple[str, ...] = ()  # program and arguments, no shell; the event comes on its stdin

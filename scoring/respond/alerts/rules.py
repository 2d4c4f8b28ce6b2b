"""The rules: those that are shipped, what a job changes of them, and what cannot be one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from scoring.redact import is_secret
from scoring.settings import AlertRule, Alerts

_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
OWN_LABELS = ("alertname", "pipeline", "severity", "escalated", "check", "subject")
_CONTRACT = ("contract:*", "bad_rows", "bad_share", "readable", "carried_columns", "conservation", "fallback_share")

SHIPPED: Mapping[str, AlertRule] = {
    "failed": AlertRule(run=("failed",), severity="page", inhibits=("*",)),
    "held": AlertRule(run=("held",), severity="page", inhibits=("severity=warn", "check-failed")),
    "stopped": AlertRule(run=("paused",), at_least=2, of_last=2),
    "check-failed": AlertRule(check=_CONTRACT, status=("fail",), severity="page"),
    "files-lost": AlertRule(check=("bad_files",)),
    "quarantine": AlertRule(metric="scoring_quarantined_ratio", above=0.02),
    "drift": AlertRule(check=("drift", "score_drift"), status=("fail",)),
    "drift-lasting": AlertRule(check=("drift", "score_drift"), status=("warn",), at_least=3, of_last=5),
    "unlike-before": AlertRule(check=("null_rate", "quarantine_mix", "history")),
}


@dataclass(frozen=True)
class Rule:
    """A rule with everything said. `inhibits` as in the settings; `at_least` of the `of_last` last runs that could tell."""

    name: str
    check: tuple[str, ...] = ()
    subject: tuple[str, ...] = ("*",)
    status: tuple[str, ...] = ("warn", "fail")
    check_severity: str | None = None
    run: tuple[str, ...] = ()
    metric: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    above: float | None = None
    below: float | None = None
    at_least: int = 1
    of_last: int = 1
    severity: str = "warn"
    labels: Mapping[str, str] = field(default_factory=dict)
    inhibits: tuple[str, ...] = ()


def rules(settings: Alerts) -> tuple[Rule, ...]:
    """Those that are enabled, shipped ones first."""
    said = {name: _changed(SHIPPED.get(name, AlertRule()), settings.rules.get(name)) for name in (*SHIPPED, *settings.rules)}
    return tuple(_whole(name, one) for name, one in said.items() if one.enabled is not False)


def wrong(settings: Alerts) -> str:
    """What cannot be a rule, and why; "" if all can."""
    for name in settings.rules:
        if not _NAME.fullmatch(name):
            return f"{name!r} is no name. Use up to 60 letters, digits, '_', '-'."
    return next((f"{rule.name}: {why}" for rule in rules(settings) if (why := _wrong(rule))), "")


def _changed(shipped: AlertRule, said: AlertRule | None) -> AlertRule:
    if said is None:
        return shipped
    named = {f.name: value for f in fields(said) if (value := getattr(said, f.name)) is not None}
    return replace(shipped, **named)


def _whole(name: str, said: AlertRule) -> Rule:
    """`of_last` is `at_least` where only that is said."""
    named = {f.name: value for f in fields(said) if f.name != "enabled" and (value := getattr(said, f.name)) is not None}
    if "at_least" in named and "of_last" not in named:
        named["of_last"] = named["at_least"]
    return Rule(name, **named)


def _wrong(rule: Rule) -> str:
    looks = [name for name in ("check", "run", "metric") if getattr(rule, name)]
    if len(looks) != 1:
        return f"it looks at {' and '.join(looks) or 'nothing'}. Say one of check=[…], run=[…], metric=…"
    if rule.metric and (rule.above is None) == (rule.below is None):
        return f"{rule.metric} is held against nothing, or two things. Say above=… or below=…"
    if rule.at_least > rule.of_last:
        return f"at_least={rule.at_least} of_last={rule.of_last} can never be. Say of_last={rule.at_least} or more."
    for label in rule.labels:
        if not _LABEL.fullmatch(label) or label in OWN_LABELS:
            return f"{label!r} cannot be a label of yours. Use letters, digits and '_', and none of {', '.join(OWN_LABELS)}."
        if is_secret(label):
            return f"the label {label!r} looks like a secret, and labels are shown to everybody. Leave it out."
    return ""

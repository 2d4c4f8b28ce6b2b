"""How alerts are told: to Alertmanager in its JSON (API v2), to people in one message for all that a run has to say.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, postableAlerts. Both are pure functions of the notes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from scoring.respond.alerts.course import Alert, Note, State

_MOST_TOLD = 20  # alerts in one message to people
_WORDS = {"new": "fires", "again": "still fires", "escalated": "escalated: nobody acknowledged it", "resolved": "is gone"}
_ORDER = ("escalated", "new", "again", "resolved")


def postable(state: State, notes: Sequence[Note], workspace: str, when: datetime, expires_h: float) -> str:
    """Everything that fires and is not hidden, and what is gone. What fires ends by itself in `expires_h`, unless it is told again.

    Labels make an alert there: one that was escalated ends under those it had.
    """
    until = (when + timedelta(hours=expires_h)).isoformat()
    said = [_alert(a, a.all_labels, until, workspace) for a in state.firing if a.told and not a.hidden]
    for note in notes:
        if note.kind == "resolved":
            said.append(_alert(note.alert, note.alert.all_labels, note.alert.until, workspace))
        elif note.before:
            said.append(_alert(note.alert, note.before, when.isoformat(), workspace))
    return json.dumps(said, sort_keys=True) if said else ""


def _alert(alert: Alert, labels: Mapping[str, str], until: str, workspace: str) -> dict[str, Any]:
    """Alertmanager takes no alert that ends before it begins, nor one that ends as it begins."""
    ends = max(until, (datetime.fromisoformat(alert.since) + timedelta(seconds=1)).isoformat())
    return {
        "labels": dict(labels),
        "annotations": {name: text for name, text in _annotations(alert, workspace).items() if text},
        "startsAt": alert.since,
        "endsAt": ends,
        "generatorURL": _page(alert, workspace),
    }


def _annotations(alert: Alert, workspace: str) -> dict[str, str]:
    shows, mends = alert.commands[:1], alert.commands[1:]
    return {
        "summary": f"{alert.labels['pipeline']}: {alert.said}",
        "partitions": partitions(alert),
        "run_id": alert.run_id,
        "reproduce": "\n".join(command for _, command in shows),
        "mend": "\n".join(f"{command}  # {why}" for why, command in mends),
        "acknowledge": acknowledge(alert, workspace),
        "fingerprint": alert.fingerprint,
    }


def partitions(alert: Alert) -> str:
    """Those that are known by name, and how many more there are."""
    more = alert.count - len(alert.partitions)
    return ", ".join(alert.partitions) + (f" and {more} more" if more > 0 else "")


def acknowledge(alert: Alert, workspace: str) -> str:
    return f"scoring alerts ack {alert.fingerprint} {_place(workspace)} reason=…"


def _page(alert: Alert, workspace: str) -> str:
    """An address: the report of the run that found it last."""
    page = f"runs/{alert.run_id}/report.html"
    return f"{workspace}/{page}" if "://" in workspace else (Path(workspace).absolute() / page).as_uri()


def message(notes: Sequence[Note], pipeline: str, run_id: str, workspace: str) -> str:
    """JSON with `title`, `body` (plain text) and `type` (as apprise has them: failure, warning, success)."""
    ordered = sorted(notes, key=lambda n: (_ORDER.index(n.kind), n.alert.severity != "page", n.alert.rule, n.alert.fingerprint))
    firing = [n for n in ordered if n.kind != "resolved"]
    gone = len(ordered) - len(firing)
    counts = [f"{len(firing)} alert(s)"] * bool(firing) + [f"{gone} gone"] * bool(gone)
    kind = "success" if not firing else "failure" if any(n.alert.severity == "page" for n in firing) else "warning"
    body = "\n\n".join("\n".join(_told(note, workspace)) for note in ordered[:_MOST_TOLD])
    if len(ordered) > _MOST_TOLD:
        body += f"\n\nand {len(ordered) - _MOST_TOLD} more: scoring alerts {_place(workspace)}"
    return json.dumps({"title": f"{pipeline}: {', '.join(counts)}, run {run_id}", "body": body, "type": kind}, sort_keys=True)


def _told(note: Note, workspace: str) -> Iterator[str]:
    alert = note.alert
    yield f"[{alert.severity}] {alert.rule} {_WORDS[note.kind]}: {alert.said}"
    yield f"since {alert.since}" + (f", until {alert.until}" if alert.until else "")
    if note.kind != "resolved":
        yield from (f"{why}: {command}" for why, command in alert.commands)
        yield f"acknowledge: {acknowledge(alert, workspace)}"


def _place(workspace: str) -> str:
    return shlex.quote(f"workspace={workspace}")

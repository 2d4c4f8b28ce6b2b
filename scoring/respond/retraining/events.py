"""The CloudEvents (1.0, JSON) that a decision is told as. https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import quote

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from scoring.respond.retraining.decide import Decision
from scoring.respond.retraining.judged import Verdict
from scoring.respond.story import Story
from scoring.settings import Retraining

CONTENT_TYPE = "application/cloudevents+json"
TYPES: Mapping[str, str] = {"retrain": "scoring.retrain.requested.v1", "incident": "scoring.data.incident.v1"}
_MOST_REASONS, _MOST_PARTITIONS = 100, 400


def event(decision: Decision, story: Story, when: datetime, settings: Retraining) -> str:
    """One JSON object; the same for the same run, however often it is made."""
    model: Mapping[str, str] = story.record["model"] or {}
    attributes: dict[str, Any] = {
        "id": decision.id(str(model.get("digest", ""))),
        "type": TYPES[decision.kind],
        "source": f"/scoring/{quote(story.name, safe='')}",
        "subject": f"models:/{quote(str(model.get('name', '')) or 'unknown', safe='')}",
        "time": when,
        "datacontenttype": "application/json",
    }
    own = _training(decision, story, settings) if decision.kind == "retrain" else _incident(story)
    return JSONFormat().write(CloudEvent(attributes, _data(decision, story) | own)).decode()


def _data(decision: Decision, story: Story) -> dict[str, Any]:
    run = str(story.record["run_id"])
    return {
        "why": decision.why,
        "reasons": _reasons(decision),
        "model": {name: (story.record["model"] or {}).get(name, "") for name in ("name", "version", "digest")},
        "window": _window(decision.window),
        "run": {"run_id": run, "workspace": story.workspace, "job": story.name},
        "reproduce": f"scoring report {shlex.quote(run)} {shlex.quote(f'workspace={story.workspace}')}",
    }


def _training(decision: Decision, story: Story, settings: Retraining) -> dict[str, Any]:
    """`labels` is what nobody here knows: whether the rows have any yet."""
    first, last = decision.about[0].start, max(v.end for v in decision.window)
    return {
        "baseline": {"digest": story.record["environment"].get("baseline", ""), "bundle": story.asked.get("bundle", "")},
        "suggested_training_interval": {"start": first, "end": last} if first and last else None,
        "doubts": list(islice((dict(check) for v in decision.window for check in v.doubts), _MOST_REASONS)),
        "rows": sum(v.rows for v in decision.about),
        "labels": None,
        "approvals_needed": list(settings.approvals),
    }


def _incident(story: Story) -> dict[str, Any]:
    source = story.asked.get("source", {})
    return {"verdict": "fix upstream", "source": {name: source.get(name, "") for name in ("kind", "path")}}


def _reasons(decision: Decision) -> list[dict[str, Any]]:
    """Checks, each with its partition."""
    found = (dict(check) for v in decision.about for check in (v.reasons if decision.kind == "retrain" else v.broken))
    return list(islice(found, _MOST_REASONS))


def _window(window: Sequence[Verdict]) -> dict[str, Any]:
    """Half-open, in UTC; null where partitions name no day. `judgements` is where in the workspace the findings stand."""
    partitions = [
        {
            "partition": v.key,
            "run_id": v.run_id,
            "interval": {"start": v.start, "end": v.end} if v.start else None,
            "drifted": v.drifted,
            "broken": bool(v.broken),
            "rows": v.rows,
            "judgements": f"watch/records/{v.key}/",
        }
        for v in window[-_MOST_PARTITIONS:]
    ]
    dated = [v for v in window if v.start]
    return {
        "start": min((v.start for v in dated), default=None),
        "end": max((v.end for v in dated), default=None),
        "partitions": partitions,
    }

"""Runs as they stand in a workspace, without a run: records with checks and findings, day by day."""

from __future__ import annotations

import json

from told_story import DIGEST, check, finding

from scoring.respond.story import Story, tell
from scoring.types import canonical

NAME = "churn-nightly"
MODEL = {"name": "churn", "version": "3", "digest": DIGEST}


def day(number: int, checks=(), findings=(), status="published", scored=1000, key="") -> dict:
    """A partition of a record, and what `watch/` found in it."""
    rows = {"in": scored, "scored": scored, "quarantined": 0, "suppressed": 0}
    key = key or f"date=2026-01-{number:02d}"
    every = [*checks, check("bad_share", key, "pass", "error")]
    return {"key": key, "status": status, "rows": rows, "checks": every, "version": 0, "findings": list(findings)}


def drifted(number: int, column="amount", moved=0.3, **more) -> dict:
    return day(number, [check("drift", column, "fail")], [finding("drift", column, moved, "fail")], **more)


def calm(number: int, **more) -> dict:
    return day(number, [check("drift", f"date=2026-01-{number:02d}", "pass")], [finding("drift", "amount", 0.01, "pass")], **more)


def record(n: int, *days: dict, status="published", message="", year=2026, month=1, model=MODEL) -> dict:
    """Run `n` (its name and its minute)."""
    started, finished = (f"{year}-{month:02d}-05T{n // 60:02d}:{n % 60:02d}:{second}+00:00" for second in ("00", "30"))
    rows = {name: sum(d["rows"][name] for d in days) for name in ("in", "scored", "quarantined", "suppressed")}
    return {
        "run_id": f"run-{n:03d}",
        "status": status,
        "rows": rows,
        "started": started,
        "finished": finished,
        "message": message,
        "model": model,
        "rates": {"rows_per_second": 10.0, "wall_seconds": 30.0},
        "stages": {},
        "routes": {},
        "reasons": {},
        "environment": {"baseline": "b" * 64},
        "partitions": [{k: v for k, v in d.items() if k != "findings"} for d in days],
    }


def left(store, said: dict, *days: dict) -> Story:
    """Keep what the run left, and tell its story."""
    store.replace(f"runs/{said['run_id']}/record.json", json.dumps(said).encode())
    store.replace(
        f"runs/{said['run_id']}/asked.json",
        canonical({"source": {"kind": "parquet", "path": "/data/in"}, "bundle": "/models/churn"}),
    )
    for one in days:
        found = {"findings": one["findings"], "summary": {}, "figures": {}, "input_digest": "", "baseline": ""}
        store.replace(f"watch/records/{one['key']}/{said['run_id']}.0.json", canonical(found))
    return tell(store, NAME, said)


def ran(store, n: int, *days: dict, **more) -> Story:
    return left(store, record(n, *days, **more), *days)


def settled(store) -> Story:
    """A run that finds everything published."""
    return tell(store, NAME, record(999) | {"started": "", "finished": "", "run_id": "run-000"})

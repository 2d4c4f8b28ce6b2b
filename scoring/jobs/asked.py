"""What a run was asked, kept in its folder when it begins, for whoever tells of it: no rows, no secrets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoring.models.manifest import plain
from scoring.redact import scrubbed
from scoring.respond.outbox import Outbox
from scoring.respond.story import ASKED
from scoring.settings import Job, Respond
from scoring.stores import Store
from scoring.types import Partition, canonical
from scoring.watch.tables import window


def wanted(settings: Respond) -> bool:
    """Whether anybody is to be told."""
    told_by_file = settings.lineage.enabled or settings.alerts.enabled or settings.retraining.enabled
    return told_by_file or settings.metrics.textfile is not None or settings.metrics.pushgateway is not None


def name(job: Job) -> str:
    """What the job is called elsewhere."""
    last = job.workspace.rstrip("/").rsplit("/", 1)[-1]
    return job.respond.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", last)[:100] or "scoring"


def keep(
    store: Store, job: Job, run_id: str, started: str, lanes: int, todo: tuple[Partition, ...], model: Mapping[str, str]
) -> None:
    """Also marks the run as untold. `job` holds the whole contract; `started` is ISO 8601. Raises nothing."""
    if not wanted(job.respond):
        return
    with suppress(Exception):
        Outbox(store).mark(run_id)
        said = {"started": started, "model": dict(model), "lanes": lanes, "nominal": _nominal([p.key for p in todo])}
        store.replace(f"runs/{run_id}/{ASKED}", canonical(scrubbed(said | _source(store, job, todo))))


def started(store: Store, run_id: str) -> str:
    """When the pass began; "" where nobody kept it."""
    with suppress(Exception):
        return str(json.loads(store.get(f"runs/{run_id}/{ASKED}"))["started"])
    return ""


def _source(store: Store, job: Job, todo: tuple[Partition, ...]) -> dict[str, Any]:
    bundle = Path(job.model.bundle).absolute()
    said = plain((bundle / "model.yaml").read_bytes(), "model.yaml")
    columns = {n: {"dtype": c.dtype, "treatment": c.treatment, "pii": c.pii} for n, c in job.contract.columns.items()}
    files = [file for partition in todo for file in partition.files]
    again = job.source.kind == "quarantine"  # a requeue
    path = f"{store.root}/quarantine" if again else os.path.abspath(os.path.expanduser(job.source.path.removeprefix("file://")))
    return {
        "source": {"kind": job.source.kind, "path": path},
        "carry": list(job.source.carry),
        "columns": columns,
        "inputs": [item["name"] for item in said["inputs"]],
        "bundle": str(bundle),
        "files": len(files),
        "bytes": sum(file.size for file in files),
    }


def _nominal(keys: Sequence[str]) -> list[str] | None:
    """The first instant and the one after the last that partitions are named after, ISO 8601 in UTC."""
    found = [(start, end) for start, end in map(window, keys) if start and end]
    return [min(s for s, _ in found).isoformat(), max(e for _, e in found).isoformat()] if found else None

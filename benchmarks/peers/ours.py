"""Our own job: the command that users type, and what its record says. Nothing is called from within."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from peers.task import Task


def command(name: str, task: Task) -> list[str]:
    """`name` is an engine, perhaps with a precision: ray-bf16."""
    engine, _, precision = name.partition("-")
    said = ["source=parquet", f"source.path={task.data}", "source.carry=[id]", f"model.bundle={task.bundle}"]
    said += [f"workspace={task.out}/workspace", f"engine={engine}"]
    if task.copies > 1:
        said.append("source.duplicates=keep")  # the same files under several names
    if task.family == "text":
        said += ["watch=off", "source.slice_rows=1"]  # each small file a slice of its own, for two lanes to share out
    if task.family == "forest":
        said.append(f"source.slice_rows={min(500_000, task.rows // 8)}")  # some for each lane
    if precision:
        said.append(f"model.precision={precision}")
    if engine == "ray":
        said.append("engine.lanes=2")
    return [sys.executable, "-m", "scoring", "run", *said, "--json"]


def facts(said: str, task: Task) -> dict[str, Any]:
    """Our rate counts from the first lane being ready, not the last; our first rows are those of a slice that is durable, not of a
    batch: both are to our disadvantage beside how the others are timed.

    Raises: ValueError: the run did not publish all rows.
    """
    record = json.loads(said)
    if record["rows"]["scored"] != task.rows:
        raise ValueError(f"of {task.rows:,} rows {record['rows']['scored']:,} were scored")
    first = min(path.stat().st_mtime for path in Path(task.out).glob("workspace/runs/*/receipts/*.json"))
    rates = record["rates"]
    return {"rate": rates["rows_per_second"], "first": first, "stages": record["stages"], "work": record.get("work")}


def answers(task: Task) -> list[Path]:
    return sorted(Path(task.out).glob("workspace/scores/**/*.parquet"))

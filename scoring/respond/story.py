"""What a run left in its workspace, read once, for all who tell of it: record, what it was asked, manifests, what was found.

Reads only; a run can be told of by any process on any day. What is missing or damaged is left out: nobody is told less of the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from scoring.errors import StoreError
from scoring.respond.outbox import Outbox
from scoring.sinks.manifest import Manifest, read
from scoring.stores import Store
from scoring.types import PartitionRecord
from scoring.watch.summary import Summary

ASKED = "asked.json"
LAST_SUCCESS = "control/last-success.json"
SUCCESS = ("published", "published-with-warnings")
Plain = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """A partition as the run left it. `manifest` is None where it published nothing; `findings` are those of `watch/`."""

    key: str
    status: str
    rows: Mapping[str, int]
    checks: tuple[Plain, ...]
    manifest: Manifest | None = None
    findings: tuple[Plain, ...] = ()
    summary: Summary = field(default_factory=Summary)


@dataclass(frozen=True)
class Story:
    """`asked` is what `scoring/jobs/telling.py` keeps when a run begins, {} if that is gone. `schema` holds (name, Arrow type) of
    what was published. `last_success` is in seconds since 1970. `waiting` counts messages in the outbox.
    """

    name: str
    workspace: str
    record: Plain
    asked: Plain
    partitions: tuple[Told, ...]
    config: str = ""
    schema: tuple[tuple[str, str], ...] = ()
    last_success: float | None = None
    waiting: Mapping[str, int] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        return sum((p.summary for p in self.partitions), Summary())

    @property
    def nominal(self) -> tuple[str, str] | None:
        """The first instant and the one after the last that the partitions to be scored are named after, ISO 8601 in UTC."""
        start, end = self.asked.get("nominal") or (None, None)
        return (start, end) if start and end else None


def begun(store: Store, name: str, run_id: str) -> Story:
    """The story of a run that goes on, from what it was asked. Raises: MissingError, KeyError, ValueError."""
    asked = json.loads(store.get(f"runs/{run_id}/{ASKED}"))
    none = {"in": 0, "scored": 0, "quarantined": 0, "suppressed": 0}
    record = {"run_id": run_id, "status": "running", "message": "", "rows": none}
    record |= {name: asked[name] for name in ("started", "model")}
    config = _bytes(store, f"runs/{run_id}/config.yaml").decode(errors="replace")
    return Story(name, store.root, record, asked, (), config)


def tell(store: Store, name: str, record: Plain) -> Story:
    """The story of a run. Raises: nothing but what a bug raises."""
    run_id = str(record["run_id"])
    partitions = tuple(_partition(store, run_id, p) for p in record["partitions"])
    config = _bytes(store, f"runs/{run_id}/config.yaml") if run_id else b""
    return Story(
        name=name,
        workspace=store.root,
        record=record,
        asked=_json(store, f"runs/{run_id}/{ASKED}") if run_id else {},
        partitions=partitions,
        config=config.decode(errors="replace"),
        schema=_schema(store, partitions),
        last_success=_json(store, LAST_SUCCESS).get("timestamp"),
        waiting=_waiting(store),
    )


def _partition(store: Store, run_id: str, found: Plain) -> Told:
    record = PartitionRecord(found["key"], found["status"], found["rows"], (), int(found.get("version", 0)))
    manifest = None
    if record.version and record.status != "skipped":
        with suppress(StoreError, OSError):
            manifest = read(store, f"scores/_manifests/{record.key}/v{record.version:05d}.json")
    seen = _judged(store, run_id, record.key, manifest.input_digest if manifest else None) if record.status != "skipped" else {}
    given = (record.key, str(record.status), record.rows, tuple(found.get("checks", ())), manifest)
    return Told(*given, tuple(seen.get("findings", ())), Summary(seen.get("summary", {})))


def _judged(store: Store, run_id: str, key: str, input_digest: str | None) -> Plain:
    """The record of `watch/` on this partition; the last in name, should it have been judged under several settings."""
    folder = f"watch/records/{key}"
    with suppress(StoreError, OSError):
        for name in sorted((n for n in store.list(folder) if n.startswith(f"{folder}/{run_id}.")), reverse=True):
            found = _json(store, name)
            if input_digest in (None, found.get("input_digest")):
                return found
    return {}


def _schema(store: Store, partitions: tuple[Told, ...]) -> tuple[tuple[str, str], ...]:
    """Of the first published file that can be opened: all of a run are alike."""
    import pyarrow.parquet as pq  # not for a job that still runs: whoever tells of it should take next to none of its cores

    for file in _files(partitions):
        with suppress(Exception):  # whatever a Parquet reader thinks of
            return tuple((f.name, str(f.type)) for f in pq.read_schema(store.open_file(file)))
    return ()


def _files(partitions: tuple[Told, ...]) -> Iterator[str]:
    yield from (p.manifest.files[0].path for p in partitions if p.manifest is not None and p.manifest.files)


def _waiting(store: Store) -> dict[str, int]:
    with suppress(StoreError, OSError):
        return Outbox(store).counts()
    return {}


def _json(store: Store, key: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(store, key) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _bytes(store: Store, key: str) -> bytes:
    with suppress(StoreError, OSError):
        return store.get(key)
    return b""

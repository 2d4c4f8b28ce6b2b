"""Drift in a run: which baseline, what was found, and where it is kept.

What was found in a partition is a record, put if absent before the partition is published: a run that died goes on with the same
findings. The tables are rendered from the record when the manifest stands, and again if a crash came between.

    watch/records/<key>/<run>.<digest>.json     the merged summary and all findings; history reads them
          profile/<key>/v00001.parquet          tidy tables, one file for each published version
          drift/<key>/v00001.parquet
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import ConfigError, StoreError
from scoring.settings import Job
from scoring.sinks.publish import Identity, Manifest
from scoring.stores import Store
from scoring.types import Check, Partition, Receipt, canonical, digest
from scoring.watch import baseline as stored
from scoring.watch import drift, history, tables
from scoring.watch.baseline import Baseline
from scoring.watch.drift import Finding, Seen
from scoring.watch.summary import Summary

_RECORDS, _TABLES = "watch/records", ("profile", "drift")


def baseline_of(job: Job) -> Baseline | None:
    """The baseline that a job names, or else its bundle's; None where there is none, or nothing is watched.

    Raises:
        ConfigError: it is needed and missing. ModelError: it is not a baseline.
    """
    if not job.watch.enabled:
        return None
    if job.watch.baseline is not None:
        return stored.read(Path(job.watch.baseline))
    path = Path(job.model.bundle) / stored.NAME
    if path.is_file():
        return stored.read(path)
    if job.watch.require_baseline:
        raise ConfigError(
            f"watch.require_baseline: there is no {path}. Make it with scoring baseline PATH bundle={job.model.bundle}."
        )
    return None


@dataclass(frozen=True)
class _Before:
    """A published partition to look back at."""

    key: str
    run_id: str
    input_digest: str


class Watching:
    """`before` are the manifests that stood when the run began; of them those of other runs are its history."""

    def __init__(self, job: Job, store: Store, identity: Identity, baseline: Baseline | None, before: Sequence[Manifest]) -> None:
        self._job, self._store, self._identity, self._baseline = job, store, identity, baseline
        self._before = [
            _Before(m.key, m.run_id, m.input_digest)
            for m in sorted(before, key=lambda m: m.key)
            if m.run_id != identity.run_id and m.model.get("digest") == identity.model["digest"]
        ]
        self._figures: dict[str, history.Figures | None] = {}

    def judge(self, partition: Partition, receipts: Sequence[Receipt]) -> tuple[Check, ...]:
        """Verdicts; what was found is on record when this returns. Raises: StoreError."""
        name = self._name(partition.key, partition.input_digest)
        if (standing := _load(self._store, name)) is None:
            standing = self._find(partition, receipts)
            self._store.put(name, canonical(standing))
        findings = tuple(Finding(**f) for f in standing["findings"])
        return drift.checks(partition.key, findings, self._job.watch)

    def _find(self, partition: Partition, receipts: Sequence[Receipt]) -> dict[str, Any]:
        seen = Seen(_summed(receipts), _reasons(receipts), sum(r.rows_in for r in receipts))
        findings = drift.judge(seen, self._baseline, self._identity.model["digest"], self._job.watch)
        figures = history.figures(seen, self._baseline.plan.outputs if self._baseline else {})
        before = [one for past in self._history(partition.key) if (one := self._past(past)) is not None]
        findings += history.compare(figures, before, self._job.watch)
        return {
            "key": partition.key,
            "run_id": self._identity.run_id,
            "input_digest": partition.input_digest,
            "baseline": self._baseline.digest if self._baseline else "",
            "figures": figures,
            "summary": dict(seen.summary.plain),
            "findings": [asdict(f) for f in findings],
        }

    def _history(self, key: str) -> list[_Before]:
        """The partitions next before this one, in the order of their keys. Those of this run are left out: which of them were
        published already depends on chance, and a verdict must not."""
        most = self._job.watch.history
        return [b for b in self._before if b.key < key][-most:] if most else []

    def _past(self, past: _Before) -> history.Figures | None:
        if past.key not in self._figures:
            found = recorded(self._store, past.key, past.run_id, past.input_digest)
            self._figures[past.key] = found["figures"] if found else None
        return self._figures[past.key]

    def _name(self, key: str, input_digest: str) -> str:
        """Another input, baseline or setting is another judgement."""
        made_of = [input_digest, self._baseline.digest if self._baseline else "", asdict(self._job.watch)]
        return f"{_RECORDS}/{key}/{self._identity.run_id}.{digest(made_of)[:16]}.json"


def show(store: Store, manifest: Manifest) -> None:
    """Write the tables of a published version, if its record is there and they are not. Raises: StoreError."""
    found = recorded(store, manifest.key, manifest.run_id, manifest.input_digest)
    if found is None:
        return
    stem = {"partition": manifest.key, "version": manifest.version, "run_id": manifest.run_id}
    stem["model_version"] = manifest.model["version"]
    findings = [Finding(**f) for f in found["findings"]]
    made = (tables.profile(stem, Summary(found["summary"])), tables.drift(stem, findings, found["baseline"]))
    for kind, table in zip(_TABLES, made, strict=True):
        store.put(_table_name(kind, manifest), _parquet(table))


def repair_tables(store: Store, manifests: Sequence[Manifest]) -> None:
    """Tables that a crash left unwritten: one listing, and what it lacks."""
    there = set(store.list("watch/drift"))
    for manifest in manifests:
        if _table_name("drift", manifest) not in there:
            show(store, manifest)


def recorded(store: Store, key: str, run_id: str, input_digest: str | None = None) -> dict[str, Any] | None:
    """What was found then, of this input or any; the last in name, should a partition have been judged under several settings."""
    folder = f"{_RECORDS}/{key}/"
    names = [n for n in store.list(folder.rstrip("/")) if n.startswith(f"{folder}{run_id}.")]
    found = (_load(store, name) for name in sorted(names, reverse=True))
    return next((f for f in found if f is not None and input_digest in (None, f["input_digest"])), None)


def _summed(receipts: Sequence[Receipt]) -> Summary:
    return sum((Summary(r.summary) for r in receipts), Summary())


def _reasons(receipts: Sequence[Receipt]) -> dict[str, int]:
    names: Iterator[str] = (reason for receipt in receipts for reason in receipt.reasons)
    return {name: sum(r.reasons.get(name, 0) for r in receipts) for name in sorted(set(names))}


def _table_name(kind: str, manifest: Manifest) -> str:
    return f"watch/{kind}/{manifest.key}/v{manifest.version:05d}.parquet"


def _parquet(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(table, out)
    return out.getvalue().to_pybytes()


def _load(store: Store, name: str) -> dict[str, Any] | None:
    if not store.exists(name):
        return None
    try:
        found: dict[str, Any] = json.loads(store.get(name))
        return found if {"findings", "summary", "figures", "input_digest", "baseline"} <= found.keys() else None
    except (ValueError, AttributeError) as error:
        raise StoreError(f"{store.root}: {name} is damaged ({error}). Remove it and run again.") from None

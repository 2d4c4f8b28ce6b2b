"""From receipts to published partitions: counts what is still missing, and when nothing is, judges and publishes.

The planner thread announces partitions and slices, the driver thread delivers receipts and publishes: there is one writer of
manifests and ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from scoring.engine.faults import Faults
from scoring.ledger.account import Account, rows, total
from scoring.ledger.chain import Ledger
from scoring.release.contract import contract_checks, together
from scoring.release.costs import Costs
from scoring.release.gate import checks, decide, fallback_rows
from scoring.settings import Job
from scoring.sinks.keys import duplicates
from scoring.sinks.publish import Identity, Manifest, publish
from scoring.stores import Store
from scoring.types import Check, Counts, Partition, PartitionRecord, Receipt, Slice


@dataclass
class _Open:
    """A partition on its way."""

    partition: Partition
    slices: list[str] = field(default_factory=list)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    planned: bool = False
    promised: int | None = 0  # rows by the footers; None as soon as one file does not say

    @property
    def complete(self) -> bool:
        return self.planned and len(self.receipts) == len(self.slices)


class Publishing:
    """`begin`, `plan` and `planned` from the planner; `finished`, `publish_due` and `close` from the driver."""

    def __init__(self, job: Job, store: Store, ledger: Ledger, identity: Identity, account: Account, meant: str) -> None:
        self._job, self._store, self._ledger, self._identity, self._account = job, store, ledger, identity, account
        self._meant = meant
        self._sites = Faults(job.engine.faults).hit
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()
        self._began = datetime.now(UTC)
        self.costs = Costs()

    def begin(self, partition: Partition) -> None:
        with self._lock:
            self._open[partition.key] = _Open(partition)

    def plan(self, work: Slice) -> None:
        with self._lock:
            waiting = self._open[work.partition]
            waiting.slices.append(work.id)
            told = work.fault is not None or all(f.rows is not None for f in work.fragments)
            waiting.promised = waiting.promised + work.rows if told and waiting.promised is not None else None

    def planned(self, partition: Partition) -> None:
        with self._lock:
            self._open[partition.key].planned = True

    def finished(self, receipt: Receipt) -> None:
        """Take a receipt; publish its partition when it was the last one missing."""
        with self._lock:
            waiting = self._open[receipt.partition]
            waiting.receipts[receipt.slice_id] = receipt
        self._account.add(receipt)
        self.costs.add(receipt.found.mix)
        if waiting.complete:
            self._publish(waiting)

    def publish_due(self) -> None:
        """Partitions whose last receipt came before their plan was complete."""
        for waiting in [w for w in self._open.values() if w.complete]:
            self._publish(waiting)

    def close(self, status: str) -> None:
        """What is still open when the run ends did not get finished: `status` says how it stands."""
        for key, waiting in self._open.items():
            record = PartitionRecord(key, status, rows(total(waiting.receipts.values())))  # type: ignore[arg-type]
            self._account.partitions[key] = record

    def _publish(self, waiting: _Open) -> None:
        key = waiting.partition.key
        receipts = [waiting.receipts[slice_id] for slice_id in waiting.slices]
        counts = total(receipts)
        verdicts = self._judge(waiting, counts, receipts)
        status, version = decide(verdicts), 0
        if status == "held":
            self._hold(waiting, counts, verdicts)
        else:
            given = (key, waiting.partition.input_digest, receipts, verdicts)
            manifest = publish(self._store, self._identity, *given, planned_rows=waiting.promised, sites=self._sites)
            announce(self._ledger, manifest)
            version = manifest.version
        self._account.partitions[key] = PartitionRecord(key, status, rows(counts), tuple(verdicts), version)
        with self._lock:
            del self._open[key]

    def _judge(self, waiting: _Open, counts: Counts, receipts: Sequence[Receipt]) -> tuple[Check, ...]:
        lost = [bad for receipt in receipts for bad in receipt.bad_files]
        fallen = sum(fallback_rows(receipt.routes, self._meant) for receipt in receipts)
        most = self._job.engine.fallback.max_share
        budget = checks(waiting.partition.key, counts, lost, fallen, self._job.release, most, waiting.promised)
        return (*budget, *self._contract(waiting.partition.key, receipts))

    def _contract(self, key: str, receipts: Sequence[Receipt]) -> tuple[Check, ...]:
        contract = self._job.contract
        keys = [receipt.found.keys for receipt in receipts if receipt.found.keys]
        twice = duplicates(self._store, keys) if contract.unique else None
        return contract_checks(key, contract, together(receipts), twice, self._began)

    def _hold(self, waiting: _Open, counts: Counts, verdicts: Sequence[Check]) -> None:
        """Nothing goes out; the staged files stay, and the ledger says why."""
        key, run_id = waiting.partition.key, self._identity.run_id
        why = [asdict(c) for c in verdicts if c.status == "fail"]
        payload = {"run_id": run_id, "input_digest": waiting.partition.input_digest, "counts": asdict(counts), "failed": why}
        self._ledger.append("held", key, f"held {run_id} {key}", payload)


def announce(ledger: Ledger, manifest: Manifest) -> None:
    """The ledger entry of a publication; said once, however often a run is resumed."""
    facts = {"run_id": manifest.run_id, "version": manifest.version, "fingerprint": manifest.fingerprint, "counts": manifest.counts}
    files = [[f.path, f.rows, f.sha256] for f in manifest.files]
    once = f"published {manifest.key} v{manifest.version}"
    ledger.append("published", manifest.key, once, facts | {"model": manifest.model, "files": files})

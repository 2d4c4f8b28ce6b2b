"""From receipts to published partitions: counts what is still missing, and when nothing is, judges and publishes.

The planner thread announces partitions and slices, the driver thread delivers receipts and publishes: there is one writer of
manifests and ledger. A partition is complete when its last slice is planned and its last receipt is there; whichever comes second,
the driver publishes it at its next turn.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from scoring.engine.faults import Faults
from scoring.jobs.recovery import announce, say_held
from scoring.jobs.watching import Watching, show
from scoring.ledger.account import Account, rows, total
from scoring.ledger.chain import Ledger
from scoring.log import Log
from scoring.release.change import Decision
from scoring.release.contract import contract_checks, together
from scoring.release.costs import Costs
from scoring.release.gate import checks, decide, fallback_rows, under
from scoring.release.retention import retention
from scoring.settings import Job
from scoring.sinks.held import Held, hold
from scoring.sinks.keys import duplicates
from scoring.sinks.publish import Identity, current, publish
from scoring.stores import Store
from scoring.types import Check, Counts, Partition, PartitionRecord, Receipt, Slice

_log = Log("jobs")


@dataclass
class Waiting:
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
    """`begin`, `plan`, `plan_all`, `planned` and `take` from the planner; `finished`, `publish_due` and `close` from the driver.

    `account` is told of every receipt and every verdict.
    """

    def __init__(
        self,
        job: Job,
        store: Store,
        ledger: Ledger,
        identity: Identity,
        account: Account,
        meant: str,
        watching: Watching | None = None,
        decisions: Mapping[str, Decision] | None = None,
    ) -> None:
        """`decisions` by partition: what was decided about it, if anything had to be."""
        self._job, self._store, self._ledger, self._identity, self.account = job, store, ledger, identity, account
        self._meant, self._watching, self._decisions = meant, watching, decisions or {}
        self._sites = Faults(job.engine.faults).hit
        self._open: dict[str, Waiting] = {}
        self._due: deque[Waiting] = deque()
        self._lock = threading.Lock()
        self._began = datetime.now(UTC)
        self.costs = Costs()

    def begin(self, partition: Partition) -> None:
        with self._lock:
            self._open[partition.key] = Waiting(partition)

    def plan(self, work: Slice) -> None:
        with self._lock:
            waiting = self._open[work.partition]
            waiting.slices.append(work.id)
            told = work.fault is not None or all(f.rows is not None for f in work.fragments)
            waiting.promised = waiting.promised + work.rows if told and waiting.promised is not None else None

    def plan_all(self, partition: Partition, slices: Sequence[str], promised: int | None) -> None:
        """In place of `plan` for each of its slices. `promised` are the rows of all, None where only reading tells."""
        with self._lock:
            waiting = self._open[partition.key]
            waiting.slices, waiting.promised = list(slices), promised

    def planned(self, partition: Partition) -> None:
        """There are no more slices of it; its receipts may all be there already."""
        with self._lock:
            waiting = self._open[partition.key]
            waiting.planned = True
            if waiting.complete:
                self._due.append(waiting)

    def finished(self, receipt: Receipt) -> None:
        """Take a receipt; publish its partition when it was the last one missing."""
        self.take(receipt.partition, [receipt])
        self.publish_due()

    def take(self, partition: str, receipts: Sequence[Receipt]) -> None:
        """In any thread. The partition, which all of them are of, is due when the last one missing was among them."""
        with self._lock:
            waiting = self._open[partition]
            waiting.receipts |= {receipt.slice_id: receipt for receipt in receipts}
            if waiting.complete:
                self._due.append(waiting)
            self.account.add(receipts)
            for receipt in receipts:
                self.costs.add(receipt.found.mix)

    def publish_due(self) -> bool:
        """Partitions that became complete since the last call: costs nothing where there are none. Returns whether there were."""
        any_due = bool(self._due)
        while self._due:
            self._publish(self._due[0])
            self._due.popleft()  # not before: it is due until it stands there
        return any_due

    def close(self, status: str) -> None:
        """What is still open when the run ends did not get finished: `status` says how it stands."""
        for key, waiting in self._open.items():
            record = PartitionRecord(key, status, rows(total(waiting.receipts.values())))  # type: ignore[arg-type]
            self.account.partitions[key] = record

    def _publish(self, waiting: Waiting) -> None:
        receipts = [waiting.receipts[slice_id] for slice_id in waiting.slices]
        self.account.partitions[waiting.partition.key] = record = self._release(waiting, receipts)
        _say(record)
        with self._lock:
            del self._open[waiting.partition.key]

    def _release(self, waiting: Waiting, receipts: Sequence[Receipt]) -> PartitionRecord:
        """Judge a whole partition, and publish or hold it."""
        key, counts = waiting.partition.key, total(receipts)
        verdicts = self._judge(waiting, counts, receipts)
        status, version = decide(verdicts), 0
        if status == "held":
            self._hold(waiting, receipts, counts, verdicts)
        else:
            given = (key, waiting.partition.input_digest, receipts, verdicts)
            more = (waiting.promised, self._sites, self._ledger.head)
            decision = self._decisions.get(key)
            replaces, why = (decision.replaces, decision.why) if decision else (None, ())
            manifest = publish(
                self._store, self._identity, *given, *more, replaces=replaces, why=why, inputs=waiting.partition.files
            )
            announce(self._store, self._ledger, manifest)
            version = manifest.version
            if self._watching is not None:
                show(self._store, manifest)
        return PartitionRecord(key, status, rows(counts), tuple(verdicts), version)

    def _judge(self, waiting: Waiting, counts: Counts, receipts: Sequence[Receipt]) -> tuple[Check, ...]:
        lost = [bad for receipt in receipts for bad in receipt.bad_files]
        fallen = sum(fallback_rows(receipt.routes, self._meant) for receipt in receipts)
        most = self._job.engine.fallback.max_share
        absent: Counter[str] = Counter()
        for receipt in receipts:
            absent.update({name: missed.rows for name, missed in receipt.absent.items()})
        key, columns = waiting.partition.key, self._job.contract.columns
        found = checks(key, counts, lost, fallen, self._job.release, most, waiting.promised, absent)
        found += self._contract(key, receipts)
        if self._watching is not None:
            found += self._watching.judge(waiting.partition, receipts)
        return under(self._job.release.policy, (*found, *retention(key, columns, self._began.date())))

    def _contract(self, key: str, receipts: Sequence[Receipt]) -> tuple[Check, ...]:
        contract = self._job.contract
        keys = [receipt.found.keys for receipt in receipts if receipt.found.keys]
        twice = duplicates(self._store, keys) if contract.unique else None
        return contract_checks(key, contract, together(receipts), twice, self._began)

    def _hold(self, waiting: Waiting, receipts: Sequence[Receipt], counts: Counts, verdicts: Sequence[Check]) -> None:
        """Nothing goes out; the staged files stay, all that publishing needs is kept with them, and the ledger says why."""
        key, standing = waiting.partition.key, current(self._store, waiting.partition.key)
        held = Held(
            key=key,
            identity=self._identity,
            input_digest=waiting.partition.input_digest,
            slices=tuple((r.slice_id, r.scores.sha256) for r in receipts if r.scores),
            counts=asdict(counts),
            checks=tuple(verdicts),
            planned_rows=waiting.promised,
            replaces=standing.version if standing else 0,
        )
        say_held(self._store, self._ledger, hold(self._store, held))


def _say(record: PartitionRecord) -> None:
    broken = [f"{c.name} {c.actual}, expected {c.expected}" for c in record.checks if c.status in ("warn", "fail")]
    said = {"partition": record.key, "status": record.status, "version": record.version or None, "rows": record.rows}
    say = _log.warning if record.status == "held" else _log.info
    say(f"partition.{record.status}", **said, checks=broken or None)

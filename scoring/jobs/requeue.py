"""Judge quarantined rows again, under a contract that was mended: what is good now is scored and joins its published partition.

Only rows of the quarantine are read, by the same lanes as in a run; the rest of a partition stays as it is, not judged again. The
newest manifest says what is in quarantine, and its next version is the commit: a row is let in once, whatever dies and however
often this is said. Rows that are let in stand after the others of their partition, in input order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow.parquet as pq

from scoring.engine.environment import environment
from scoring.errors import ChangedError, ConfigError, StoreError
from scoring.jobs.preparation import Prepared, declared, identify
from scoring.jobs.publishing import Publishing, Waiting
from scoring.jobs.recovery import announce, recover
from scoring.jobs.run import Pass, Watcher, begin
from scoring.jobs.selection import select
from scoring.jobs.turns import alone
from scoring.jobs.workspace import existing
from scoring.ledger import runs
from scoring.ledger.account import Account, rows, total
from scoring.ledger.actor import actor
from scoring.ledger.chain import Ledger
from scoring.release.change import named
from scoring.release.gate import checks, decide
from scoring.settings import Job
from scoring.sinks.decisions import Requeued
from scoring.sinks.publish import Identity, Manifest, PublicFile, amend
from scoring.sources.discover import Found
from scoring.sources.quarantine import raw_names
from scoring.stores import Store, probe
from scoring.types import BadFile, Check, Counts, File, Partition, PartitionRecord, Receipt, RunRecord, digest

_OF_ROWS = ("bad_rows", "bad_share")  # checks that say something else once rows have moved


@dataclass(frozen=True)
class Choice:
    """Which rows, and why: of one partition, or of what one run published; None: of all."""

    partition: str | None = None
    run: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Waits:
    """What of a partition is to be judged again: quarantine files of rows. `left` are rows that cannot be: lost with their file,
    or lines that are no rows.
    """

    before: Manifest
    files: tuple[PublicFile, ...]
    left: int


def requeue(job: Job, config: str, watcher: Watcher, should_stop: Callable[[], str | None], choice: Choice = Choice()) -> RunRecord:
    """Let in what is good now, and publish the contract with it; partitions without bad rows take it over as they are.

    Raises:
        ChangedError: a partition was published with another model or source. ConfigError: there is no such partition or run, or a
        column that the contract names was not kept. StoreError: a quarantine file is not what was published.
    """
    store = existing(job.workspace)
    with alone(store, {"run": job.run_id or "requeue"}):
        probe(store)
        store.sweep()
        ledger = Ledger(store)
        recover(store, ledger)
        identity, lanes, gone, contract = identify(job, store)
        job = replace(job, contract=contract)
        waiting = [_waits(job, store, manifest, identity) for manifest in select(store, choice.partition, choice.run)]
        todo = [one for one in waiting if one.files or one.before.parts != identity.parts]
        if not todo:
            return _nothing(identity, waiting)
        run_id, resumed = runs.start(store, digest(["requeue", identity.parts]), job.run_id, config)
        identity = replace(identity, run_id=run_id)
        partitions = tuple(Partition(w.before.key, tuple(File(f.path, f.bytes, f.sha256) for f in w.files)) for w in todo)
        prepared = Prepared(identity, lanes, Found((), ()), partitions, (), gone, contract)
        inner = replace(job, source=replace(job.source, kind="quarantine", path=job.workspace, duplicates="keep"))
        inner = replace(inner, watch=replace(job.watch, enabled=False))  # the rest of the partition is not counted again
        began = begin(inner, store, prepared, watcher, resumed)
        publishing = Requeueing(inner, store, ledger, identity, lanes.kind, todo, choice.reason)
        return Pass(inner, store, ledger, prepared, publishing, watcher, began).go(should_stop)


class Requeueing(Publishing):
    """As a run publishes, but for the last step: what was let in joins what is published."""

    def __init__(
        self, job: Job, store: Store, ledger: Ledger, identity: Identity, meant: str, todo: Sequence[Waits], reason: str
    ) -> None:
        super().__init__(job, store, ledger, identity, Account(), meant)
        self._waits = {one.before.key: one for one in todo}
        self._reason = reason
        left = sum(one.left for one in todo)
        if left:
            self.account.notes[_stay(left)] += 1

    def _release(self, waiting: Waiting, receipts: Sequence[Receipt]) -> PartitionRecord:
        """Raises: StoreError: a quarantine file could not be read: nothing of its partition changes."""
        key, moved = waiting.partition.key, total(receipts)
        waits = self._waits[key]
        if lost := [bad for receipt in receipts for bad in receipt.bad_files]:
            raise StoreError(f"{lost[0].path}: {lost[0].reason}. {key} stays as it is; see scoring verify.")
        if not moved.scored + moved.suppressed and waits.before.parts == self._identity.parts:
            return PartitionRecord(key, "skipped", rows(moved), (), waits.before.version)
        verdicts = self._judged_again(waits, moved)
        one = self._requeued(waits, moved)
        given = (self._store, waits.before, self._identity, receipts, verdicts, one)
        manifest = amend(*given, sites=self._sites, ledger=self._ledger.head)
        announce(self._store, self._ledger, manifest)
        status = "published" if decide(verdicts) == "published" else "published-with-warnings"
        return PartitionRecord(key, status, rows(moved), verdicts, manifest.version)  # type: ignore[arg-type]

    def _judged_again(self, waits: Waits, moved: Counts) -> tuple[Check, ...]:
        """The verdicts of the pass that published the partition, those on bad rows as they are now."""
        counts = Counts(**waits.before.counts) + Counts(moved.scored, moved.quarantined - moved.total, moved.suppressed)
        lost = [BadFile("", "read", "left", waits.left)] if waits.left else []
        found = checks(waits.before.key, counts, lost, 0, self._job.release, 1.0)
        now = {check.name: check for check in found if check.name in _OF_ROWS}
        return tuple(now.get(check.name, check) for check in waits.before.checks)

    def _requeued(self, waits: Waits, moved: Counts) -> Requeued:
        return Requeued(
            run_id=self._identity.run_id,
            version=waits.before.version + 1,
            actor=actor(),
            reason=self._reason,
            decided=datetime.now(UTC).isoformat(timespec="seconds"),
            contract_before=waits.before.parts.get("contract", ""),
            contract=self._identity.parts["contract"],
            rows=moved.total,
            scored=moved.scored,
            suppressed=moved.suppressed,
            replaced=tuple(file.path for file in waits.files),
        )


def _waits(job: Job, store: Store, before: Manifest, wanted: Identity) -> Waits:
    """Raises: ChangedError, ConfigError, StoreError: what `requeue` says of them."""
    others = {name: value for name, value in before.parts.items() if name != "contract"}
    if changed := named(others, {name: value for name, value in wanted.parts.items() if name != "contract"}):
        raise ChangedError(
            f"{before.key} is published and {' and '.join(changed)} changed since; scores of two would mix. "
            "Only the contract may differ here. Score it anew: scoring run … release.on_change=rescore."
        )
    names, files = tuple(declared(job)), []
    for file in before.quarantine:
        raw = raw_names(pq.read_schema(store.open_file(file.path)), names)
        if not set(raw) - {"_line"}:
            continue
        if missing := [name for name in names if name not in raw]:
            raise ConfigError(
                f"{before.key}: {', '.join(missing)} was not read when these rows were quarantined, and the contract needs it. "
                "Score the partition anew: scoring run … release.on_change=rescore."
            )
        if store.sha256(file.path) != file.sha256:
            raise StoreError(f"{file.path}: its content has changed since it was published. See scoring verify.")
        files.append(file)
    return Waits(before, tuple(files), before.counts["quarantined"] - sum(file.rows for file in files))


def _nothing(identity: Identity, waiting: Sequence[Waits]) -> RunRecord:
    """No row can be judged again, and the contract is the one that was published."""
    account = Account()
    for one in waiting:
        found = {"in": sum(one.before.counts.values()), **one.before.counts}
        account.partitions[one.before.key] = PartitionRecord(one.before.key, "skipped", found, (), one.before.version)
    if left := sum(one.left for one in waiting):
        account.notes[_stay(left)] += 1
    last = max((one.before.run_id for one in waiting), default="")
    message = f"Nothing to requeue: no quarantined row of {len(waiting)} partition(s) can be judged again."
    return account.record(last, "published", 0.0, environment=environment(), model=identity.model, message=message)


def _stay(left: int) -> str:
    return (
        f"{left:,} rows of files lost as a whole, and lines that are no rows, stay in quarantine. Where the files can be read now, "
        "score their partitions anew: scoring run … release.on_change=rescore"
    )

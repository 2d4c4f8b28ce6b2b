"""How long it would take and what it would cost, by the rates of earlier runs in the workspace."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scoring.engine.estimate import price_per_hour
from scoring.jobs.backfills.choosing import Group
from scoring.ledger import runs
from scoring.sources import slices
from scoring.stores import Store
from scoring.types import Partition

_RUNS = 5  # the newest with the same model; of any, if none has it


@dataclass(frozen=True)
class Estimate:
    """`seconds` and `cost` None: no earlier run tells, or no price is set. `runs` is how many runs the rate is the median of."""

    rows: int
    seconds: float | None
    cost: float | None
    rate: float | None
    runs: int


@dataclass(frozen=True)
class Rate:
    """Rows per second of one lane."""

    per_lane: float
    runs: int


def rate(store: Store | None, digest: str) -> Rate | None:
    """The median of earlier runs, those with the same model if there are any."""
    found = list(_rates(store)) if store else []
    same = [one for one in found if one[1] == digest] or found
    newest = [per_lane for _, _, per_lane in sorted(same, reverse=True)[:_RUNS]]
    return Rate(statistics.median(newest), len(newest)) if newest else None


def rows(group: Group, partition: Partition) -> int:
    """That footers promise; text files promise nothing."""
    return sum(work.rows for work in slices.plan(partition, group.job.source) if work.fault is None)


def estimate(store: Store | None, groups: Sequence[Group], promised: dict[str, int]) -> Estimate:
    """`promised` are rows by partition."""
    seconds: float | None = 0.0
    cost: float | None = 0.0
    found = [(group, rate(store, group.prepared.identity.model["digest"])) for group in groups]
    for group, known in found:
        wanted = sum(promised[p.key] for p in group.prepared.todo)
        taken = wanted / known.per_lane / group.prepared.lanes.count if known else None
        price = price_per_hour(group.job.hardware, group.prepared.lanes)
        seconds = None if taken is None or seconds is None else seconds + taken
        cost = None if taken is None or price is None or cost is None else cost + taken / 3600 * price
    first = found[0][1] if found else None
    count = found[0][0].prepared.lanes.count if found else 0
    return Estimate(sum(promised.values()), seconds, cost, first.per_lane * count if first else None, first.runs if first else 0)


def _rates(store: Store) -> Iterator[tuple[str, str, float]]:
    """(finished, model digest, rows per second and lane) of runs that scored something."""
    for name in store.folders("runs"):
        account = runs.record(store, name)
        if account and account["rates"].get("scoring_seconds") and account["rates"].get("rows_per_second"):
            per_lane = account["rates"]["rows_per_second"] / (account["rates"].get("lanes") or 1.0)
            yield account.get("finished", ""), account.get("model", {}).get("digest", ""), per_lane

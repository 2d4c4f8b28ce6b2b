"""What a workspace knows of a run, gathered as the facts that its report is made of. Reads; decides and counts nothing new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from scoring.errors import ConfigError, ModelError
from scoring.jobs.quarantine import examples
from scoring.jobs.sightings import Sightings
from scoring.jobs.watching import recorded
from scoring.ledger import runs
from scoring.respond.report.facts import Example, Facts, record_of
from scoring.sinks.manifest import read
from scoring.stores import Store
from scoring.stores.names import MissingError
from scoring.types import PartitionRecord, Receipt, RunRecord
from scoring.watch import baseline as stored
from scoring.watch.baseline import Baseline

_RULES, _EXAMPLES = 20, 3  # of the rules that lost most rows, so many rows each


def gather(store: Store, run_id: str) -> Facts:
    """Everything that the report of a run tells. The baseline is kept beside the record, so that it can be told again.

    Raises:
        ConfigError: there is no such run, or it has no record yet. StoreError: what it left cannot be read.
    """
    raw = runs.record(store, run_id)
    if raw is None:
        known = [name for name in store.folders("runs") if store.exists(f"runs/{name}/record.json")]
        raise ConfigError(f"There is no record of a run {run_id!r} in {store.root}. Newest: {', '.join(known[-3:]) or 'none'}.")
    record = record_of(raw, f"{store.root}/runs/{run_id}/record.json")
    config = _config(store, run_id)
    baseline, why = _baseline(store, record, config)
    seen = Sightings(baseline)
    for partition in record.partitions:
        if (found := _judged(store, run_id, partition)) is not None:
            seen.add(partition.key, found)
    return Facts(
        record,
        store.root,
        dict(_flat(config)),
        _device_share(record, config),
        _number(_at(config, "hardware.price_per_hour")),
        seen.columns(),
        seen.scores(),
        _examples(store, record),
        why,
    )


def _judged(store: Store, run_id: str, partition: PartitionRecord) -> dict[str, Any] | None:
    """What was found in a partition of this run; that of the published input, if it was judged twice."""
    if partition.status == "skipped" or not partition.checks:
        return None
    digest = None
    if partition.version:
        name = f"scores/_manifests/{partition.key}/v{partition.version:05d}.json"
        digest = read(store, name).input_digest if store.exists(name) else None
    return recorded(store, partition.key, run_id, digest)


def _baseline(store: Store, record: RunRecord, config: Mapping[str, Any]) -> tuple[Baseline | None, str]:
    """The one that the verdicts rest on, and otherwise why it is not there."""
    wanted, key = record.environment.get("baseline"), f"runs/{record.run_id}/{stored.NAME}"
    if not wanted:
        return None, "There is no baseline to compare with. Make one with: scoring baseline PATH bundle=…"
    if store.exists(key):
        return stored.parsed(store.get(key), Path(f"{store.root}/{key}")), ""
    path = Path(str(_at(config, "watch.baseline") or Path(str(_at(config, "model.bundle") or "")) / stored.NAME))
    try:
        found = stored.read(path)
    except ModelError:
        return None, "The baseline of this run is not where it was: what was found stands, but without pictures."
    if found.digest != wanted:
        return None, "The baseline was made anew after this run: what was found stands, but without pictures."
    store.put(key, found.to_json())
    return found, ""


def _examples(store: Store, record: RunRecord) -> tuple[Example, ...]:
    rules = [rule for rule, _ in sorted(record.reasons.items(), key=lambda r: (-r[1], r[0]))[:_RULES]]
    found = examples(store, record.run_id, _receipts(store, record.run_id), _EXAMPLES, rules) if rules else ()
    return tuple(Example(one.rule, one.file, one.row, one.value) for one in found)


def _receipts(store: Store, run_id: str) -> Iterator[Receipt]:
    for name in store.list(f"runs/{run_id}/receipts"):
        try:
            yield Receipt.from_json(store.get(name))
        except (ValueError, TypeError, KeyError):  # a note that a crash left half written: the staged file is what counts
            continue


def _config(store: Store, run_id: str) -> dict[str, Any]:
    """As it was kept: secrets redacted, references not resolved."""
    try:
        found = yaml.safe_load(store.get(f"runs/{run_id}/config.yaml"))
    except (MissingError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings by path; what is not said is left out."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        elif value not in (None, []):
            yield f"{before}{key}", str(value)


def _at(config: Mapping[str, Any], path: str) -> Any:
    group, _, key = path.partition(".")
    found = config.get(group)
    return found.get(key) if isinstance(found, dict) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _device_share(record: RunRecord, config: Mapping[str, Any]) -> float:
    """What a lane held of a device: GPUs, where rows went through one, or else cores."""
    gpu = any(route.startswith("gpu") for route in record.routes)
    return _number(_at(config, f"hardware.{'gpus' if gpu else 'cpus'}_per_lane")) or 1.0

"""The folder of a run: who it is, what it was asked to do, how it ended. An unfinished run with the same fingerprint goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scoring.errors import BusyError, ChangedError, ConfigError, StoreError
from scoring.redact import redact
from scoring.stores import Store
from scoring.types import RunRecord, canonical

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FINISHED = ("published", "published-with-warnings")  # a run that was held goes on: its slices stand, only the verdict may change


def start(
    store: Store,
    fingerprint: str,
    run_id: str | None,
    config: str,
    subject: Mapping[str, str] | None = None,
    free: Callable[[str], bool] = lambda run_id: True,
    ended: Collection[str] = FINISHED,
) -> tuple[str, bool]:
    """Begin a run or go on with one: (run id, whether it is resumed). `config` is YAML; it is kept without its secrets. `subject`
    says how a person is found in what the run leaves. `free` says whether a run may be taken, where several work at a time; a run
    whose record has a status among `ended` does not go on.

    Raises:
        ConfigError: the id cannot be a name. ChangedError: the id belongs to a run that scores something else.
        BusyError: somebody else is at work on the run of this id.
    """
    if run_id is not None and not name_of(run_id):
        raise ConfigError(
            f"run_id: {run_id!r} is no name. Use up to 64 letters, digits, '_', '.', '-', the first a letter or digit."
        )
    if run_id is not None and not free(run_id):
        raise BusyError(f"Somebody else is at work on run {run_id}. Wait for it to end, or choose another run_id.")
    chosen = run_id or next(filter(free, _unfinished(store, fingerprint, ended)), None) or _new(fingerprint, free)
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = canonical({"run_id": chosen, "fingerprint": fingerprint, "started": started, "subject": dict(subject or {})})
    if store.put(_key(chosen), entry):
        store.put(f"runs/{chosen}/config.yaml", redact(config).encode())
        return chosen, False
    if _read(store, _key(chosen))["fingerprint"] != fingerprint:
        raise ChangedError(
            f"run_id {chosen} belongs to a run with another model, precision, contract or source. Choose another run_id."
        )
    return chosen, True


def name_of(run_id: str | None) -> str:
    """The id, if it can name a folder; "" otherwise."""
    return run_id if run_id and _NAME.fullmatch(run_id) else ""


def record(store: Store, run_id: str) -> dict[str, Any] | None:
    """The record of a run, if it wrote one."""
    key = f"runs/{run_id}/record.json"
    return _read(store, key) if store.exists(key) else None


def finish(store: Store, account: RunRecord) -> None:
    store.replace(f"runs/{account.run_id}/record.json", account.to_json().encode())


def settle(store: Store, run_id: str, key: str, version: int) -> None:
    """A held partition was published after all: the record says so, and the run has ended if it was the last one held."""
    account = record(store, run_id)
    mine = [p for p in (account or {}).get("partitions", ()) if p["key"] == key and p["status"] == "held"]
    if account is None or not mine:
        return
    mine[0].update(status="published-with-warnings", version=version)
    if account["status"] == "held" and all(p["status"] != "held" for p in account["partitions"]):
        account["status"] = "published-with-warnings"
    store.replace(f"runs/{run_id}/record.json", json.dumps(account, indent=2, sort_keys=True).encode())


def subjects(store: Store) -> Iterator[dict[str, str]]:
    """How a person is found in what each run left, oldest first, where it was said."""
    known = [_read(store, _key(name)) for name in store.folders("runs") if store.exists(_key(name))]
    for run in sorted(known, key=lambda r: str(r["started"])):
        if run.get("subject"):
            yield run["subject"]


@dataclass(frozen=True)
class Attempt:
    """How a run ended for a partition. `finished` is UTC, ISO 8601."""

    run_id: str
    status: str
    finished: str


def attempts(store: Store) -> dict[str, Attempt]:
    """The last attempt at each partition, as records tell it; what a run left alone is none. Raises: StoreError."""
    found: dict[str, Attempt] = {}
    for name in store.folders("runs"):
        account = record(store, name) or {"partitions": ()}
        for partition in account["partitions"]:
            attempt = Attempt(name, partition["status"], account.get("finished", ""))
            known = found.get(partition["key"])
            if attempt.status != "skipped" and (known is None or known.finished <= attempt.finished):
                found[partition["key"]] = attempt
    return found


def _new(fingerprint: str, free: Callable[[str], bool]) -> str:
    """A name by the clock, in milliseconds: who is second in one of them takes the next."""
    while True:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"[:18] + f"-{fingerprint[:6]}"
        if free(name):
            return name


def _unfinished(store: Store, fingerprint: str, ended: Collection[str]) -> Iterator[str]:
    """Runs of this fingerprint that did not end, the newest first."""
    known = [_read(store, _key(name)) for name in store.folders("runs") if store.exists(_key(name))]
    same = [run for run in known if run["fingerprint"] == fingerprint]
    for run in sorted(same, key=lambda r: str(r["started"]), reverse=True):
        if (record(store, run["run_id"]) or {}).get("status") not in ended:
            yield str(run["run_id"])


def _key(run_id: str) -> str:
    return f"runs/{run_id}/run.json"


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.get(key))
    except ValueError as error:
        raise StoreError(f"{store.root}: {key} is damaged ({error}).") from None
    return found

"""The folder of a run: who it is, what it was asked to do, how it ended. An unfinished run with the same fingerprint goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from scoring.errors import ChangedError, ConfigError, StoreError
from scoring.redact import redact
from scoring.stores import Store
from scoring.types import RunRecord, canonical

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FINISHED = ("published", "published-with-warnings")  # a run that was held goes on: its slices stand, only the verdict may change


def start(
    store: Store, fingerprint: str, run_id: str | None, config: str, subject: Mapping[str, str] | None = None
) -> tuple[str, bool]:
    """Begin a run or go on with one: (run id, whether it is resumed). `config` is YAML; it is kept without its secrets. `subject`
    says how a person is found in what the run leaves.

    Raises:
        ConfigError: the id cannot be a name. ChangedError: the id belongs to a run that scores something else.
    """
    if run_id is not None and not name_of(run_id):
        raise ConfigError(
            f"run_id: {run_id!r} is no name. Use up to 64 letters, digits, '_', '.', '-', the first a letter or digit."
        )
    chosen = run_id or _unfinished(store, fingerprint) or f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"[:18] + f"-{fingerprint[:6]}"
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = canonical({"run_id": chosen, "fingerprint": fingerprint, "started": started, "subject": dict(subject or {})})
    if store.put(_key(chosen), entry):
        store.put(f"runs/{chosen}/config.yaml", redact(config).encode())
        return chosen, False
    if _read(store, _key(chosen))["fingerprint"] != fingerprint:
        raise ChangedError(f"run_id {chosen} belongs to a run with another model, contract or source. Choose another run_id.")
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


def _unfinished(store: Store, fingerprint: str) -> str | None:
    """The newest run of this fingerprint that did not end."""
    known = [_read(store, _key(name)) for name in store.folders("runs") if store.exists(_key(name))]
    same = [run for run in known if run["fingerprint"] == fingerprint]
    for run in sorted(same, key=lambda r: str(r["started"]), reverse=True):
        if (record(store, run["run_id"]) or {}).get("status") not in FINISHED:
            return str(run["run_id"])
    return None


def _key(run_id: str) -> str:
    return f"runs/{run_id}/run.json"


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.get(key))
    except ValueError as error:
        raise StoreError(f"{store.root}: {key} is damaged ({error}).") from None
    return found

"""The folder of a run: who it is, what it was asked to do, how it ended. An unfinished run with the same fingerprint goes on."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from scoring.errors import ChangedError, ConfigError
from scoring.stores import Store
from scoring.types import RunRecord, canonical

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FINISHED = ("published", "published-with-warnings", "held")


def start(store: Store, fingerprint: str, run_id: str | None, config: str) -> tuple[str, bool]:
    """Begin a run or go on with one: (run id, whether it is resumed).

    Raises:
        ConfigError: the id cannot be a name. ChangedError: the id belongs to a run that scores something else.
    """
    if run_id is not None and not _NAME.fullmatch(run_id):
        raise ConfigError(f"run_id: {run_id!r} is no name. Use up to 64 letters, digits, '_', '.', '-'.")
    known = {name.split("/")[1]: _read(store, name) for name in store.list("runs") if name.endswith("/run.json")}
    chosen = run_id or _unfinished(store, known, fingerprint)
    if chosen in known:
        if known[chosen]["fingerprint"] != fingerprint:
            raise ChangedError(f"run_id {chosen} belongs to a run with another model, contract or source. Choose another run_id.")
        return chosen, True
    chosen = chosen or f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"[:18] + f"-{fingerprint[:6]}"
    store.put(f"runs/{chosen}/config.yaml", config.encode())
    store.put(f"runs/{chosen}/run.json", canonical({"run_id": chosen, "fingerprint": fingerprint, "started": _now()}))
    return chosen, False


def record(store: Store, run_id: str) -> dict[str, Any] | None:
    """The record of a run, if it wrote one."""
    key = f"runs/{run_id}/record.json"
    return _read(store, key) if store.exists(key) else None


def finish(store: Store, account: RunRecord) -> None:
    store.replace(f"runs/{account.run_id}/record.json", account.to_json().encode())


def _unfinished(store: Store, known: dict[str, dict[str, Any]], fingerprint: str) -> str | None:
    """The newest run of this fingerprint that did not end."""
    for run_id in sorted(known, key=lambda r: str(known[r]["started"]), reverse=True):
        ended = (record(store, run_id) or {}).get("status") in FINISHED
        if known[run_id]["fingerprint"] == fingerprint and not ended:
            return run_id
    return None


def _read(store: Store, key: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.get(key))
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

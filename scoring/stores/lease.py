"""The lock of a bucket: an object that its holder touches every 20 s and that counts for 120 s after the last touch.

Advisory: object stores have no locks. Two clocks that differ by more than that, or a holder that slept, let two runs work at once;
they then waste work and nothing else, because put-if-absent decides what counts. After a crash the next run waits for the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import obstore
from obstore import exceptions

from scoring.errors import BusyError
from scoring.stores.local import busy, holder

LEASE_S, BEAT_S = 120.0, 20.0
_KEY = ".lock"


@contextmanager
def lease(inner: Any, root: str, owner: Mapping[str, str], lease_s: float = LEASE_S, beat_s: float = BEAT_S) -> Iterator[None]:
    """Hold the lease while the block runs. Raises: BusyError: another holder touched it less than `lease_s` ago."""
    text = holder(owner).encode()
    held = _Held(inner, text, _take(inner, root, text, lease_s))
    beat = threading.Thread(target=held.beat, args=(beat_s,), name="lease", daemon=True)
    beat.start()
    try:
        yield
    finally:
        held.stop.set()
        beat.join()
        held.release()


def _take(inner: Any, root: str, text: bytes, lease_s: float) -> dict[str, Any]:
    try:
        return dict(obstore.put(inner, _KEY, text, mode="create"))
    except exceptions.AlreadyExistsError:
        found = obstore.get(inner, _KEY)
    age_s = (datetime.now(UTC) - found.meta["last_modified"]).total_seconds()
    if age_s < lease_s:
        raise BusyError(
            f"{busy(root, bytes(found.bytes()))} Its last sign of life was {age_s:.0f} s ago; if it is dead, "
            f"run again in {lease_s - age_s:.0f} s."
        )
    try:
        return dict(obstore.put(inner, _KEY, text, mode=_version(found.meta)))
    except exceptions.PreconditionError:
        raise BusyError(busy(root, b"")) from None


class _Held:
    def __init__(self, inner: Any, text: bytes, version: Mapping[str, Any]) -> None:
        self._inner, self._text, self._version = inner, text, version
        self.stop = threading.Event()

    def beat(self, beat_s: float) -> None:
        while not self.stop.wait(beat_s):
            try:
                self._version = obstore.put(self._inner, _KEY, self._text, mode=_version(self._version))
            except exceptions.PreconditionError:
                self._version = {}
                return  # taken over: not ours to touch any more
            except exceptions.BaseError:
                continue  # the next beat may get through

    def release(self) -> None:
        with suppress(exceptions.BaseError, FileNotFoundError):
            if self._version and obstore.head(self._inner, _KEY)["e_tag"] == self._version["e_tag"]:
                obstore.delete(self._inner, _KEY)


def _version(meta: Mapping[str, Any]) -> Any:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}

"""Where the workspace lives: put-if-absent of one complete, durable object is the one primitive everything rests on.

`local` is a folder, `objects` a bucket (S3, GCS, Azure). A store that breaks the promise is found by `probe`, before any work.
Knows bytes and names, not what they mean.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from scoring.errors import ConfigError, StoreError
from scoring.stores.local import LocalStore
from scoring.stores.names import checked, sha256_of

__all__ = ["LocalStore", "Store", "checked", "open_store", "probe", "sha256_of"]

_SCHEMES = ("s3://", "gs://", "az://")


class Store(Protocol):
    """Keys are relative, "/"-separated. All methods raise StoreError, or the OSError of a disk (so that "full" can be told)."""

    root: str

    def put(self, key: str, data: bytes | Path) -> bool:
        """Create the object whole and durable, or not at all; never change one. True if it stands because of this very call.

        Whatever was raised, the object may be there: look before doing anything else.
        """
        ...

    def get(self, key: str) -> bytes: ...

    def size(self, key: str) -> int | None:
        """Bytes, or None where there is no such object."""
        ...

    def exists(self, key: str) -> bool: ...

    def stamp(self, key: str) -> str | None:
        """Changes whenever the content may have; None where there is no such object."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a folder, sorted; names with a leading "." are left out, and so is all below them."""
        ...

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The keys that `list` gives, in any order, each with its `stamp`: by one listing and not by a call for each."""
        ...

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Names of the folders directly below a folder, sorted."""
        ...

    def replace(self, key: str, data: bytes | Path) -> None:
        """Overwrite in one step; durably, if it comes as a file. For advisory objects (progress, record), and for erasure, which
        alone may take content away and holds the lock: nothing else that decides may be written with it.
        """
        ...

    def remove(self, key: str) -> None: ...

    def copy(self, key: str, to: str) -> None:
        """Give an immutable object a second name; nothing happens if that name is taken."""
        ...

    def private(self, prefix: str) -> None:
        """Keep a folder from other users, where the store has folders and users."""
        ...

    def spool(self, name: str) -> Path:
        """A new local path for a file in the making, where `put` can take it from."""
        ...

    def sweep(self, older_s: float = 0.0) -> None:
        """Remove what dead writers left in the spool, if it was not touched for so long. 0: for the holder of the lock alone."""
        ...

    def open_path(self, key: str) -> str:
        """What a Parquet scanner opens."""
        ...

    def open_file(self, key: str) -> Any:
        """What pyarrow opens: a path or a file object."""
        ...

    def sha256(self, key: str) -> str: ...

    def lock(self, owner: Mapping[str, str]) -> AbstractContextManager[None]:
        """One run at a time. `owner["run"]` is told to whoever comes second. Raises: BusyError."""
        ...

    def turn(self) -> AbstractContextManager[None]:
        """Wait for other publishers in this workspace, where the store can make them wait."""
        ...


def open_store(root: str) -> Store:
    """Raises: ConfigError: a scheme that is not known; StoreError: the workspace cannot be made."""
    if root.startswith(_SCHEMES):
        from scoring.stores.objects import ObjectStore

        return ObjectStore(root)
    if "://" in root and not root.startswith("file://"):
        raise ConfigError(f"workspace: {root.split('://')[0]}:// is not known. Use a local path, {', '.join(_SCHEMES)}.")
    return LocalStore(root.removeprefix("file://"))


def probe(store: Store) -> None:
    """Put one key twice; the second must be refused and change nothing.

    Raises:
        StoreError: this store cannot do what exactly-once needs.
    """
    key = f"runs/.probe-{secrets.token_hex(8)}"
    first, second = store.put(key, b"first"), store.put(key, b"second")
    kept = store.get(key)
    store.remove(key)
    if not first or second or kept != b"first":
        raise StoreError(
            f"{store.root}: this store cannot do conditional create (an object was replaced that should have stayed). "
            "Scores could be doubled there. Use another store."
        )

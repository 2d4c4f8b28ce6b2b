"""Where the workspace lives: put-if-absent of one complete, durable object is the one primitive everything rests on.

Local disk: temporary file in the same file system, fsync, `link`, fsync of the folder; an existing name is never replaced. Object
stores: one conditional PUT (If-None-Match: *) through obstore; a reply that was lost is settled by comparing content. Stores that do
not keep the promise are found by `probe`, before any work.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from scoring.errors import BusyError, ConfigError, StoreError

_SCHEMES = ("s3://", "gs://", "az://")


class Store(Protocol):
    """Keys are relative, "/"-separated. `put` is put-if-absent; `replace` is for advisory files only (progress, record)."""

    root: str

    def put(self, key: str, data: bytes | Path) -> bool:
        """Create the object whole, or not at all. True if it now holds this data because of this call (or an earlier try of it).

        Raises: StoreError.
        """
        ...

    def get(self, key: str) -> bytes: ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str) -> Iterator[str]: ...

    def replace(self, key: str, data: bytes) -> None: ...

    def remove(self, key: str) -> None: ...

    def copy(self, key: str, to: str) -> None: ...

    def spool(self, name: str) -> Path: ...

    def open_path(self, key: str) -> str: ...

    def lock(self, owner: dict[str, str]) -> Any: ...


def open_store(root: str) -> Store:
    """Raises: ConfigError: a scheme that is not known; StoreError: the workspace cannot be made."""
    if root.startswith(_SCHEMES):
        from scoring.object_store import ObjectStore

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
            f"{store.root} cannot create an object only if it is absent; scores could be doubled there. Use another store."
        )


def checked(key: str) -> str:
    """Raises: StoreError: the key would leave the workspace."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key:
        raise StoreError(f"{key!r} is no key inside the workspace. This is a bug.")
    return key


class LocalStore:
    """A folder. Every created name is durable when `put` returns."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        try:
            os.makedirs(self.root, exist_ok=True)
        except OSError as error:
            raise StoreError(f"workspace {self.root} cannot be made: {error.strerror}.") from None

    def path(self, key: str) -> Path:
        """The file of a key. Raises: StoreError: a link leads out of the workspace."""
        path = Path(self.root, checked(key))
        if not os.path.realpath(path.parent).startswith(os.path.realpath(self.root)):
            raise StoreError(f"{path.parent} is a link that leaves the workspace {self.root}; refused.")
        return path

    def put(self, key: str, data: bytes | Path) -> bool:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        own = data if isinstance(data, Path) else self._write(data)
        try:
            _sync(own)
            os.link(own, target)
            _sync(target.parent)
        except FileExistsError:
            return os.path.samefile(own, target)
        except OSError as error:
            if error.errno in (1, 38, 95):  # EPERM, ENOSYS, EOPNOTSUPP: no hard links here
                raise StoreError(f"{self.root} is on a file system without hard links; use another for the workspace.") from None
            raise
        finally:
            if own is not data:
                own.unlink(missing_ok=True)
        return True

    def get(self, key: str) -> bytes:
        return self.path(key).read_bytes()

    def exists(self, key: str) -> bool:
        return self.path(key).exists()

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a folder, sorted; temporary files (leading ".") are left out."""
        folder = self.path(prefix)
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.root).as_posix()

    def replace(self, key: str, data: bytes) -> None:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        own = self._write(data)
        os.replace(own, target)

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def copy(self, key: str, to: str) -> None:
        """Give an immutable object a second name (a hard link: no bytes are copied)."""
        target = self.path(to)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(self.path(key), target)

    def spool(self, name: str) -> Path:
        """A new temporary file in the same file system, so that it can be linked."""
        folder = Path(self.root, "runs", ".spool")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}-{secrets.token_hex(6)}"

    def open_path(self, key: str) -> str:
        """What a Parquet reader opens."""
        return str(self.path(key))

    @contextmanager
    def lock(self, owner: dict[str, str]) -> Iterator[None]:
        """One run at a time; the kernel frees the lock when its holder dies.

        Raises:
            BusyError: another run holds it; the message says which.
        """
        with open(Path(self.root, ".lock"), "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise BusyError(_busy(self.root, file.read())) from None
            file.truncate(0)
            file.write(json.dumps(owner | {"host": socket.gethostname(), "pid": str(os.getpid()), "since": _now()}))
            file.flush()
            yield

    def _write(self, data: bytes) -> Path:
        own = self.spool("put")
        own.write_bytes(data)
        return own


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _now() -> str:
    return datetime.fromtimestamp(time.time()).astimezone().isoformat(timespec="seconds")


def _busy(root: str, text: str) -> str:
    try:
        who = json.loads(text)
        return f"Another run works on {root}: {who['run']} (pid {who['pid']} on {who['host']}, since {who['since']}). Wait for it to end."
    except (ValueError, KeyError):
        return f"Another run works on {root}. Wait for it to end."


def sha256_of(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

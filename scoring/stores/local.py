"""A workspace on a local (or network) file system.

Put-if-absent = temporary file in the same file system, fsync, `link`, fsync of the folder. `link` and not `rename`, which replaces
silently; not O_EXCL and write, which leaves a torn file holding the name for ever (reliability note, a.3). Where hard links do not
exist, `renameat2(RENAME_NOREPLACE)` does the same. Modes follow the umask.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from scoring.errors import BusyError, StoreError
from scoring.redact import scrubbed
from scoring.stores.names import MissingError, checked, sha256_of
from scoring.stores.renames import UNSUPPORTED, rename_new

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
_SPOOL = "runs/.spool"


class LocalStore:
    """A folder. What `put` created is durable when it returns."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))
        try:
            os.makedirs(self.root, exist_ok=True)
        except OSError as error:
            raise StoreError(f"workspace {self.root} cannot be made: {error.strerror}.") from None
        self._real = os.path.realpath(self.root)

    def path(self, key: str) -> Path:
        """The file of a key. Raises: StoreError: a symbolic link leads out of the workspace."""
        path = os.path.join(self.root, checked(key))
        real = os.path.realpath(path)
        if real != self._real and not real.startswith(self._real.rstrip("/") + "/"):
            raise StoreError(f"{path} is a link that leaves the workspace {self.root}; refused.")
        return Path(path)

    def put(self, key: str, data: bytes | Path) -> bool:
        target = self.path(key)
        own = data if isinstance(data, Path) else self._written(data)
        try:
            sync(own)
            self.folder(target.parent)
            won = _create(own, target)
            sync(target.parent)  # also when lost: what the loser goes by must not vanish in a power cut
            return won
        finally:
            if own is not data:
                own.unlink(missing_ok=True)

    def get(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            raise MissingError(f"{self.root}: there is no {key}.") from None

    def size(self, key: str) -> int | None:
        try:
            return self.path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def stamp(self, key: str) -> str | None:
        try:
            found = self.path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _stamp(found)

    def list(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key, _ in self._below(self.path(prefix), checked(prefix)))

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        for key, entry in self._below(self.path(prefix), checked(prefix)):
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed since it was listed
                continue
            yield key, _stamp(found)

    def folders(self, prefix: str) -> tuple[str, ...]:
        try:
            with os.scandir(self.path(prefix)) as entries:
                return tuple(sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and e.name[0] != "."))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def replace(self, key: str, data: bytes | Path) -> None:
        target = self.path(key)
        own = data if isinstance(data, Path) else self._written(data)
        try:
            if own is data:  # what is handed over as a file must last; what is advisory need not
                sync(own)
            self.folder(target.parent)
            os.replace(own, target)
            if own is data:
                sync(target.parent)
        finally:
            own.unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def copy(self, key: str, to: str) -> None:
        target = self.path(to)
        self.folder(target.parent)
        self.link_all({target.name: key}, target.parent)

    def link_all(self, files: Mapping[str, str], folder: Path) -> None:
        """`files` are new names in a folder of this workspace and the keys behind them. Where a key lies is looked at once for each
        folder: for each file that would take longer than all the rest of publishing.
        """
        there: dict[str, str] = {}
        for name, key in files.items():
            parent, _, last = key.rpartition("/")
            if parent not in there:
                there[parent] = str(self.path(parent)) if parent else self.root
            source: str | Path = f"{there[parent]}/{last}"
            if last in ("", ".", "..") or os.path.islink(source):
                source = self.path(key)
            try:
                self.duplicate(source, f"{folder}/{name}")
            except FileNotFoundError:
                raise StoreError(f"{self.root}: {key} is gone; it cannot be published as {name}.") from None

    def duplicate(self, source: str | Path, target: str | Path) -> None:
        """A second name, no bytes copied; a copy only where hard links do not exist. Nothing happens if the name is taken."""
        try:
            os.link(source, target)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            own = self.spool("copy")
            shutil.copyfile(source, own)
            sync(own)
            with suppress(FileExistsError):
                _rename(own, Path(target))
            own.unlink(missing_ok=True)

    def folder(self, path: Path) -> None:
        """Make a folder and those above it, durably."""
        if path.is_dir():
            return
        self.folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)

    def private(self, prefix: str) -> None:
        path = self.path(prefix)
        self.folder(path)
        path.chmod(0o700)

    def spool(self, name: str) -> Path:
        folder = self.path(_SPOOL)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}-{secrets.token_hex(6)}"

    def sweep(self, older_s: float = 0.0) -> None:
        """A writer that lives on against all appearances loses its file, fails, and is harmless."""
        folder = self.path(_SPOOL)
        for entry in list(folder.iterdir()) if folder.is_dir() else ():
            if older_s and _age_s(entry) < older_s:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def open_path(self, key: str) -> str:
        return str(self.path(key))

    def open_file(self, key: str) -> str:
        return str(self.path(key))

    def sha256(self, key: str) -> str:
        return sha256_of(self.path(key))

    @contextmanager
    def lock(self, owner: Mapping[str, str]) -> Iterator[None]:
        """The kernel frees it when the holder dies, however it dies. On network file systems this is as good as their flock."""
        with open(Path(self.root, ".lock"), "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise BusyError(busy(self.root, file.read())) from None
            file.truncate(0)
            file.write(holder(owner))
            file.flush()
            yield

    @contextmanager
    def turn(self) -> Iterator[None]:
        with open(Path(self.root, ".publishing"), "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _written(self, data: bytes) -> Path:
        own = self.spool("put")
        try:
            own.write_bytes(data)
        except BaseException:
            own.unlink(missing_ok=True)
            raise
        return own

    def _below(self, folder: Path, key: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Entries are not kept: a million of them would take half a gigabyte."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        yield from self._below(Path(entry.path), f"{key}/{entry.name}")
                    elif entry.is_file(follow_symlinks=False):
                        yield f"{key}/{entry.name}", entry
        except (FileNotFoundError, NotADirectoryError):
            return


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"


def _age_s(path: Path) -> float:
    """Since it was last written; none where it has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def holder(owner: Mapping[str, str]) -> str:
    """What stands in a lock."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({**scrubbed(dict(owner)), "host": socket.gethostname(), "pid": str(os.getpid()), "since": since})


def busy(root: str, text: str | bytes) -> str:
    """What to tell whoever finds the lock taken."""
    try:
        who = json.loads(text)
        whose = f"{who['run']} (pid {who['pid']} on {who['host']}, since {who['since']})"
    except (ValueError, KeyError, TypeError):
        return f"Another run works on {root}. Wait for it to end."
    return f"Another run works on {root}: {whose}. Wait for it to end."


def _create(own: Path, target: Path) -> bool:
    try:
        os.link(own, target)
    except OSError as error:
        if _same(own, target):  # it took effect, and the reply was lost
            return True
        if error.errno == errno.EEXIST:
            return False
        if error.errno in _NO_LINKS:
            return _create_by_rename(own, target)
        raise
    return True


def _create_by_rename(own: Path, target: Path) -> bool:
    try:
        _rename(own, target)
    except FileExistsError:
        return False
    return True


def _rename(own: Path, target: Path) -> None:
    try:
        rename_new(own, target)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            raise StoreError(
                f"{target.parent} is on a file system with neither hard links nor exclusive renames; put the workspace elsewhere."
            ) from None
        raise


def _same(own: Path, target: Path) -> bool:
    try:
        return os.path.samefile(own, target)
    except OSError:
        return False

"""The public folder of a partition: what a plain listing reader sees. It holds the files of one version, or it is not changed yet.

On disk the folder is built aside from hard links and put in place by one rename, or exchanged with the version before. A bucket has
no folders: files are copied to their public names first and strays removed last, so that a listing reader may see two versions side
by side in between; the manifest says which one counts.
`_SUCCESS` is empty, because tools that scan a folder of Parquet trip over any other file with content.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from scoring.stores import LocalStore, Store
from scoring.stores.local import sync
from scoring.stores.renames import exchange

SUCCESS = "_SUCCESS"


class Folder(Protocol):
    """`files` are public file names and the keys of the immutable files behind them. Names differ from version to version."""

    def build(self) -> None:
        """Prepare what can be prepared before the version counts. Raises: StoreError: a staged file is gone."""
        ...

    def stands(self) -> bool:
        """Whether readers see exactly this version."""
        ...

    def show(self) -> None:
        """Let readers see this version, and no other."""
        ...


def public_folder(store: Store, key: str, files: Mapping[str, str]) -> Folder:
    kind = LocalFolder if isinstance(store, LocalStore) else BucketFolder
    return kind(store, key, files)  # type: ignore[arg-type]


class LocalFolder:
    """Links on disk. Only for whoever has the publishing turn."""

    def __init__(self, store: LocalStore, key: str, files: Mapping[str, str]) -> None:
        self._store, self._files = store, files
        self._target = store.path(f"scores/{key}")
        self._built: Path | None = None

    def build(self) -> None:
        self._built = self._store.spool("folder")
        self._built.mkdir()
        self._store.link_all(self._files, self._built)
        (self._built / SUCCESS).touch()
        sync(self._built)

    def stands(self) -> bool:
        try:
            return {e.name for e in os.scandir(self._target) if not e.is_dir()} == {*self._files, SUCCESS}
        except (FileNotFoundError, NotADirectoryError):
            return False

    def show(self) -> None:
        """The names of the version before go to the spool, where the next run sweeps. A reader that opened that folder before the
        exchange, and lists it after, would take an emptied one for a partition without rows."""
        if self._built is None:
            self.build()
        assert self._built is not None
        self._store.folder(self._target.parent)
        if os.path.lexists(self._target):
            self._take_inner_along(self._built)
            exchange(self._built, self._target)
        else:
            os.rename(self._built, self._target)
        sync(self._target.parent)

    def _take_inner_along(self, built: Path) -> None:
        """Partitions below this one (k=v/k2=v2 beside k=v) are linked into the folder to come, so that they never disappear."""
        for entry in os.scandir(self._target):
            if entry.is_dir(follow_symlinks=False):
                shutil.copytree(entry.path, built / entry.name, copy_function=self._store.duplicate)


class BucketFolder:
    """Copies in a bucket."""

    def __init__(self, store: Store, key: str, files: Mapping[str, str]) -> None:
        self._store, self._files = store, files
        self._prefix = f"scores/{key}"

    def build(self) -> None:
        for name, key in self._files.items():
            self._store.copy(key, f"{self._prefix}/{name}")

    def stands(self) -> bool:
        return set(self._names()) == {*self._files, SUCCESS}

    def show(self) -> None:
        self.build()
        self._store.put(f"{self._prefix}/{SUCCESS}", b"")
        for name in self._names():
            if name not in self._files and name != SUCCESS:
                self._store.remove(f"{self._prefix}/{name}")

    def _names(self) -> list[str]:
        """Of this folder alone, not of folders in it."""
        below = (key[len(self._prefix) + 1 :] for key in self._store.list(self._prefix))
        return [name for name in below if "/" not in name]

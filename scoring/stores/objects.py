"""A workspace in a bucket, through obstore: S3 and what speaks its protocol, Google Cloud Storage, Azure.

Put-if-absent = one PUT with If-None-Match: *. Each call marks its object with a token of its own, so that "exists" after a lost
reply is settled by reading the mark: ours, or another's. Everything ambiguous is tried again with full jitter; every retry is safe.
Limits: an object is one PUT, 5 GB at most. The lock is a lease (see `lease`). Credentials come from the environment.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore import exceptions
from obstore.store import from_url

from scoring.errors import StoreError
from scoring.stores.lease import lease
from scoring.stores.names import MissingError, checked, hidden, sha256_of
from scoring.stores.remote import RemoteFile

T = TypeVar("T")

_MARK = "scoring-put"
_TRIES, _BACKOFF_S, _CAP_S = 6, 0.2, 10.0  # full jitter: at worst some 20 s of trouble are sat out
_PERMANENT = (
    exceptions.PermissionDeniedError,
    exceptions.UnauthenticatedError,
    exceptions.InvalidPathError,
    exceptions.NotSupportedError,
    exceptions.UnknownConfigurationKeyError,
)
_RETRY: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}


class ObjectStore:
    """`inner` replaces the obstore store that the URL would give; `sleep` is called between tries (seconds)."""

    def __init__(self, root: str, inner: Any = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self.root = root.rstrip("/")
        self._sleep = sleep
        self._spool: Path | None = None
        try:
            self._inner = inner or from_url(self.root, client_options=_client(), retry_config=_RETRY)
        except (exceptions.BaseError, ValueError) as error:
            raise StoreError(f"workspace {root} cannot be opened: {_line(error)}") from None

    def put(self, key: str, data: bytes | Path) -> bool:
        mark = secrets.token_hex(16)
        return self._again(key, lambda: self._create(checked(key), data, mark))

    def get(self, key: str) -> bytes:
        return self._again(key, lambda: bytes(obstore.get(self._inner, checked(key)).bytes()))

    def size(self, key: str) -> int | None:
        try:
            return int(self._again(key, lambda: obstore.head(self._inner, checked(key))["size"]))
        except MissingError:
            return None

    def exists(self, key: str) -> bool:
        return self.size(key) is not None

    def stamp(self, key: str) -> str | None:
        try:
            found = self._again(key, lambda: obstore.head(self._inner, checked(key)))
        except MissingError:
            return None
        return _stamp(found)

    def list(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key, _ in self.stamps(prefix))

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        folder = checked(prefix)
        found = self._again(folder, lambda: [(m["path"], _stamp(m)) for page in obstore.list(self._inner, folder) for m in page])
        yield from (one for one in found if one[0].startswith(folder + "/") and not hidden(one[0][len(folder) + 1 :]))

    def folders(self, prefix: str) -> tuple[str, ...]:
        found = self._again(prefix, lambda: obstore.list_with_delimiter(self._inner, checked(prefix))["common_prefixes"])
        names = (path.rstrip("/").rsplit("/", 1)[-1] for path in found)
        return tuple(sorted(name for name in names if not hidden(name)))

    def replace(self, key: str, data: bytes | Path) -> None:
        self._again(key, lambda: obstore.put(self._inner, checked(key), data))

    def remove(self, key: str) -> None:
        try:
            self._again(key, lambda: obstore.delete(self._inner, checked(key)))
        except MissingError:
            return

    def copy(self, key: str, to: str) -> None:
        """Server-side. The target's name says which object it is a copy of, so that doing it twice changes nothing."""
        if not self.exists(to):
            self._again(key, lambda: obstore.copy(self._inner, checked(key), checked(to)))

    def private(self, prefix: str) -> None:
        """Nothing: who may read a bucket is said there."""

    def spool(self, name: str) -> Path:
        if self._spool is None:
            self._spool = Path(tempfile.mkdtemp(prefix="scoring-"))
            weakref.finalize(self, shutil.rmtree, self._spool, ignore_errors=True)
        return self._spool / f"{name}-{secrets.token_hex(6)}"

    def sweep(self, older_s: float = 0.0) -> None:
        """Nothing: the spool is this process's own."""

    def open_path(self, key: str) -> str:
        return f"{self.root}/{checked(key)}"

    def open_file(self, key: str) -> RemoteFile:
        def fetch(start: int, end: int) -> bytes:
            return self._again(key, lambda: bytes(obstore.get_range(self._inner, checked(key), start=start, end=end)))

        return RemoteFile(fetch, int(self._again(key, lambda: obstore.head(self._inner, checked(key))["size"])))

    def sha256(self, key: str) -> str:
        def read() -> str:
            found = hashlib.sha256()
            for piece in obstore.get(self._inner, checked(key)).stream():
                found.update(piece)
            return found.hexdigest()

        return self._again(key, read)

    def lock(self, owner: Mapping[str, str]) -> AbstractContextManager[None]:
        return lease(self._inner, self.root, owner)

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _create(self, key: str, data: bytes | Path, mark: str) -> bool:
        try:
            obstore.put(self._inner, key, data, mode="create", use_multipart=False, attributes={_MARK: mark})
        except exceptions.AlreadyExistsError:
            return self._own(key, data, mark)
        return True

    def _own(self, key: str, data: bytes | Path, mark: str) -> bool:
        """Whether the object that stands in the way is what this call created before its reply got lost.

        Raises: UnsettledError: it is not there (S3 answers 409 while another PUT is under way).
        """
        try:
            found = obstore.get(self._inner, key)
        except FileNotFoundError:
            raise UnsettledError(f"{key}: a conflict, and no object") from None
        if _MARK in found.attributes:
            return bool(found.attributes[_MARK] == mark)
        wanted = sha256_of(data) if isinstance(data, Path) else hashlib.sha256(data).hexdigest()
        return self.sha256(key) == wanted  # a store that drops metadata: content decides, attempts differ in it

    def _again(self, key: str, call: Callable[[], T]) -> T:
        """Until it succeeds or trying is over. Raises: StoreError."""
        for n in range(_TRIES):
            try:
                return call()
            except FileNotFoundError:
                raise MissingError(f"{self.root}: there is no {key}.") from None
            except _PERMANENT as error:
                raise StoreError(f"{self.root}/{key}: {_line(error)}") from None
            except (exceptions.BaseError, UnsettledError, TimeoutError, ConnectionError) as error:
                if n == _TRIES - 1:
                    raise StoreError(f"{self.root}/{key}: {_line(error)} (tried {_TRIES} times)") from None
                self._sleep(random.uniform(0, min(_CAP_S, _BACKOFF_S * 2**n)))
        raise AssertionError("unreachable")


class UnsettledError(Exception):
    """Nobody knows yet whether the object is there."""


def _client() -> Any:
    """Plain http only where the environment says so (AWS_ALLOW_HTTP, for a server on a trusted network)."""
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    return {"timeout": "600s", "connect_timeout": "10s", "allow_http": plain}


def _stamp(meta: Mapping[str, Any]) -> str:
    return f"{meta['e_tag']}-{meta['last_modified'].isoformat()}-{meta['size']}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

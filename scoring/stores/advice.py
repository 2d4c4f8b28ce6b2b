"""Objects of advice: a folder of them under names by time, each whole or passed over. Nothing rests on one: it only saves time.

<folder>/<when>-<token>.log     SHA-256 of all that follows, in hex and a line of its own; then the content
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from scoring.errors import StoreError
from scoring.stores import Store


def write(store: Store, folder: str, content: bytes) -> None:
    """Raises nothing: what is not written must be found out again."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.log"
    with suppress(StoreError, OSError):
        store.replace(f"{folder}/{name}", _digest(content) + b"\n" + content)


def whole(store: Store, folder: str) -> Iterator[bytes]:
    """The contents of all that can be read and have their digest. Raises: StoreError: the folder cannot be listed."""
    for key in store.list(folder):
        with suppress(StoreError, OSError):
            said, _, content = store.get(key).partition(b"\n")
            if said == _digest(content):
                yield content


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()

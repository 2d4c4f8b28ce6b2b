"""Keys that stay inside the workspace, and digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from scoring.errors import StoreError


class MissingError(StoreError, FileNotFoundError):
    """There is no such object."""


def checked(key: str) -> str:
    """Raises: StoreError: the key is empty, absolute, holds a NUL, or would leave the workspace."""
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key:
        raise StoreError(f"{key!r} is no key inside the workspace.")
    return key


def hidden(key: str) -> bool:
    """Whether a part of the key has a leading ".": temporary, not content."""
    return key.startswith(".") or "/." in key


def sha256_of(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

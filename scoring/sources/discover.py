"""List files into partitions. Nothing is opened: some 100,000 files a second or two, footers come later (`slices`)."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from scoring.errors import ConfigError, SourceError
from scoring.settings import Source
from scoring.sources.guard import version
from scoring.types import File, Partition

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HIVE = re.compile(r"([^=/]+)=(.*)", re.DOTALL)
_LONGEST_PART = 200  # bytes of one key or value; file systems refuse names above 255


@dataclass(frozen=True)
class Found:
    """`ignored`: paths that were seen and left out (unknown suffix, no regular file, a folder that links back to itself)."""

    partitions: tuple[Partition, ...]
    ignored: tuple[str, ...]


def partitions(settings: Source, suffixes: Sequence[str]) -> list[Partition]:
    """The partitions of `discover`."""
    return list(discover(settings, suffixes).partitions)


def discover(settings: Source, suffixes: Sequence[str]) -> Found:
    """Partitions sorted by key, their files by path.

    A file or a glob is taken as named; in folders, files count that have a known suffix and do not start with "_" or ".".

    Raises:
        ConfigError: a scheme other than file://, or a path that does not exist.
        SourceError: there are no files at the path, or it cannot be listed.
    """
    path = local(settings.path)
    ignored: list[str] = []
    files: defaultdict[str, list[File]] = defaultdict(list)
    root, found = _listing(path, tuple(s.lower() for s in suffixes), ignored)
    for name, status in found:
        key = _key(os.path.relpath(os.path.dirname(name), root)) if settings.hive else ""
        files[key or "all"].append(File(_utf8(name), status.st_size, version(status)))
    if not files:
        raise SourceError(f"{settings.path}: no files to read ({', '.join(suffixes)}); {len(ignored)} others were left out.")
    return Found(tuple(Partition(k, tuple(sorted(files[k], key=lambda f: f.path))) for k in sorted(files)), tuple(sorted(ignored)))


def local(path: str) -> str:
    """An absolute local path of a path or a file:// address.

    Raises:
        ConfigError: any other scheme.
    """
    if not _SCHEME.match(path):
        return os.path.abspath(os.path.expanduser(path))
    parts = urlsplit(path)
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        raise ConfigError(f"source.path: {parts.scheme}://{parts.netloc} cannot be read, only local paths and file:/// can.")
    return os.path.abspath(os.fsdecode(unquote_to_bytes(path.split("://", 1)[1].removeprefix(parts.netloc))))


def encode_part(text: str) -> str:
    """A key or value of a partition as a safe piece of a file name: all but [A-Za-z0-9_.-] percent-encoded, by UTF-8 bytes.

    Injective. A part of more than 200 bytes is cut and closed with "~" and 32 hex of its SHA-256.
    """
    encoded = quote_from_bytes(os.fsencode(text), safe="").replace("~", "%7E")  # quote leaves "~" alone
    if len(encoded) <= _LONGEST_PART:
        return encoded
    return f"{encoded[: _LONGEST_PART - 33]}~{hashlib.sha256(os.fsencode(text)).hexdigest()[:32]}"


def decode_part(text: str) -> str:
    """The inverse of `encode_part` for parts that were not cut; also reads what Hive and Spark wrote."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(text)))


def _key(folder: str) -> str:
    matches = (_HIVE.fullmatch(name) for name in folder.split(os.sep))
    return "/".join(f"{encode_part(decode_part(m[1]))}={encode_part(decode_part(m[2]))}" for m in matches if m)


def _utf8(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{os.fsencode(name)!r}: the file name is not UTF-8. Rename the file.") from None
    return name


_Listing = Iterator[tuple[str, os.stat_result]]


def _listing(path: str, suffixes: tuple[str, ...], ignored: list[str]) -> tuple[str, _Listing]:
    """The folder that Hive keys are counted from, and the files."""
    if os.path.isdir(path):
        return path, _folder(path, suffixes, ignored, ())
    if os.path.lexists(path):
        return os.path.dirname(path), _named(path, suffixes, ignored)
    if not glob.has_magic(path):
        raise ConfigError(f"source.path: there is no file or folder {path}.")
    matches = sorted(glob.glob(path, recursive=True))
    fixed = list(takewhile(lambda part: not glob.has_magic(part), path.split(os.sep)))
    return os.sep.join(fixed) or os.sep, (item for match in matches for item in _matched(match, path, suffixes, ignored))


def _matched(match: str, pattern: str, suffixes: tuple[str, ...], ignored: list[str]) -> _Listing:
    if not os.path.isdir(match):
        return _named(match, suffixes, ignored)
    return iter(()) if "**" in pattern else _folder(match, suffixes, ignored, ())


def _named(path: str, suffixes: tuple[str, ...], ignored: list[str]) -> _Listing:
    """One file that the user asked for by name, whatever its suffix."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}.") from None
    if os.path.isfile(path):
        yield path, status
    else:
        ignored.append(path)


def _folder(path: str, suffixes: tuple[str, ...], ignored: list[str], above: tuple[str, ...]) -> _Listing:
    """Files below a folder. Links are followed, except to a folder that holds the link."""
    try:
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}.") from None
    inside = (*above, os.path.realpath(path))
    for entry in listed:
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_dir():
            if entry.is_symlink() and os.path.realpath(entry.path) in inside:
                ignored.append(entry.path)
            else:
                yield from _folder(entry.path, suffixes, ignored, inside)
        elif entry.is_file() and entry.name.lower().endswith(suffixes):
            yield entry.path, entry.stat()
        else:
            ignored.append(entry.path)

"""What an erasure did to which file, written down before it is done, so that a crash forgets nothing; what became of input files.

`control/erasures/<key id>/<pseudonym>/` holds one object per file: digests before and after, rows. `control/rewritten/` holds the
versions of input files that an erasure replaced: a partition that was made of the file before is not "changed" by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scoring.stores import Store
from scoring.types import File, Partition, canonical, digest

_FILES, _INPUTS = "control/erasures", "control/rewritten"


def note(store: Store, pseudonym: str, place: str, before: str, after: str, rows: int) -> None:
    """`after` is "" where nothing is left. The same said twice is one note."""
    entry = {"place": place, "before": before, "after": after, "rows": rows}
    store.put(f"{_folder(pseudonym)}/{digest(entry)[:32]}.json", canonical(entry))


def notes(store: Store, pseudonym: str) -> list[dict[str, Any]]:
    """By place."""
    found = [json.loads(store.get(key)) for key in store.list(_folder(pseudonym))]
    return sorted(found, key=lambda entry: (entry["place"], entry["before"]))


def replaced(store: Store) -> dict[str, set[str]]:
    """Digest of a file -> digests of all that erasures made of it, one after the other; "" where nothing is left."""
    steps: dict[str, set[str]] = {}
    for key in store.list(_FILES):
        entry = json.loads(store.get(key))
        steps.setdefault(entry["before"], set()).add(entry["after"])
    for found in steps.values():
        fresh = set(found)
        while fresh := {after for before in fresh for after in steps.get(before, ())} - found:
            found |= fresh
    return steps


def rewritten(store: Store, path: str, before: str, after: str) -> None:
    """An input file is about to get another version."""
    seq = len(list(store.list(_INPUTS))) + 1
    while not store.put(f"{_INPUTS}/{seq:08d}.json", canonical({"path": path, "before": before, "after": after})):
        seq += 1


def followed(store: Store) -> dict[tuple[str, str], str]:
    """(path, version) of an input file -> the version that erasures have left of it."""
    found: dict[tuple[str, str], str] = {}
    for step in reversed([json.loads(store.get(key)) for key in store.list(_INPUTS)]):
        found[step["path"], step["before"]] = found.get((step["path"], step["after"]), step["after"])
    return found


def earlier_inputs(
    store: Store, partitions: Sequence[Partition], contents: Mapping[tuple[str, str], str] | None = None
) -> dict[str, set[str]]:
    """Input digests that each partition had before erasures rewrote its files; empty where none did. `contents` are digests by path
    and version, as far as they are known.
    """
    steps = [json.loads(store.get(key)) for key in store.list(_INPUTS)]
    return {p.key: set(_undone(p, steps, contents or {})) for p in partitions} if steps else {}


def _undone(partition: Partition, steps: list[dict[str, str]], contents: Mapping[tuple[str, str], str]) -> Iterator[str]:
    files = {file.path: file for file in partition.files}
    for step in reversed(steps):
        file = files.get(step["path"])
        if file is not None and file.version == step["after"]:
            files[file.path] = File(file.path, file.size, step["before"], contents.get((file.path, step["before"]), ""))
            yield Partition(partition.key, tuple(files.values())).input_digest


def _folder(pseudonym: str) -> str:
    key_id, _, name = pseudonym.partition(":")
    return f"{_FILES}/{key_id}/{name}"

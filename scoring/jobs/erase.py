"""A person taken out of everything: the suppression list first, so that nothing brings rows back, then every file, then proof."""

from __future__ import annotations

import getpass
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring.admit.finding import Finder
from scoring.admit.keys import key_ring
from scoring.errors import ConfigError, UsageError
from scoring.jobs.arguments import Given
from scoring.jobs.recovery import announce, recover
from scoring.jobs.turns import alone
from scoring.jobs.workspace import existing
from scoring.ledger import erasures, runs
from scoring.ledger.chain import Ledger
from scoring.ledger.suppressed import add, people
from scoring.respond.manual import clean
from scoring.settings import Privacy
from scoring.sinks import tables
from scoring.sinks.erase import Eraser
from scoring.sinks.publish import published
from scoring.sinks.searched import Searched
from scoring.sources.guard import version
from scoring.stores import Store

REGISTERED = "control/datasets.json"  # a JSON list of paths
_LEAST_TEXT = 6  # characters: shorter ids would be found in any text
_TEXTS = ("runs", "ledger", "control", "scores/_manifests")


@dataclass(frozen=True)
class Erasure:
    """`rows` were erased, `files` rewritten, by this call or one before; `fresh` of the rows by this one. `left` are rows still
    found, by place; `unsearched` are tables in which nobody can tell: proven means that both are empty.
    """

    pseudonym: str
    rows: int
    fresh: int
    files: tuple[dict[str, Any], ...]
    left: dict[str, int]
    unsearched: tuple[str, ...]

    @property
    def proven(self) -> bool:
        return not self.left and not self.unsearched


def erase(
    workspace: str,
    subject: str,
    reason: str,
    column: str | None = None,
    datasets: tuple[str, ...] = (),
    sites: Callable[[str], None] = lambda site: None,
) -> Erasure:
    """Erase a person by the id that the source has. Saying it again finishes what was begun, or finds nothing.

    Raises:
        ConfigError: nothing ran there, nobody said which column identifies a person, the key is missing, or a dataset is.
        BusyError: a run works there.
    """
    store = existing(workspace)
    search, pseudonym = _search(store, subject, column)
    with alone(store, {"run": "an erasure"}):
        store.sweep()
        paths = [path for given in (*_registered(store), *datasets) for path in tables.files(given)]
        trusted = {run_id: Searched(store, run_id, people(store)) for run_id in store.folders("runs")}
        for name in sorted(search.names):
            add(store, name, "erased")
        sites("erase.after_list")
        before = sum(note["rows"] for note in erasures.notes(store, pseudonym))
        ledger = Ledger(store, _actor())
        _workspace(store, search, pseudonym, ledger, sites)
        for searched in trusted.values():
            searched.note(people(store))
        unsearched = _tables(store, search, pseudonym, paths, sites)
        store.sweep()
        left = Eraser(store, search, _untold).left() | dict(_told(store, subject))
        left |= {str(path): found for path in paths if (found := tables.found(path, search))}
        files = erasures.notes(store, pseudonym)
        sites("erase.before_ledger")
        rows = sum(_once(files).values())
        done = Erasure(pseudonym, rows, sum(n["rows"] for n in files) - before, tuple(files), left, unsearched)
        _say(ledger, done, reason)
    return done


def _search(store: Store, subject: str, column: str | None) -> tuple[Finder, str]:
    described = [*runs.subjects(store), *(m.subject for m in published(store, every=True) if m.subject)]
    last = described[-1] if described else {}
    if column is not None:
        own = {"column": column, "dtype": "string", "key_env": Privacy.key_env, "key_id": Privacy.key_id}
        described.append(own | {k: last[k] for k in ("key_env", "key_id") if k in last})
    if not described:
        raise ConfigError("No run in this workspace said which column identifies a person (contract.privacy.subject). Say column=…")
    newest = described[-1]
    ring = key_ring(Privacy(newest["key_env"], newest["key_id"]))
    different = list({tuple(sorted(one.items())): one for one in described}.values())
    found = Finder(different, subject, ring)
    return found, min(found.names)


def _workspace(store: Store, search: Finder, pseudonym: str, ledger: Ledger, sites: Callable[[str], None]) -> None:
    def say(key: str, before: str, after: str, rows: int) -> None:
        erasures.note(store, pseudonym, key, before, after, rows)

    recover(store, ledger)
    eraser = Eraser(store, search, say, lambda: ledger.head, sites)
    eraser.runs()
    for manifest in eraser.partitions():
        announce(store, ledger, manifest)
    for manifest in published(store):  # also what a crash kept from being said
        announce(store, ledger, manifest)
    eraser.others()


def _tables(store: Store, search: Finder, pseudonym: str, paths: list[Path], sites: Callable[[str], None]) -> tuple[str, ...]:
    def say(path: Path, before: str, after: str, rows: int, was: os.stat_result, will: os.stat_result) -> None:
        erasures.note(store, pseudonym, str(path), before, after, rows)
        erasures.rewritten(store, str(path), version(was), version(will))

    unsearched = []
    for path in paths:
        found = tables.found(path, search)
        if found is None:
            unsearched.append(str(path))
        elif found:
            tables.erase(path, search, say, sites)
    return tuple(unsearched)


def _registered(store: Store) -> list[str]:
    if not store.exists(REGISTERED):
        return []
    try:
        found = json.loads(store.get(REGISTERED))
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        raise ConfigError(f"{store.root}: {REGISTERED} must be a JSON list of paths.")
    return found


def _told(store: Store, subject: str) -> Iterator[tuple[str, int]]:
    """Texts of the workspace in which the id stands: there should be none, and none is changed."""
    if len(subject) < _LEAST_TEXT:
        return
    for root in _TEXTS:
        for key in store.list(root):
            if not key.endswith(".parquet") and subject.encode() in store.get(key):
                yield key, 1


def _once(files: list[dict[str, Any]]) -> dict[str, int]:
    """Rows by place, public copies of a staged file not counted twice: only originals are noted."""
    found: dict[str, int] = {}
    for note in files:
        found[note["place"]] = found.get(note["place"], 0) + note["rows"]
    return found


def _say(ledger: Ledger, done: Erasure, reason: str) -> None:
    """One entry for what was done; another only if more was, or less is left, than the one before says."""
    state = {"left": done.left, "unsearched": list(done.unsearched)}
    once = f"erased {done.pseudonym} {len(done.files)} {'proven' if done.proven else sorted(done.left)}"
    ledger.append("erased", done.pseudonym, once, {"rows": done.rows, "files": list(done.files), "reason": reason} | state)


def _actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a user's name
        user = str(os.getuid())
    return f"{user}@{platform.node()}"


def _untold(key: str, before: str, after: str, rows: int) -> None:
    raise AssertionError("Looking changes nothing. This is a bug.")


def command(given: Given) -> tuple[Erasure, int]:
    subject = given.needed("subject")
    if subject == "-":  # so that the id stands in no history of a shell
        subject = sys.stdin.readline().rstrip("\r\n")
        if not subject:
            raise UsageError("subject=- reads the id from standard input, and there is none.")
    listed = tuple(path for path in (given.get("datasets") or "").split(",") if path)
    done = erase(given.needed("workspace"), subject, given.needed("reason"), given.get("column"), listed)
    return done, 0 if done.proven else 65


def render(done: Erasure) -> str:
    lines = [f"{'erased' if done.fresh else 'nothing was left to erase'}: {done.pseudonym}"]
    lines += [f"{done.rows:,} rows in {len(done.files):,} files, {done.fresh:,} of them now"]
    lines += [f"  {note['rows']:>8,}  {clean(note['place'])}" for note in done.files[:40]]
    lines += [f"still found: {found:,} in {clean(place)}" for place, found in sorted(done.left.items())]
    lines += [
        f"cannot be searched (no Parquet, CSV or JSON Lines, or no column that identifies a person): {clean(path)}"
        for path in done.unsearched
    ]
    return "\n".join([*lines, "proven: a search of everything finds nothing" if done.proven else "NOT proven"])

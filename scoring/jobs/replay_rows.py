"""Rows of a run, scored again and held against what stands published: file by file, in the memory of a window."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pyarrow as pa

from scoring.engine.flow import Broken
from scoring.engine.rescore import Again, Rescorer
from scoring.engine.walk import Mask, Positions, Span, Stretch, Walk
from scoring.errors import ScoringError, SourceError, StoreError
from scoring.jobs.replay_scope import Scope
from scoring.ledger.erasures import followed
from scoring.ledger.replay.causes import Outcome
from scoring.ledger.replay.scores import APART, Distance, compare, same
from scoring.models.precision import tolerance
from scoring.sinks.made import Made
from scoring.sinks.manifest import Manifest, PublicFile, history
from scoring.sinks.spool import storable
from scoring.sinks.staged import CONSTANTS
from scoring.sinks.standing import Standing
from scoring.sources.carried import decoded
from scoring.sources.guard import version
from scoring.types import Fragment, Receipt, Slice

_EXAMPLES = 20


@dataclass(frozen=True)
class Example:
    """A row that is not what it was: its place in the input file, and what became of it. No value of the row is told."""

    partition: str
    file: str
    row: int
    what: str


@dataclass(frozen=True)
class Skipped:
    """Published rows of the sample that could not be compared."""

    partition: str
    file: str
    rows: int
    why: str
    gone: bool  # what they were made of is not there any more


@dataclass
class Comparison:
    """All that is known after some files. `inputs` says of each input file of the sample how it is now: same, changed, gone,
    erased.
    """

    bit_equal: int = 0
    within: int = 0
    different: int = 0
    missing: int = 0
    now_scored: int = 0
    now_lost: Counter[str] = field(default_factory=Counter)
    carried: int = 0
    treated: int = 0
    distances: dict[str, Distance] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    examples: list[Example] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    altered: set[str] = field(default_factory=set)
    made: dict[str, set[str]] = field(default_factory=dict)
    routes: Counter[str] = field(default_factory=Counter)
    devices: set[str] = field(default_factory=set)

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.bit_equal, self.within, self.different, self.now_lost.total() + self.now_scored, self.missing)

    @property
    def compared(self) -> int:
        """Rows that had a score then and have one now."""
        return self.bit_equal + self.within + self.different

    @property
    def seen(self) -> int:
        """Published rows that were scored again, with or without success."""
        return self.compared + self.now_lost.total()

    def example(self, *said: object) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(Example(*said))  # type: ignore[arg-type]


def compared(scope: Scope, rescorer: Rescorer, spans: Sequence[Sequence[Span]]) -> Comparison:
    """`spans` are those of each file of the scope. Raises: TemporaryError: the device cannot score them."""
    found, inputs = Comparison(), _Inputs(scope)
    for (manifest, file), mine in zip(scope.files, spans, strict=True):
        if mine:
            _file(scope, rescorer, inputs, found, manifest, file, mine)
    return found


def _file(
    scope: Scope,
    rescorer: Rescorer,
    inputs: _Inputs,
    found: Comparison,
    manifest: Manifest,
    file: PublicFile,
    spans: Sequence[Span],
) -> None:
    before, wanted = found.seen, sum(stop - start for start, stop in spans)
    try:
        with Standing(scope.store, file, manifest.quarantine, scope.explained.get(file.sha256, ())) as standing:
            spans = [(start, min(stop, standing.rows)) for start, stop in spans if start < standing.rows]
            wanted = sum(stop - start for start, stop in spans)
            for stretch, lacking in _stretches(rescorer, inputs, found, standing, spans):
                _stretch(found, manifest.key, standing, stretch, rescorer.again(stretch, lacking), rescorer)
    except (Broken, SourceError, StoreError, NotComparableError) as error:
        gone = not isinstance(error, NotComparableError)
        found.skipped.append(Skipped(manifest.key, file.path, wanted - (found.seen - before), _line(error), gone))
    else:
        found.missing += wanted - (found.seen - before)


def _stretches(
    rescorer: Rescorer, inputs: _Inputs, found: Comparison, standing: Standing, spans: Sequence[Span]
) -> Iterator[tuple[Stretch, pa.Schema]]:
    """With the columns to carry that the slice's files lack. Raises: what keeps the file from being compared."""
    if standing.altered:
        found.altered.add(standing.key)
    if standing.made is None:
        raise NotComparableError("the file does not say what it was made of: it is of a version before that was noted")
    _note(found, standing.made, standing.receipt)
    receipt, work = standing.receipt, inputs.present(standing.made.work, standing, found)
    walk = Walk(rescorer.flow, standing.rejected(), receipt.bad_files, receipt.counts.suppressed > 0, standing.rows)
    lacking = decoded(work.absent)
    try:
        for stretch in walk.stretches(work, spans):
            yield stretch, lacking
    except SourceError as error:
        lost = [path for path in (f.path for f in work.fragments) if found.inputs.get(path) == "gone"]
        raise SourceError(f"{lost[0]} is gone" if lost else str(error)) from None


class NotComparableError(ScoringError):
    """Nobody can tell any more which row of the input became which published row."""


def _note(found: Comparison, made: Made, receipt: Receipt) -> None:
    for name, value in made.environment.items():
        found.made.setdefault(name, set()).add(value)
    found.routes.update(receipt.routes)
    found.devices.add(receipt.device)


def _stretch(found: Comparison, key: str, standing: Standing, stretch: Stretch, again: Again, rescorer: Rescorer) -> None:
    places = np.flatnonzero(stretch.standing)
    if stretch.first + len(places) > standing.rows:
        raise SourceError(f"{stretch.fragment.path} has more rows now than were published or quarantined")
    _admission(found, key, stretch, again, places)
    both, ours, theirs = np.intersect1d(places, again.rows, assume_unique=True, return_indices=True)
    names = [name for name in again.table.column_names if name in standing.names]
    found.absent |= {*rescorer.outputs, *standing.names} - {*names, *CONSTANTS}
    then = standing.take(stretch.first, stretch.first + len(places), names).take(ours)
    now = again.table.select(names).take(theirs)
    shared = [output for output in rescorer.model.outputs if output.name in names]
    worst, distances = compare(then, now, shared, _tolerance(rescorer, standing))
    treated = rescorer.flow.privacy.treated
    copied = _same(then, now, [name for name in names if name not in (*rescorer.outputs, *treated)])
    worst[~copied] = APART
    _count(found, worst, distances)
    found.carried += int((~copied).sum())
    found.treated += int((~_same(then, now, [name for name in names if name in treated])).sum())
    for row in both[worst == APART][:_EXAMPLES].tolist():
        found.example(key, *_where(stretch, row), "scored otherwise")


def _same(then: pa.Table, now: pa.Table, names: Sequence[str]) -> Mask:
    """Rows in which columns that are carried have the same values, in the form in which they are published."""
    if not names or not now.num_rows:
        return np.ones(now.num_rows, np.bool_)
    batch = storable(now.select(names).combine_chunks().to_batches()[0])
    return same(then.select(names), pa.Table.from_batches([batch]), names)


def _count(found: Comparison, worst: np.ndarray, distances: Sequence[Distance]) -> None:
    """Rows that have not even the same columns are different, whatever those say that both have."""
    equal, within, apart = np.bincount(worst, minlength=3).tolist()
    if found.absent:
        equal, within, apart = 0, 0, len(worst)
    found.bit_equal, found.within, found.different = found.bit_equal + equal, found.within + within, found.different + apart
    for one in distances:
        found.distances[one.name] = found.distances[one.name] + one if one.name in found.distances else one


def _admission(found: Comparison, key: str, stretch: Stretch, again: Again, places: Positions) -> None:
    """Rows that had a score then or have one now, and not both."""
    for row in np.setdiff1d(places, again.rows).tolist():
        why = again.reasons.get(row, "score:none")
        found.now_lost[why] += 1
        found.example(key, *_where(stretch, row), f"scored then, quarantined now: {why}")
    for row in np.setdiff1d(again.rows, places).tolist():
        found.now_scored += 1
        found.example(key, *_where(stretch, row), "quarantined then, scored now")


def _where(stretch: Stretch, row: int) -> tuple[str, int]:
    origins = stretch.window.origins
    path = stretch.fragment.path if origins is None else str(origins[row].as_py())
    return path, int(stretch.window.positions[row])


def _tolerance(rescorer: Rescorer, standing: Standing) -> float:
    """The wider of those of the routes that answered then and now: each may lie as far from the golden scores."""
    routes = {route.split("-")[0] for route in standing.receipt.routes} | {rescorer.flow.scorer.device.route}
    limits, asked = rescorer.model.tolerance, rescorer.flow.job.model.precision
    return max(tolerance(limits, "gpu" in route, asked) for route in routes)


class _Inputs:
    """Input files as they are now: those of a source by size and time, those of a requeue by digest in the workspace."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._followed = followed(scope.store)
        self._staged: dict[str, str] = {}
        if scope.requeued:
            for part in scope.parts:
                versions = history(scope.store, part.manifest.key)
                self._staged |= {f.path: f.staged for f in chain.from_iterable(m.quarantine for m in versions)}

    def present(self, work: Slice, standing: Standing, found: Comparison) -> Slice:
        """The slice with the versions that its files have now, which are told; a row is still known by its place in its file.

        Raises: NotComparableError: an erasure took rows out, and nobody can tell the places of the others any more.
        """
        return replace(work, fragments=tuple(self._present(one, standing, found) for one in work.fragments))

    def _present(self, fragment: Fragment, standing: Standing, found: Comparison) -> Fragment:
        path, now = self._now(fragment)
        then = found.inputs.get(fragment.path, "same")
        if now == fragment.version:
            found.inputs[fragment.path] = then
            return replace(fragment, path=path)
        found.inputs[fragment.path] = "gone" if not now else "changed"
        if now and self._followed.get((fragment.path, fragment.version)) == now:
            found.inputs[fragment.path] = "erased"
            if any(file.rows for file in standing.receipt.quarantine):
                raise NotComparableError(f"{fragment.path}: people were erased from it, and rows that are in quarantine moved")
            return replace(fragment, version=now, rows=None)
        return replace(fragment, path=path, version=now)

    def _now(self, fragment: Fragment) -> tuple[str, str]:
        """Where it lies, and its version; "" where it is gone."""
        if self._scope.requeued:
            key = self._staged.get(fragment.path, fragment.path)
            there = self._scope.store.exists(key)
            return key, self._scope.store.sha256(key) if there else ""
        try:
            return fragment.path, version(os.stat(fragment.path))
        except OSError:
            return fragment.path, ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

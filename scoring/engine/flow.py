"""Rows on their way to scores: read, left out where people are on the list, admitted, encoded, scored. What an attempt does before
it stages, and what a replay does before it compares: one way, so that both give the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from scoring import columns
from scoring.admit.privacy import Privacy
from scoring.admit.rules import Admitted, MissingColumns, Positions, Rules, admit
from scoring.engine.scorer import Scored, Scorer
from scoring.errors import InputChangedError, SourceError
from scoring.models import Encoded, Model
from scoring.parts import part
from scoring.settings import Job
from scoring.sources import Window
from scoring.sources.carried import with_absent
from scoring.types import Fragment, Stage

_WINDOW_NUMBERS = 1 << 22  # that a window's outputs may have: vectors exist some five times on their way into a file


class Broken(Exception):  # noqa: N818 - it names what was found, and never leaves the engine
    """A fragment that cannot be scored, found while its rows were on their way."""

    def __init__(self, fragment: Fragment, stage: Stage, reason: str) -> None:
        super().__init__(f"{fragment.path}: {reason}")
        self.fragment, self.stage, self.reason = fragment, stage, reason


@dataclass
class Item:
    """A window on its way through the stages; each stage adds its answer."""

    fragment: Fragment
    window: Window
    admitted: Admitted
    encoded: Encoded
    scored: Scored


@dataclass(frozen=True)
class Answered:
    """`kept` int64 are the places in the window of rows that were given to the model, None for all; `failed` int64 are places among
    those. `outputs` and `carried` hold what goes out of the others.
    """

    kept: Positions | None
    failed: Positions
    outputs: np.ndarray
    carried: pa.RecordBatch


class Flow:
    """Of one model, contract and device. Thread-safe but for `score`, which waits for its `turn`."""

    def __init__(
        self, job: Job, model: Model, rules: Rules, privacy: Privacy, scorer: Scorer, turn: AbstractContextManager[object]
    ) -> None:
        self.job, self.model, self.rules, self.privacy, self.scorer, self._turn = job, model, rules, privacy, scorer, turn
        self._columns = tuple(dict.fromkeys((*(rule.name for rule in rules.columns), *job.source.carry)))
        self._window_rows = min(job.engine.window_rows, max(1, _WINDOW_NUMBERS // columns.width(model.outputs)))

    def read(self, fragment: Fragment) -> Iterator[Window]:
        """Raises: Broken: it cannot be read. InputChangedError: it is not what was planned."""
        given = self.job.source
        source = replace(given, carry=tuple(name for name in given.carry if name not in self.privacy.treated))
        try:
            yield from part("sources", source.kind).read(fragment, self._columns, self._window_rows, source)
        except InputChangedError:
            raise
        except SourceError as error:
            raise Broken(fragment, "read", str(error)) from None

    def without_listed(self, window: Window) -> Window:
        """The window without rows and lines of people on the list; before the contract looks, so that none gets a reason."""
        listed = self.privacy.listed(window.batch)
        lines = tuple(line for line in window.rejected if not self.privacy.listed_line(line.text))
        if listed is None:
            return window if len(lines) == len(window.rejected) else replace(window, rejected=lines)
        return replace(taken(window, np.delete(np.arange(window.batch.num_rows), listed)), rejected=lines)

    def admit(self, fragment: Fragment, window: Window) -> Admitted:
        """Raises: Broken: columns are missing."""
        try:
            return admit(window.batch, self.rules)
        except MissingColumns as error:
            raise Broken(fragment, "admit", str(error)) from None

    def score(self, encoded: Encoded) -> Scored:
        """Raises: LaneError."""
        with self._turn:
            return self.scorer.score(encoded)

    def answered(self, item: Item, lacking: pa.Schema) -> Answered:
        """`lacking` are columns to carry that the file does not have."""
        batch, kept = item.window.batch, item.admitted.kept
        outputs, failed = item.scored.outputs, np.fromiter(sorted(item.scored.failed), np.int64)
        if len(failed):
            kept = np.arange(batch.num_rows, dtype=np.int64) if kept is None else kept
            outputs = np.delete(outputs, failed, axis=0)
        carried = with_absent(batch, self.job.source.carry, lacking)
        return Answered(kept, failed, outputs, self.privacy.carried(carried, item.admitted, failed))


def taken(window: Window, rows: Positions) -> Window:
    """Some rows of a window, all of its lines."""
    places = pa.array(rows, pa.int64())
    origins = None if window.origins is None else window.origins.take(places)
    return replace(window, batch=window.batch.take(places), positions=window.positions[rows], origins=origins)

"""One attempt at one slice: read, admit and encode, score, stage, in four threads or in one, with bounded memory.

Knows nothing of retries. What breaks as a whole (a file that cannot be read, a missing column) is raised as `Broken`; nothing of
the attempt is staged then, and the lane starts again without that fragment.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import pyarrow as pa

from scoring import columns
from scoring.admit.noted import Noted
from scoring.admit.rules import Admitted, raw_rows
from scoring.engine.faults import Faults
from scoring.engine.flow import Flow, Item
from scoring.engine.pipeline import Pipeline
from scoring.models import Encoded
from scoring.sinks.staged import StagedWriter
from scoring.sources import Window
from scoring.sources.carried import decoded
from scoring.types import Absence, BadFile, Counts, Fragment, Receipt, Stage
from scoring.watch.plan import Plan
from scoring.watch.tally import Tally


class Attempt:
    """Use once: `run`."""

    def __init__(
        self,
        flow: Flow,
        writer: StagedWriter,
        people: str,
        room: AbstractContextManager[object],
        pipeline: Pipeline,
        plan: Plan | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> None:
        """`room` is held while rows flow, not while files are made durable. Columns in `elsewhere` are counted on the way to the
        device.
        """
        self._room = room
        self._pipeline = pipeline
        self._tally = None if plan is None else Tally(plan, elsewhere)
        self._flow, self._writer, self._people = flow, writer, people
        self._lacking = pa.schema([])
        self._absent: dict[str, Absence] = {}
        self._read_rows = self._scored = self._quarantined = self._suppressed = 0
        self._reasons: Counter[str] = Counter()
        self._routes: Counter[str] = Counter()
        self._noted = Noted(flow.job.contract)
        self._work: Counter[str] = Counter()
        self._scalars = list(columns.scalars(flow.model.outputs).values())

    def run(self, fragments: tuple[Fragment, ...], lost: tuple[BadFile, ...], absent: str, faults: Faults) -> Receipt:
        """Score the fragments and stage the result; `lost` are files already given up, `absent` is that of the slice.

        Raises:
            Broken: a fragment cannot be scored as a whole.
            LaneError, StoreError, InputChangedError, OSError: nothing was staged.
        """
        pipeline = self._pipeline
        self._lacking = decoded(absent)
        try:
            stages = (("encode", self._encode), ("score", self._score), ("stage", self._stage))
            with self._room:
                pipeline.run(("read", self._read(fragments, faults)), *stages)
            for bad in lost:
                self._lose(bad)
            began = time.perf_counter()
            self._writer.flush()
            pipeline.seconds["stage"] += time.perf_counter() - began
            return self._commit(pipeline.seconds, lost)
        except BaseException:
            self._writer.abort()
            raise

    def _read(self, fragments: tuple[Fragment, ...], faults: Faults) -> Iterator[tuple[Fragment, Window]]:
        for fragment in fragments:
            faults.hit("read")
            for window in self._flow.read(fragment):
                self._read_rows += window.batch.num_rows + len(window.rejected)
                yield fragment, window

    def _encode(self, given: tuple[Fragment, Window]) -> tuple[Fragment, Window, Admitted, Encoded]:
        fragment, window = given[0], self._without_listed(given[1])
        admitted = self._flow.admit(fragment, window)
        if self._tally is not None:
            self._tally.rows(admitted.good, window.positions, admitted.kept)
        self._noted.add(window.batch, window.positions, window.ignored, admitted, self._flow.rules)
        encoded = self._flow.model.encode(admitted.good)
        self._work.update(encoded.work())
        return fragment, window, admitted, self._flow.scorer.device.upload(encoded)

    def _score(self, given: tuple[Fragment, Window, Admitted, Encoded]) -> Item:
        return Item(*given, self._flow.score(given[3]))

    def _without_listed(self, window: Window) -> Window:
        """Rows and lines of people on the list are counted and go."""
        rest = self._flow.without_listed(window)
        gone = window.batch.num_rows - rest.batch.num_rows + len(window.rejected) - len(rest.rejected)
        if gone:
            self._suppressed += gone
            self._reasons["admit:suppressed"] += gone
        return rest

    def _stage(self, item: Item) -> None:
        answered = self._flow.answered(item, self._lacking)
        outputs, failed = answered.outputs, answered.failed
        if len(failed) and answered.kept is not None:
            self._reject(item, answered.kept[failed], "score", [(item.scored.failed[row],) for row in failed.tolist()])
        if self._tally is not None:
            self._tally.counted(item.encoded.counted())
            self._tally.scores(outputs[:, self._scalars], item.admitted.good, failed)
        self._writer.scores(answered.carried, outputs)
        self._miss(item, len(outputs))
        self._scored += len(outputs)
        self._routes.update(item.scored.routes)
        if len(item.admitted.bad):
            self._reject(item, item.admitted.bad, "admit", item.admitted.reasons)
        if item.window.rejected:
            self._reject_lines(item)

    def _miss(self, item: Item, rows: int) -> None:
        """Count what is null because a file lacks it."""
        for name in self._lacking.names:
            if name not in item.window.batch.schema.names:
                missed = Absence(rows, item.fragment.path)
                self._absent[name] = self._absent[name] + missed if name in self._absent else missed

    def _reject_lines(self, item: Item) -> None:
        """Lines that are no rows: their text is all there is of them."""
        lines = item.window.rejected
        raw = pa.record_batch({"_line": pa.array([line.text for line in lines], pa.string())})
        reasons: list[tuple[str, ...]] = [(line.reason,) for line in lines]
        self._writer.quarantine(raw, item.fragment.path, np.array([line.row for line in lines], np.int64), "read", reasons)
        self._count("read", reasons)

    def _reject(self, item: Item, rows: np.ndarray, stage: Stage, reasons: list[tuple[str, ...]]) -> None:
        raw, origins = raw_rows(item.window.batch, rows), item.window.origins
        path = item.fragment.path if origins is None else origins.take(pa.array(rows, pa.int64())).to_pylist()
        self._writer.quarantine(raw, path, item.window.positions[rows], stage, reasons)
        self._count(stage, reasons)

    def _count(self, stage: Stage, reasons: list[tuple[str, ...]]) -> None:
        self._quarantined += len(reasons)
        self._reasons.update(f"{stage}:{reason.split(':')[0] if stage == 'score' else reason}" for row in reasons for reason in row)

    def _lose(self, bad: BadFile) -> None:
        self._writer.bad_file(bad)
        self._quarantined += bad.rows
        self._reasons[f"{bad.stage}:{bad.kind}"] += bad.rows

    def _commit(self, seconds: dict[str, float], lost: tuple[BadFile, ...]) -> Receipt:
        return self._writer.commit(
            found=self._noted.findings(),
            keys=self._noted.keys.finished(),
            rows_in=self._read_rows + sum(bad.rows for bad in lost),
            counts=Counts(self._scored, self._quarantined, self._suppressed),
            reasons=dict(self._reasons),
            bad_files=lost,
            routes=dict(self._routes),
            seconds={stage: round(spent, 6) for stage, spent in seconds.items()},
            device=self._flow.scorer.device.name,
            notes=self._flow.scorer.take_notes(),
            absent={name: missed for name, missed in self._absent.items() if missed.rows},
            summary={} if self._tally is None else dict(self._tally.summary().plain),
            people=self._people,
            work=dict(self._work),
        )

"""One attempt at one slice: read, admit and encode, score, stage, in four threads or in one, with bounded memory.

Knows nothing of retries. What breaks as a whole (a file that cannot be read, a missing column) is raised as `Broken`; nothing of
the attempt is staged then, and the lane starts again without that fragment.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from scoring import columns
from scoring.admit.noted import Noted
from scoring.admit.privacy import Privacy
from scoring.admit.rules import Admitted, MissingColumns, Rules, admit, raw_rows
from scoring.engine.faults import Faults
from scoring.engine.pipeline import Pipeline
from scoring.engine.scorer import Scored, Scorer
from scoring.errors import InputChangedError, SourceError
from scoring.models import Encoded, Model
from scoring.parts import part
from scoring.settings import Job
from scoring.sinks.staged import StagedWriter
from scoring.sources import Window
from scoring.sources.carried import decoded, with_absent
from scoring.types import Absence, BadFile, Counts, Fragment, Receipt, Stage
from scoring.watch.plan import Plan
from scoring.watch.tally import Tally

_WINDOW_NUMBERS = 1 << 22  # that a window's outputs may have: vectors exist some five times on their way into a file


class Broken(Exception):  # noqa: N818 - it names what was found, and never leaves the engine
    """A fragment that cannot be scored, found while this attempt ran."""

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


class Attempt:
    """Use once: `run`."""

    def __init__(
        self,
        job: Job,
        model: Model,
        rules: Rules,
        privacy: Privacy,
        scorer: Scorer,
        writer: StagedWriter,
        turn: AbstractContextManager[object],
        people: str,
        room: AbstractContextManager[object],
        pipeline: Pipeline,
        plan: Plan | None = None,
        elsewhere: frozenset[str] = frozenset(),
    ) -> None:
        """`room` is held while rows flow, not while files are made durable; `turn` while a window is scored. Columns in `elsewhere`
        are counted on the way to the device.
        """
        self._room = room
        self._pipeline = pipeline
        self._tally = None if plan is None else Tally(plan, elsewhere)
        self._job, self._model, self._rules, self._scorer, self._writer, self._turn = job, model, rules, scorer, writer, turn
        self._privacy, self._people = privacy, people
        self._columns = tuple(dict.fromkeys((*(rule.name for rule in rules.columns), *job.source.carry)))
        self._lacking = pa.schema([])
        self._absent: dict[str, Absence] = {}
        self._read_rows = self._scored = self._quarantined = self._suppressed = 0
        self._reasons: Counter[str] = Counter()
        self._routes: Counter[str] = Counter()
        self._noted = Noted(job.contract)
        self._work: Counter[str] = Counter()
        self._scalars = list(columns.scalars(model.outputs).values())

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
        given, rows = (
            self._job.source,
            min(self._job.engine.window_rows, max(1, _WINDOW_NUMBERS // columns.width(self._model.outputs))),
        )
        source = replace(given, carry=tuple(name for name in given.carry if name not in self._privacy.treated))
        read = part("sources", source.kind).read
        for fragment in fragments:
            faults.hit("read")
            try:
                for window in read(fragment, self._columns, rows, source):
                    self._read_rows += window.batch.num_rows + len(window.rejected)
                    yield fragment, window
            except InputChangedError:
                raise
            except SourceError as error:
                raise Broken(fragment, "read", str(error)) from None

    def _encode(self, given: tuple[Fragment, Window]) -> tuple[Fragment, Window, Admitted, Encoded]:
        fragment, window = given
        window = self._without_suppressed(window)
        try:
            admitted = admit(window.batch, self._rules)
        except MissingColumns as error:
            raise Broken(fragment, "admit", str(error)) from None
        if self._tally is not None:
            self._tally.rows(admitted.good, window.positions, admitted.kept)
        self._noted.add(window.batch, window.positions, window.ignored, admitted, self._rules)
        encoded = self._model.encode(admitted.good)
        self._work.update(encoded.work())
        return fragment, window, admitted, self._scorer.device.upload(encoded)

    def _score(self, given: tuple[Fragment, Window, Admitted, Encoded]) -> Item:
        with self._turn:
            return Item(*given, self._scorer.score(given[3]))

    def _without_suppressed(self, window: Window) -> Window:
        """The window without rows and lines of people on the list; before the contract looks, so that none gets a reason."""
        listed = self._privacy.listed(window.batch)
        lines = tuple(line for line in window.rejected if not self._privacy.listed_line(line.text))
        gone = (0 if listed is None else len(listed)) + len(window.rejected) - len(lines)
        if not gone:
            return window
        self._suppressed += gone
        self._reasons["admit:suppressed"] += gone
        rest = np.arange(window.batch.num_rows) if listed is None else np.delete(np.arange(window.batch.num_rows), listed)
        kept = pa.array(rest, pa.int64())
        origins = None if window.origins is None else window.origins.take(kept)
        return replace(window, batch=window.batch.take(kept), positions=window.positions[rest], rejected=lines, origins=origins)

    def _stage(self, item: Item) -> None:
        batch, kept = item.window.batch, item.admitted.kept
        outputs, failed = item.scored.outputs, np.fromiter(sorted(item.scored.failed), np.int64)
        if len(failed):
            kept = np.arange(batch.num_rows, dtype=np.int64) if kept is None else kept
            self._reject(item, kept[failed], "score", [(item.scored.failed[row],) for row in failed.tolist()])
            outputs = np.delete(outputs, failed, axis=0)
        if self._tally is not None:
            self._tally.counted(item.encoded.counted())
            self._tally.scores(outputs[:, self._scalars], item.admitted.good, failed)
        carried = with_absent(batch, self._job.source.carry, self._lacking)
        self._writer.scores(self._privacy.carried(carried, item.admitted, failed), outputs)
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
            device=self._scorer.device.name,
            notes=self._scorer.take_notes(),
            absent={name: missed for name, missed in self._absent.items() if missed.rows},
            summary={} if self._tally is None else dict(self._tally.summary().plain),
            people=self._people,
            work=dict(self._work),
        )

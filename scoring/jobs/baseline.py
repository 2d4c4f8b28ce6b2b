"""Baseline: score the training rows with the model, and keep in its bundle what rows and scores looked like."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from scoring.admit.rules import admit, compile_rules
from scoring.columns import kept, scalars
from scoring.errors import ConfigError, SourceError
from scoring.jobs.arguments import Given
from scoring.models import Model
from scoring.models.golden import scores
from scoring.models.load import load
from scoring.parts import part
from scoring.respond.manual import clean
from scoring.settings import Column, Source
from scoring.sources import Window, slices
from scoring.sources.discover import discover
from scoring.types import digest
from scoring.watch.baseline import NAME, Baseline, read, span
from scoring.watch.plan import Plan, largest, output, watched
from scoring.watch.summary import Summary
from scoring.watch.tally import STRIDE, Tally

WINDOW_ROWS, SAMPLE_ROWS = 65_536, 200_000  # edges come from a sample of about so many rows, counts from all
Windows = Callable[[], Iterable[Window]]


@dataclass(frozen=True)
class BaselineRecord:
    """What was counted and where it lies. `watched` names columns by how they are counted."""

    path: str
    rows: int
    rows_in: int
    keys: tuple[str, ...]
    watched: dict[str, list[str]]
    reasons: dict[str, int]


def command(given: Given) -> tuple[BaselineRecord, int]:
    bundle = given.needed("bundle")
    model = load(bundle, "cpu", given.get("module"))
    source = Source(given.get("source") or "parquet", given.needed("PATH"))
    files = discover(source, part("sources", source.kind).SUFFIXES)
    segments = tuple(s for s in (given.get("segments") or "").strip("[]").split(",") if s)
    found = measure(model, lambda: _windows(source, model.inputs), segments, [p.key for p in files.partitions])
    return keep(found, Path(given.get("out") or Path(bundle) / NAME)), 0


def measure(model: Model, windows: Windows, segments: Sequence[str] = (), keys: Sequence[str] = ()) -> Baseline:
    """Two passes: edges and categories from a sample, then counts of all rows with them.

    Raises:
        SourceError: no row is fit to be scored. ConfigError: a segment is no column of categories.
    """
    rules = compile_rules(model.inputs, True)
    sampled = list(_sampled(window for window in windows()))
    good = [admit(batch, rules).good for batch in sampled]
    if not sum(batch.num_rows for batch in good):
        raise SourceError("The baseline has no row that can be scored. Look at the reasons with scoring run on the same path.")
    table = pa.Table.from_batches([_plain(batch) for batch in good])
    out = scores(model, table)
    columns = {name: replace(watched(table.column(name)), extremes=False) for name in model.inputs}  # a bundle goes places
    outputs = {name: output(out[:, place]) for name, place in scalars(model.outputs).items()}
    if odd := [s for s in segments if s not in columns or not columns[s].values]:
        raise ConfigError(
            f"segments: {odd[0]!r} is no input with categories. Known: {[n for n, c in columns.items() if c.values]}."
        )
    plan = Plan(columns, outputs, {name: largest(columns[name], table.column(name)) for name in segments})
    summary, reasons, rows_in = _count(model, plan, windows)
    contract = digest({name: asdict(column) for name, column in model.inputs.items()})
    return Baseline(plan, summary, model.digest, contract, rows_in, reasons, span(keys))


def keep(found: Baseline, path: Path) -> BaselineRecord:
    """Write it whole, after reading it back as a run will. Raises: ModelError, OSError."""
    making = path.with_name(path.name + ".part")
    making.write_bytes(found.to_json())
    try:
        if read(making) != found:
            raise AssertionError(f"{making} is not read as it was written. This is a bug.")
        os.replace(making, path)
    finally:
        making.unlink(missing_ok=True)
    kinds: dict[str, list[str]] = {}
    for name, column in found.plan.columns.items():
        kinds.setdefault(column.kind, []).append(name)
    return BaselineRecord(str(path), found.summary.rows, found.rows_in, found.keys, kinds, found.reasons)


def _count(model: Model, plan: Plan, windows: Windows) -> tuple[Summary, dict[str, int], int]:
    rules, tally, rows_in = compile_rules(model.inputs, True), Tally(plan), 0
    reasons: Counter[str] = Counter()
    numbers = list(scalars(model.outputs).values())
    for window in windows():
        admitted = admit(window.batch, rules)
        rows_in += window.batch.num_rows + len(window.rejected)
        reasons.update(f"admit:{reason}" for row in admitted.reasons for reason in row)
        tally.rows(admitted.good, window.positions, admitted.kept)
        out = scores(model, pa.Table.from_batches([admitted.good]))
        failed = np.flatnonzero(~kept(model.outputs, out))
        reasons.update({"score:non-finite": len(failed)} if len(failed) else {})
        tally.scores(np.delete(out[:, numbers], failed, axis=0), admitted.good, failed)
    return tally.summary(), dict(sorted(reasons.items())), rows_in


def _sampled(windows: Iterable[Window]) -> Iterator[pa.RecordBatch]:
    """All rows while they are few, then every 17th, then every 289th, …: never much more than twice the sample."""
    kept: list[pa.RecordBatch] = []
    every = 1
    for window in windows:
        kept.append(_every(window.batch, every))
        if sum(batch.num_rows for batch in kept) > SAMPLE_ROWS * 2:
            kept, every = [_every(batch, STRIDE) for batch in kept], every * STRIDE
    return iter(kept)


def _every(batch: pa.RecordBatch, stride: int) -> pa.RecordBatch:
    return batch if stride == 1 else batch.take(pa.array(np.arange(0, batch.num_rows, stride), pa.int64()))


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _windows(source: Source, inputs: dict[str, Column]) -> Iterator[Window]:
    """Everything at a path that can be read; files that cannot are refused: a baseline of half the rows would be another one."""
    module = part("sources", source.kind)
    for partition in discover(source, module.SUFFIXES).partitions:
        for work in slices.plan(partition, source):
            if work.fault is not None:
                raise SourceError(f"{work.fragments[0].path}: {work.fault}. A baseline needs every file: mend it or leave it out.")
            for fragment in work.fragments:
                yield from module.read(fragment, tuple(inputs), WINDOW_ROWS, source)


def render(found: BaselineRecord) -> str:
    period = f", {found.keys[0]} to {found.keys[-1]}" if found.keys else ""
    lines = [f"baseline: {found.path}", f"rows: {found.rows:,} counted of {found.rows_in:,}{period}"]
    lines += [f"{kind}: {', '.join(names)}" for kind, names in sorted(found.watched.items())]
    lines += [f"  {count:>12,}  {reason}" for reason, count in found.reasons.items()]
    return "\n".join(map(clean, lines))

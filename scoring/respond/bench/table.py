"""What a bench found, as a person reads it on a terminal: a table of rates and costs, one of stages, the choice, what to know."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scoring.respond.bench.results import BenchRecord, Measurement, Result, Spread
from scoring.respond.manual import clean
from scoring.respond.report.words import NONE, amount, count, duration

_LEAST_WIDTH = 100  # a narrower terminal wraps lines by itself; a table that is squeezed says nothing
_ORDER = ("read", "admit", "encode", "score", "stage")


def render(record: BenchRecord) -> str:
    """The whole answer. Rates are medians, with quartiles behind them."""
    lines = [_heading(record)]
    if record.measured:
        lines += [_drawn(_rates(record)), "", "seconds of all lanes per million rows, by stage", _drawn(_stages(record.measured))]
    lines += [f"{r.status}: {clean(r.name)}: {clean(r.reason)}" for r in record.results if r.measured is None]
    lines += [f"note: {clean(r.name)}: {clean(note)}" for r in record.measured for note in _of(r).notes]
    lines += [f"note: {clean(note)}" for note in record.notes]
    chosen = f"choice: {clean(record.choice.name)}. " if record.choice.name else "no choice: "
    lines += ["", f"{chosen}{clean(record.choice.why, 600)}"]
    lines += [f"{what}: {clean(where)}" for what, where in sorted(record.written.items())]
    return "\n".join(lines)


def _heading(record: BenchRecord) -> str:
    data, model = record.dataset, record.model
    rows = "rows not known" if data.rows is None else f"{'about ' if data.estimated else ''}{count(data.rows)} rows"
    of = f"{clean(model['name'])} {clean(model['version'])}" if model else "no model"
    return (
        f"{of} on {clean(data.path)} ({rows}, {data.bytes / 1e6:,.1f} MB), {record.repeats} round(s), {record.machine['processor']}"
    )


def _rates(record: BenchRecord) -> Table:
    found = record.measured
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    texts, gpu = any(_of(r).tokens_per_second for r in found), any(_of(r).gpu_gb is not None for r in found)
    joules, priced = any(_of(r).joules_per_row for r in found), any(_of(r).cost_per_million for r in found)
    table.add_column("", overflow="fold")
    names = ["rows/s", *(["tokens/s"] if texts else []), "busy", "waited for", "host GB", *(["GPU GB"] if gpu else []), "golden"]
    names += [*(["J/row"] if joules else []), *(["per M rows"] if priced else []), "whole dataset", *(["cost"] if priced else [])]
    for name in names:
        table.add_column(name, justify="left" if name == "waited for" else "right", no_wrap=True)
    for r in found:
        m = _of(r)
        cells = [_spread(m.rows_per_second), *([_short(m.tokens_per_second)] if texts else []), f"{m.busy:.0%}"]
        cells += [
            m.waited_for or NONE,
            _gb(m.host_gb),
            *([_gb(m.gpu_gb)] if gpu else []),
            f"{m.deviation:.1e} of {m.tolerance:.0e}",
        ]
        cells += [*([_short(m.joules_per_row)] if joules else []), *([_money(m.cost_per_million)] if priced else [])]
        cells += [_hours(m.hours), *([_money(m.cost)] if priced else [])]
        table.add_row(escape(clean(f"{_mark(record, r)} {r.name}")), *cells)
    return table


def _stages(found: Sequence[Result]) -> Table:
    known = {name for r in found for name in _of(r).stages}
    names = [*(n for n in _ORDER if n in known), *sorted(known - set(_ORDER))]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column("", overflow="fold")
    for name in (*names, "lanes", "device", "ready after"):
        table.add_column(name, justify="left" if name == "device" else "right", no_wrap=True)
    for r in found:
        m = _of(r)
        seconds = [f"{m.stages[n]:,.2f}" if n in m.stages else NONE for n in names]
        table.add_row(escape(clean(f"  {r.name}")), *seconds, str(m.lanes), escape(clean(m.device)), duration(m.start_seconds))
    return table


def _mark(record: BenchRecord, result: Result) -> str:
    return "*" if result.name == record.choice.name else "~" if result.name in record.choice.alike else " "


def _drawn(table: Table) -> str:
    out = io.StringIO()
    width = max(_LEAST_WIDTH, shutil.get_terminal_size((160, 24)).columns)
    Console(file=out, width=width, color_system=None, highlight=False, markup=True).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").splitlines())


def _spread(found: Spread) -> str:
    return f"{count(found.median)} ({count(found.low)}{NONE}{count(found.high)})"


def _short(found: Spread | None) -> str:
    return NONE if found is None else f"{found.median:,.3g}" if found.median < 100 else count(found.median)


def _money(found: Spread | None) -> str:
    return NONE if found is None else amount(found.median)


def _hours(found: Spread | None) -> str:
    return NONE if found is None else duration(found.median * 3600)


def _gb(found: float | None) -> str:
    return NONE if found is None else f"{found:.2f}"


def _of(result: Result) -> Measurement:
    assert result.measured is not None
    return result.measured

"""False alarms and power of the drift decision, by simulation: writes the table of docs/drift.md.

    make drift-table            or: python benchmarks/drift_table.py --partitions 2000

False alarms: partitions without drift are drawn as counts (multinomial draws are an exact simulation of binned rows; the true
shares of the bins are drawn as spacings of order statistics, since edges are estimated from training rows), and judged by the
decision that runs use. Power: rows are drawn, counted by the Tally of the lane and judged among 19 columns without drift; the
cause must be named.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.settings import Watch
from scoring.watch.baseline import Baseline
from scoring.watch.drift import Finding, Seen, judge
from scoring.watch.plan import Output, Plan, Watched, watched
from scoring.watch.summary import Summary
from scoring.watch.tally import Tally

DOC = Path(__file__).parents[1] / "docs/drift.md"
BEGIN, END = "<!-- made by make drift-table -->", "<!-- end -->"
SIZES, TRAINING = (100, 300, 1_000, 10_000, 100_000, 1_000_000), (60_000, 1_000_000)
NULLS = (0.0, 0.001, 0.01, 0.1, 0.5)
REASONS = {"admit:a:range": 0.002, "admit:b:type": 0.0001, "admit:c:null": 0.03}
WATCH = Watch()
EDGES = tuple(float(n) for n in range(7))
Rng = np.random.Generator


def zipf(values: int) -> np.ndarray:
    weights = 1 / np.arange(1, values + 1) ** 1.1
    return weights / weights.sum()


SHARES = (zipf(25), zipf(6), np.array([0.5, 0.3, 0.1, 0.05, 0.03, 0.015, 0.004, 0.001]))
TIED = (np.array([0.7, 0.2, 0.05, 0.03, 0.01, 0.006, 0.003, 0.001]), np.array([0.0, 0.9, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0]))


def shares_of_bins(rng: Rng, training: int) -> dict[str, np.ndarray]:
    """20 columns: 10 in eighths of the training rows, 2 with ties, 8 of categories; and the score."""
    spacings = {f"x{n}": rng.dirichlet(np.full(8, training / 8)) for n in range(10)} | {
        "score": rng.dirichlet(np.full(8, training / 8))
    }
    tied = {f"t{n}": TIED[n] for n in range(2)}
    return spacings | tied | {f"c{n}": SHARES[n % 3] for n in range(8)}


def drawn(rng: Rng, shares: dict[str, np.ndarray], rows: int, even: bool) -> Seen:
    """Counts of `rows` rows; `even`: those of the training rows themselves, whose eighths are even."""
    columns: dict[str, Any] = {}
    for place, (name, p) in enumerate(shares.items()):
        null = 0 if name == "score" else int(rng.binomial(rows, NULLS[place % 5]))
        held = even and name[0] in "xs"
        counts = np.full(8, (rows - null) // 8) if held else rng.multinomial(rows - null, p)
        if held:
            counts[: (rows - null) % 8] += 1
        if name.startswith("c"):
            columns[name] = {"null": null, "in": counts[:-1].tolist(), "other": {"0": int(counts[-1])}}
        else:
            columns[name] = {"null": null, "le": np.cumsum(counts)[:-1].tolist(), "min": -1.0, "max": 7.0, "cells": {}}
    score = columns.pop("score") | {"rows": rows, "sum": 0}
    reasons = {name: int(rng.binomial(rows, p)) for name, p in REASONS.items()}
    return Seen(Summary({"plan": "p", "rows": rows, "columns": columns, "scores": {"score": score}}), reasons, rows)


def plan() -> Plan:
    columns = {f"{kind}{n}": Watched("number", EDGES) for kind, count in (("x", 10), ("t", 2)) for n in range(count)}
    columns |= {f"c{n}": Watched("category", values=tuple(map(str, range(len(SHARES[n % 3]) - 1)))) for n in range(8)}
    return Plan(columns, {"score": Output(EDGES)})


def false_alarms(rng: Rng, training: int, rows: int, partitions: int) -> float:
    """The share of partitions without drift in which anything was found."""
    alarms, what = 0, plan()
    for _ in range(partitions):
        shares = shares_of_bins(rng, training)
        before = drawn(rng, shares, training, even=True)
        baseline = Baseline(what, before.summary, "m", "", training, dict(before.reasons))
        alarms += any(f.status in ("warn", "fail") for f in judge(drawn(rng, shares, rows, even=False), baseline, "m", WATCH))
    return alarms / partitions


def table(rng: Rng, rows: int) -> dict[str, np.ndarray]:
    """Rows without drift: 10 normal, 5 lognormal and 5 columns of categories, null (NaN, -1) in a twentieth of them."""
    drawn = {f"n{k}": rng.standard_normal(rows, np.float32) for k in range(10)}
    drawn |= {f"l{k}": np.exp(1.1 * rng.standard_normal(rows, np.float32)) for k in range(5)}
    for values in drawn.values():
        values[rng.random(rows, np.float32) < 0.05] = np.nan
    return drawn | {f"c{k}": np.searchsorted(np.cumsum(zipf(12))[:-1], rng.random(rows)) for k in range(5)}


def counted(what: Plan, columns: dict[str, np.ndarray]) -> Summary:
    words = pa.array([f"value {n}" for n in range(20)])
    arrays = {
        name: pa.DictionaryArray.from_arrays(pa.array(v.astype(np.int32)), words)
        if name[0] == "c"
        else pa.array(v, from_pandas=True)
        for name, v in columns.items()
    }
    batch, rows = pa.record_batch(arrays), len(columns["n0"])
    tally = Tally(what)
    tally.rows(batch, np.arange(rows), None)
    return tally.summary()


def _shift(by: float) -> Callable[[dict[str, np.ndarray], Rng], None]:
    def change(columns: dict[str, np.ndarray], rng: Rng) -> None:
        columns["n0"] += np.float32(by)

    return change


def _burst(columns: dict[str, np.ndarray], rng: Rng) -> None:
    columns["n0"][rng.random(len(columns["n0"])) < 0.05 / 0.95] = np.nan


def _unit(columns: dict[str, np.ndarray], rng: Rng) -> None:
    columns["l0"] *= np.float32(100)


def _rename(columns: dict[str, np.ndarray], rng: Rng) -> None:
    columns["c0"][columns["c0"] == 2] = 15


def _constant(columns: dict[str, np.ndarray], rng: Rng) -> None:
    columns["l0"][:] = 3.5


CASES: tuple[tuple[str, int, str, str, Callable[[dict[str, np.ndarray], Rng], None]], ...] = (
    ("shift of 0.1 sd", 100_000, "n0", "shift", _shift(0.1)),
    ("shift of 0.5 sd", 1_000, "n0", "shift", _shift(0.5)),
    ("5 points more nulls (5 % → 10 %)", 1_000, "n0", "null burst", _burst),
    ("5 points more nulls (5 % → 10 %)", 10_000, "n0", "null burst", _burst),
    ("unit: x 100", 300, "l0", "unit", _unit),
    ("unit: x 100", 1_000, "l0", "unit", _unit),
    ("category renamed (9 % of rows)", 1_000, "c0", "renamed", _rename),
    ("constant column", 100, "l0", "constant", _constant),
)


def training(rng: Rng, rows: int = 60_000) -> Baseline:
    columns = table(rng, rows)
    arrays = {
        n: pa.array([f"value {k}" for k in range(20)]).take(pa.array(v)) if n[0] == "c" else pa.array(v, from_pandas=True)
        for n, v in columns.items()
    }
    what = Plan({n: watched(pa.chunked_array([a])) for n, a in arrays.items()}, {})
    return Baseline(what, counted(what, columns), "m", "", rows)


def power(rng: Rng, baseline: Baseline, case: Any, partitions: int) -> tuple[float, float, float]:
    """Shares of partitions: drift of the column found, its cause named, and alarms on other columns."""
    _, rows, column, cause, change = case
    found = named = others = 0
    for _ in range(partitions):
        columns = table(rng, rows)
        change(columns, rng)
        said = judge(Seen(counted(baseline.plan, columns), {}, rows), baseline, "m", WATCH)
        bad: list[Finding] = [f for f in said if f.status in ("warn", "fail")]
        found += any(f.column == column for f in bad)
        named += any(f.column == column and f.cause == cause for f in bad)
        others += any(f.column != column for f in bad)
    return found / partitions, named / partitions, others / partitions


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--partitions", type=int, default=2_000, help="without drift, for each size")
    ask.add_argument("--power", type=int, default=200, help="for each case")
    given = ask.parse_args()
    rng, began = np.random.default_rng(20_261), time.monotonic()
    lines = [
        "| rows | " + " | ".join(f"alarms, baseline of {m:,} rows" for m in TRAINING) + " |",
        "|---:|" + "---:|" * len(TRAINING),
    ]
    pooled = 0.0
    for rows in SIZES:
        rates = [false_alarms(rng, m, rows, given.partitions // len(TRAINING)) for m in TRAINING]
        pooled += sum(rates) / len(rates) / len(SIZES)
        lines.append(f"| {rows:,} | " + " | ".join(f"{rate:.2%}" for rate in rates) + " |")
    total = given.partitions // len(TRAINING) * len(TRAINING) * len(SIZES)
    lines += ["", f"All {total:,} partitions without drift: alarms in {pooled:.2%}; stated: at most {WATCH.alpha:.0%}.", ""]
    lines += ["| change | rows | found | cause named | alarms on the 19 other columns |", "|---|---:|---:|---:|---:|"]
    baseline = training(rng)
    for case in CASES:
        found, named, others = power(rng, baseline, case, given.power)
        lines.append(f"| {case[0]} | {case[1]:,} | {found:.1%} | {named:.1%} | {others:.1%} |")
    text = DOC.read_text()
    head, _, rest = text.partition(BEGIN)
    DOC.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}")
    print("\n".join(lines))
    print(
        json.dumps(
            {"name": "drift-table", "alarm_rate": round(pooled, 5), "n": total, "seconds": round(time.monotonic() - began, 1)}
        )
    )


if __name__ == "__main__":
    main()

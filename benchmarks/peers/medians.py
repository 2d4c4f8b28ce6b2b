"""Lines of raw.jsonl to medians: what each contender needed for each case, and what that is beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peers.contenders import CONTENDERS, OURS
from peers.task import WORKERS

Line = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One contender on one case; medians of `n` timed rounds, `spread` their least and largest rate. `trouble` says why there are
    none, or why they do not count; `note` what failed beside them. Rates are rows per second, times seconds, memory MB; `jobs` is
    the shortest and the longest job.
    """

    case: str
    contender: str
    n: int
    rate: float
    spread: tuple[float, float]
    first_s: float | None
    job_s: float
    rss_mb: float
    pss_mb: float | None
    largest: float | None
    trouble: str
    note: str = ""
    jobs: tuple[float, float] = (0.0, 0.0)


def entries(lines: Sequence[Line]) -> list[Entry]:
    """In the order in which cases and contenders first came."""
    keys = dict.fromkeys((line["case"], line["contender"]) for line in lines if "round" in line)
    return [_entry(*key, [line for line in lines if (line.get("case"), line.get("contender")) == key]) for key in keys]


def _entry(case: str, name: str, lines: list[Line]) -> Entry:
    rounds = {line["round"]: line for line in lines if "round" in line}  # the latest of each: a failure may have been tried again
    timed = [line for number, line in rounds.items() if number and not line["error"]]
    checked = rounds.get(0)
    compared = next((line["agreement"] for line in reversed(lines) if "agreement" in line), None)
    failed = [line["error"] for number, line in rounds.items() if number and line["error"]]
    trouble = (checked or {}).get("error") or (failed[0] if failed and not timed else "")
    if not trouble and compared is None and checked is not None and checked.get("copies", 1) == 1:
        trouble = "its answers were not compared"
    if not trouble and compared is not None and not compared["holds"]:
        trouble = compared.get("error") or f"answers differ by {compared['largest']:.1e}, allowed are {compared['allowed']:g}"
    largest = None if compared is None else compared.get("largest")
    pss = None if checked is None else checked.get("pss_mb")
    if not timed:
        return Entry(case, name, 0, 0.0, (0.0, 0.0), None, 0.0, 0.0, pss, largest, trouble or "not measured")
    rates = [line["rate"] for line in timed]
    firsts = [line["first_s"] for line in timed if line["first_s"] is not None]
    job, rss = (statistics.median(line[key] for line in timed) for key in ("job_s", "rss_mb"))
    first = statistics.median(firsts) if firsts else None
    spread = min(rates), max(rates)
    notes = [f"{len(failed)} failed: {failed[0]}"] if failed else []
    if CONTENDERS[name].whole_job and (idle := sum(line.get("workers", WORKERS) < WORKERS for line in timed)):
        notes.append(f"in {idle} one worker of {WORKERS} idled")
    times, note = [line["job_s"] for line in timed], "; ".join(notes)
    jobs, rate = (min(times), max(times)), statistics.median(rates)
    return Entry(case, name, len(timed), rate, spread, first, job, rss, pss, largest, trouble, note, jobs)


@dataclass(frozen=True)
class Beside:
    """Ours beside one other on one case. `steady` is a ratio of rates, `job` that of the times of whole jobs, starts included;
    above 1 ours is faster.
    """

    ours: Entry
    theirs: Entry

    @property
    def steady(self) -> float:
        return self.ours.rate / self.theirs.rate

    @property
    def job(self) -> float | None:
        return self.theirs.job_s / self.ours.job_s if CONTENDERS[self.theirs.contender].whole_job else None


def besides(found: Sequence[Entry], mine: str = "ray") -> list[Beside]:
    """Ours with one engine beside all others of its precision; ours are not beside each other, nor beside our own model in memory,
    which is a ceiling. In bfloat16 we are beside `encode` in both: what 16 bits are worth, and what our runtime is.
    """
    ours = {entry.case: entry for entry in found if entry.contender == mine and not entry.trouble}
    others = ("encode", "encode-bf16") if mine == "ray-bf16" else [n for n in CONTENDERS if n not in (*OURS, "bare", "encode-bf16")]
    return [Beside(ours[e.case], e) for e in found if e.contender in others and e.case in ours and not e.trouble]


def goal(family: str, other: str, mine: str = "ray") -> float | None:
    """What was promised, of steady rates."""
    if mine == "ray-bf16":
        return {("text", "encode"): 2.5}.get((family, other))
    return {
        ("tabular", "ray-data"): 5.0, ("tabular", "ray-data-module"): 5.0, ("tabular", "hand"): 0.95,
        ("tabular", "daft"): 2.5, ("tabular", "daft-module"): 2.5,
        ("text", "ray-data"): 1.5, ("text", "daft"): 1.5, ("text", "encode"): 1.25, ("forest", "ray-data"): 1.5,
    }.get((family, other))  # fmt: skip


def slope(lines: Sequence[Entry], sizes: Sequence[tuple[str, int]], name: str) -> float | None:
    """Rows per second of what the last of the cases has more than the first: starts cancel out, and no clock of ours is in it.
    None where a small job took as long as a large one in any round: the difference would be noise.
    """
    known = {entry.case: entry for entry in lines if entry.contender == name and not entry.trouble}
    if len(sizes) < 2 or any(case not in known for case, _ in sizes):
        return None
    (small, few), (large, many) = [(known[case], rows) for case, rows in (sizes[0], sizes[-1])]
    return (many - few) / (large.job_s - small.job_s) if large.jobs[0] > small.jobs[1] else None

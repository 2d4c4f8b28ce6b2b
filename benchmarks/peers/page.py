"""The medians as the generated part of docs/performance.md: losses first, then every case, then what it was measured with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers import medians
from peers.contenders import CONTENDERS, OURS
from peers.medians import Beside, Entry

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
Line = dict[str, Any]


def table(lines: Sequence[Line]) -> str:
    """Markdown."""
    found = medians.entries(lines)
    beside = medians.besides(found)
    sizes = {line["case"]: line["rows"] for line in lines if "round" in line}
    parts = [_made(lines), "### Where we lose\n", _losses(beside, found), "### Side by side\n"]
    for family in dict.fromkeys(case.split()[0] for case in sizes):
        parts += [_case(case, found) for case in sizes if case.split()[0] == family]
        parts.append(_growth(found, {case: rows for case, rows in sizes.items() if case.split()[0] == family}))
    return "\n".join(part for part in parts if part)


def write(path: Path, told: str, picture: Path) -> None:
    """Put the table between the markers of the page. Raises: ValueError: they are not there."""
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{path}: {BEGIN} and {END} must stand in it")
    before, rest = text.split(BEGIN)
    link = Path(os.path.relpath(picture, path.parent)).as_posix()
    path.write_text(f"{before}{BEGIN}\n\n{told}\n![Rows per second of every contender]({link})\n\n{END}{rest.split(END)[1]}")


def _made(lines: Sequence[Line]) -> str:
    """When, where and with what, and how loaded the machine was."""
    facts = next((line["machine"] for line in lines if "machine" in line), {})
    timed = [line for line in lines if line.get("round")]
    if not timed:
        return "Nothing was timed yet.\n"
    loads = sorted(line["load"][0] for line in timed)
    versions = facts.get("versions", {}) | {n: v for n, v in facts.get("versions_peers", {}).items() if n in ("daft", "pyspark")}
    own = facts.get("versions_peers", {}).get("pyarrow")
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Measured {timed[0]['at'][:10]}, {timed[0]['at'][11:16]} to {timed[-1]['at'][11:16]} UTC, on {facts.get('cores')} cores of "
        f"{facts.get('cpu')}, {facts.get('memory_gb')} GB, {facts.get('platform')}, Python {facts.get('python')}, {facts.get('java')}; "
        f"commit {facts.get('commit')}{' with changes' if facts.get('changed') else ''}, harness {facts.get('harness')}. "
        f"Load average (1 minute) before a measurement: median {loads[len(loads) // 2]:g}, from {loads[0]:g} to {loads[-1]:g}; "
        f"what ran a moment before is in it.\n\n{named}{f'; Daft and PySpark with pyarrow {own}' if own else ''}.\n"
    )


def _losses(beside: Sequence[Beside], found: Sequence[Entry]) -> str:
    """Slower than another, or short of a goal; then contenders that failed."""
    rows = []
    for one in beside:
        goal = medians.goal(one.theirs.case.split()[0], one.theirs.contender)
        slow, late = one.steady < 1, one.job is not None and one.job < 1
        if slow or late or (goal and one.steady < goal):
            why = ", ".join(
                [
                    *(["slower"] if slow else []),
                    *(["later in all"] if late else []),
                    *([f"goal {goal:g} missed"] if goal and one.steady < goal else []),
                ]
            )
            rows.append(
                f"| {one.theirs.case} | {CONTENDERS[one.theirs.contender].title} | {one.steady:.2f} | {_ratio(one.job)} | {why} |"
            )
    failed = [f"* {e.case}, {CONTENDERS[e.contender].title}: {e.trouble}" for e in found if e.trouble]
    head = "engine=ray beside others: steady is the ratio of rows per second, job that of whole jobs from start to end; below 1 we lose.\n\n"
    told = head + "| case | beside | steady | job | |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n" if rows else "Nowhere.\n"
    return told + ("\nWhat failed or does not count:\n\n" + "\n".join(failed) + "\n" if failed else "")


def _case(case: str, found: Sequence[Entry]) -> str:
    here = [e for e in found if e.case == case]
    ours = next((e for e in here if e.contender == "ray" and not e.trouble), None)
    rows = [_row(e, ours) for e in sorted(here, key=lambda e: -e.rate)]
    head = f"#### {case}\n\n| | rows/s (least to largest) | ours / theirs | first rows, s | whole job, s | memory, MB: RSS, PSS | largest difference | n |\n"
    return head + "|---|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(e: Entry, ours: Entry | None) -> str:
    title = CONTENDERS[e.contender].title
    if e.trouble:
        return f"| {title} | failed: {e.trouble.replace('|', '/')[:120]} | | | | | | {e.n} |"
    bold = "**" if e.contender in OURS else ""
    ratio = "" if ours is None or e.contender in OURS else f"{ours.rate / e.rate:.2f}"
    whole = CONTENDERS[e.contender].whole_job
    first, job = (_seconds(e.first_s), _seconds(e.job_s)) if whole else ("", "")
    off = "" if e.largest is None else f"{e.largest:.0e}"
    memory = f"{e.rss_mb:,.0f}, {e.pss_mb:,.0f}" if e.pss_mb else f"{e.rss_mb:,.0f}"
    return f"| {bold}{title}{bold} | {_rate(e.rate)} ({_rate(e.spread[0])} to {_rate(e.spread[1])}) | {ratio} | {first} | {job} | {memory} | {off} | {e.n} |"


def _growth(found: Sequence[Entry], sizes: dict[str, int]) -> str:
    """Rates by how whole jobs grow, by kind of work."""
    rows = []
    for kind in dict.fromkeys(" ".join(case.split()[:-1]) for case in sizes):
        own = sorted(((case, rows) for case, rows in sizes.items() if case.rpartition(" ")[0] == kind), key=lambda pair: pair[1])
        rates = {
            name: medians.slope(found, own, name)
            for name in dict.fromkeys(e.contender for e in found)
            if CONTENDERS[name].whole_job
        }
        mine = rates.get("ray")
        rows += [
            f"| {kind} | {CONTENDERS[name].title} | {_rate(rate)} | {'' if name in OURS or not mine else f'{mine / rate:.2f}'} |"
            for name, rate in rates.items() if rate
        ]  # fmt: skip
    if not rows:
        return ""
    head = "What more rows cost, by the times of whole jobs of the smallest and the largest case that each took part in:\n\n"
    return head + "| work | | more rows/s | ours / theirs |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:,.1f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"

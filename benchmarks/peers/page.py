"""The medians as the generated part of docs/performance.md: losses first, then every case, then what it was measured with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers import medians
from peers.contenders import CONTENDERS, OURS, takes_part
from peers.medians import Beside, Entry

ROUNDS = 5  # timed ones of every contender and case
BUSY = 4.0  # a load that a contender on two cores leaves behind is 2 to 4
LOSSES = (
    "Ours beside others: steady is the ratio of rows per second after the start, job that of whole jobs; below 1 we lose.",
    "Where we are slower or later comes first, then what falls short of a goal alone. First rows, memory, what more rows cost, and",
    "our own model in memory, which is a ceiling for us and nobody's rival, are in the tables by case.\n",
    "| case | beside | steady | job | |",
    "|---|---|---|---|---|",
)
COLUMNS = (
    "| | rows/s after the start (least to largest) | engine=ray / theirs | first rows, s | whole job, s "
    "| MB: RSS, and PSS of one run | largest difference | n |",
    "|---|---|---|---|---|---|---|---|",
)
OF_MODELS = {  # what a ratio of a family is made of
    "text": "Ours computes the encoder by its own code, others by sentence-transformers: ratios are mostly of the models, not "
    "of the frameworks. `our own model, in memory` is given tokens, `encode` is given texts.\n",
    "forest": "Ours walks the trees by compiled code of its own, others by the library: ratios are mostly of the models, not "
    "of the frameworks, and a peer could call such code, too (treelite is not measured). Compiling ours takes ten seconds, once "
    "on a machine, and is in no time here.\n",
}
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
Line = dict[str, Any]


def table(lines: Sequence[Line]) -> str:
    """Markdown."""
    found = medians.entries(lines)
    beside = [one for mine in OURS for one in medians.besides(found, mine)]
    sizes = {line["case"]: line["rows"] for line in lines if "round" in line}
    parts = [_made(lines), "### Where we lose in speed\n", _losses(beside, found), "### Side by side\n"]
    for family in dict.fromkeys(case.split()[0] for case in sizes):
        parts.append(OF_MODELS.get(family, ""))
        parts += [_case(case, found) for case in sizes if case.split()[0] == family]
        parts.append(_growth(found, {case: rows for case, rows in sizes.items() if case.split()[0] == family}))
    return "\n".join(part for part in parts if part)


def lacking(lines: Sequence[Line], cases: Sequence[str]) -> list[str]:
    """Who was not measured as often as is promised, failures included: a page of some would hide the others."""
    rounds: dict[str, set[int]] = {}
    for line in lines:
        if line.get("round"):
            rounds.setdefault(f"{line['case']}, {CONTENDERS[line['contender']].title}", set()).add(line["round"])
    wanted = [f"{case}, {one.title}" for case in cases for name, one in CONTENDERS.items() if takes_part(name, case)]
    return [name for name in wanted if len(rounds.get(name, ())) < ROUNDS]


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
    hours = f"{timed[0]['at'][:10]}, {timed[0]['at'][11:16]} to {timed[-1]['at'][11:16]} UTC"
    host = ", ".join(str(facts.get(name)) for name in ("cpu", "platform", "java"))
    made = f"commit {facts.get('commit')}{' with changes' if facts.get('changed') else ''}, harness {facts.get('harness')}"
    cores, memory, python = (facts.get(name) for name in ("cores", "memory_gb", "python"))
    told = f"Measured {hours}, on {cores} cores and {memory} GB: {host}, Python {python}; {made}. {_load(timed)}"
    return f"{told}\n\n{_versions(facts)}.\n"


def _load(timed: Sequence[Line]) -> str:
    loads = sorted(line["load"][0] for line in timed)
    middle = loads[len(loads) // 2]
    said = f"Load before a measurement (1 minute): median {middle:g}, from {loads[0]:g} to {loads[-1]:g}; what ran a moment before"
    busy = " **Others used the machine meanwhile: times are too long for everybody.**" if middle > BUSY else ""
    return f"{said} is in it.{busy}"


def _versions(facts: Line) -> str:
    foreign = facts.get("versions_peers", {})
    versions = facts.get("versions", {}) | {name: version for name, version in foreign.items() if name in ("daft", "pyspark")}
    own = f"; Daft and PySpark with pyarrow {foreign['pyarrow']}" if "pyarrow" in foreign else ""
    return ", ".join(f"{name} {version}" for name, version in versions.items()) + own


def _losses(beside: Sequence[Beside], found: Sequence[Entry]) -> str:
    """Slower than another, then short of a goal, the worst first; then what is not known, because ours failed, and all failures."""
    rows = [f"{_beside(one)} {why} |" for one in sorted(beside, key=_worst) if (why := _lost(one))]
    failed = [f"* {e.case}, {CONTENDERS[e.contender].title}: {e.trouble or e.note}" for e in found if e.trouble or e.note]
    unknown = [
        f"Not known for {e.case}: {CONTENDERS[e.contender].title} failed." for e in found if e.contender in OURS and e.trouble
    ]
    told = "\n".join([*LOSSES, *rows] if rows else ["Nowhere."] if not unknown else []) + "\n"
    told += "".join(f"\n{line}\n" for line in unknown)
    return told + ("\nWhat failed or does not count:\n\n" + "\n".join(failed) + "\n" if failed else "")


def _worst(one: Beside) -> tuple[bool, float]:
    least = min(one.steady, one.steady if one.job is None else one.job)
    return least >= 1, least


def _beside(one: Beside) -> str:
    mine = "" if one.ours.contender == "ray" else f", ours: {CONTENDERS[one.ours.contender].title}"
    return f"| {one.theirs.case} | {CONTENDERS[one.theirs.contender].title}{mine} | {one.steady:.2f} | {_ratio(one.job)} |"


def _lost(one: Beside) -> str:
    goal = medians.goal(one.theirs.case.split()[0], one.theirs.contender, one.ours.contender)
    told = ["slower"] if one.steady < 1 else []
    told += ["later in all"] if one.job is not None and one.job < 1 else []
    told += [f"goal {goal:g} missed"] if goal and one.steady < goal else []
    return ", ".join(told)


def _case(case: str, found: Sequence[Entry]) -> str:
    here = [e for e in found if e.case == case]
    ours = next((e for e in here if e.contender == "ray" and not e.trouble), None)
    known = {e.contender for e in here}
    absent = [one.title for name, one in CONTENDERS.items() if name not in known and case.split()[0] in one.families]
    told = "\n".join([f"#### {case}\n", *COLUMNS, *(_row(e, ours) for e in sorted(here, key=lambda e: -e.rate))]) + "\n"
    return told + (f"\nNot measured here: {'; '.join(absent)}.\n" if absent else "")


def _row(e: Entry, ours: Entry | None) -> str:
    title = CONTENDERS[e.contender].title
    if e.trouble:
        return f"| {title} | failed: {e.trouble.replace('|', '/')[:120]} | | | | | | {e.n} |"
    title = f"**{title}**" if e.contender in OURS else title
    ratio = "" if ours is None or e.contender in OURS else f"{ours.rate / e.rate:.2f}"
    whole = CONTENDERS[e.contender].whole_job
    first, job = (_seconds(e.first_s), _seconds(e.job_s)) if whole else ("", "")
    off = "" if e.largest is None else f"{e.largest:.0e}"
    memory = f"{e.rss_mb:,.0f}, {e.pss_mb:,.0f}" if e.pss_mb else f"{e.rss_mb:,.0f}"
    rates = f"{_rate(e.rate)} ({_rate(e.spread[0])} to {_rate(e.spread[1])})"
    many = f"{e.n}, {e.note[:60]}" if e.note else f"{e.n}"
    return f"| {title} | {rates} | {ratio} | {first} | {job} | {memory} | {off} | {many} |"


def _growth(found: Sequence[Entry], sizes: dict[str, int]) -> str:
    """Rates by how whole jobs grow, by kind of work. Ours beside another are both over the cases that the other took part in."""
    rows = []
    for kind in dict.fromkeys(case.rpartition(" ")[0] for case in sizes):
        own = sorted(((case, many) for case, many in sizes.items() if case.rpartition(" ")[0] == kind), key=lambda pair: pair[1])
        for name in dict.fromkeys(e.contender for e in found if CONTENDERS[e.contender].whole_job):
            both = [pair for pair in own if any(e.case == pair[0] and e.contender == name and not e.trouble for e in found)]
            if len(both) < 2:
                continue
            theirs, mine = (medians.slope(found, both, one) for one in (name, "ray"))
            span = f"{both[0][0].split()[-1]} to {both[-1][0].split()[-1]}"
            ratio = f"{mine / theirs:.2f}" if theirs and mine and name not in OURS else ""
            rate = _rate(theirs) if theirs else "not measurable"
            rows.append(f"| {kind}, {span} | {CONTENDERS[name].title} | {rate} | {ratio} |")
    if not rows:
        return ""
    head = "What more rows cost, by the times of whole jobs of two sizes, the same two for both sides of a ratio; not measurable\n"
    head += "where a small job took as long as a large one in any round:\n\n"
    return head + "| work | | more rows/s | engine=ray / theirs |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:,.1f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"

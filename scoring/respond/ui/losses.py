"""What is in quarantine: rows by rule over the newest runs, and examples that are masked before they get here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scoring.respond.report.account import SUPPRESSED
from scoring.respond.report.facts import Example
from scoring.respond.report.words import name, share
from scoring.respond.ui.partitions import Published, Standing
from scoring.respond.ui.runs import Run

EXAMPLES = 3  # of each rule
_MOST_RULES, _MOST_PARTITIONS, _MOST_FILES, _LOOKED_AT = 50, 20, 20, 4


@dataclass(frozen=True)
class Lost:
    """Rows in the quarantine of one published partition, by rule and by file; `partial`: not all of its files were read."""

    rows: int
    rules: Mapping[str, int]
    files: Mapping[str, int]
    examples: tuple[Example, ...]
    partial: bool = False


Look = Callable[[Published], Lost]  # reads the quarantine of a partition; raises ScoringError, OSError or pa.ArrowException


@dataclass(frozen=True)
class Rule:
    """`share` is that of the rows of the runs that it is counted in; `run_id` the newest of them in which it was broken."""

    rule: str
    stage: str
    rows: int
    share: str
    runs: int
    run_id: str
    examples: tuple[Example, ...] = ()


def rules(runs: Sequence[Run], looked: Sequence[Lost]) -> list[Rule]:
    """The most rows first. `runs` the newest first; examples are those of the partitions that were looked at."""
    rows, times, last = Counter[str](), Counter[str](), dict[str, str]()
    for run in runs:
        for rule, n in (run.ended.reasons if run.ended else {}).items():
            if rule != SUPPRESSED and n:
                rows[rule] += n
                times[rule] += 1
                last.setdefault(rule, run.id)
    total = sum(run.ended.rows["in"] for run in runs if run.ended)
    seen = [example for lost in looked for example in lost.examples]
    return [
        Rule(*_split(rule), n, share(n, total), times[rule], last[rule], _of(rule, seen))
        for rule, n in rows.most_common(_MOST_RULES)
    ]


def of(lost: Lost) -> list[Rule]:
    """The rules of one partition."""
    found = sorted(lost.rules.items(), key=lambda r: (-r[1], r[0]))[:_MOST_RULES]
    return [Rule(*_split(rule), n, share(n, lost.rows), 1, "", _of(rule, lost.examples)) for rule, n in found]


def files(lost: Lost) -> list[tuple[str, int]]:
    """(end of the path, rows), the most rows first."""
    found = sorted(lost.files.items(), key=lambda f: (-f[1], f[0]))[:_MOST_FILES]
    return [(tail(path), rows) for path, rows in found]


def worst(standing: Sequence[Standing]) -> list[Standing]:
    """Partitions with rows in quarantine, the most first."""
    found = [one for one in standing if one.rows and one.rows["quarantined"]]
    return sorted(found, key=lambda one: (-(one.rows or {})["quarantined"], one.key))[:_MOST_PARTITIONS]


def to_look_at(standing: Sequence[Standing]) -> list[Published]:
    """Some of the worst, for examples."""
    return [one.published for one in worst(standing) if one.published and one.published.quarantine][:_LOOKED_AT]


def tail(path: str) -> str:
    """The end of a path, which tells files apart."""
    return name("/".join(path.rsplit("/", 3)[-2:]))


def _split(rule: str) -> tuple[str, str]:
    stage, _, rest = rule.partition(":")
    return (name(rest), name(stage)) if rest else (name(rule), "")


def _of(rule: str, examples: Sequence[Example]) -> tuple[Example, ...]:
    mine = [Example(e.rule, tail(e.file), e.row, name(e.value, 60)) for e in examples if e.rule == rule]
    return tuple(mine[:EXAMPLES])

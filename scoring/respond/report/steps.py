"""What to do next, as commands that a shell takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from scoring.respond.report.facts import Facts
from scoring.respond.report.words import plural
from scoring.settings import WATCHED

_MOST_HELD = 3
_PATHS = ("source.path", "model.bundle")


@dataclass(frozen=True)
class Step:
    why: str
    command: str


def steps(facts: Facts) -> list[Step]:
    """The most urgent first."""
    return [*_held(facts), *_unfinished(facts), *_quarantine(facts), *_drift(facts), *_always(facts)]


def _held(facts: Facts) -> Iterator[Step]:
    held = [p.key for p in facts.record.partitions if p.status == "held"]
    for key in held[:_MOST_HELD]:
        end = f"{_place(facts)} --reason=…"
        said = f"scoring release-held {shlex.quote(facts.record.run_id)} {shlex.quote(key)} {end}"
        yield Step("Publish this partition as it was staged, if its failed checks can be answered for", said)
    if held:
        yield Step(f"Or drop {'it' if len(held) == 1 else 'one of them'}: the next run scores it afresh", f"{said} --discard")


def _unfinished(facts: Facts) -> Iterator[Step]:
    if facts.record.status in ("paused", "failed"):
        yield Step("Go on where it stopped: run the same line again; these are the settings it had", _settings(facts))


def _quarantine(facts: Facts) -> Iterator[Step]:
    if facts.record.rows["quarantined"]:
        mine = f"{_place(facts)} {shlex.quote(f'run={facts.record.run_id}')}"
        yield Step("See which rules lost rows, in which files, and which break together", f"scoring quarantine {mine}")
        words = {"source": facts.settings.get("source.kind", "…")} | {word: facts.settings.get(word, "…") for word in _PATHS}
        if (precision := facts.settings.get("model.precision", "auto")) != "auto":
            words["model.precision"] = precision
        line = f"scoring requeue {shlex.join(f'{word}={value}' for word, value in words.items())} {mine} contract=…"
        yield Step("Let in what is good under a mended contract: the line of the run, said with requeue", line)


def _drift(facts: Facts) -> Iterator[Step]:
    found = [p for p in facts.record.partitions if any(c.name in WATCHED and c.status in ("warn", "fail") for c in p.checks)]
    if found:
        why = f"If the new data are right ({plural(len(found), 'partition')}), count a new baseline from them; else mend the feed"
        source, bundle = (facts.settings.get(word, "…") for word in _PATHS)
        yield Step(why, f"scoring baseline {shlex.quote(source)} {shlex.quote(f'bundle={bundle}')}")


def _always(facts: Facts) -> Iterator[Step]:
    yield Step("Check that what was published is still what was published", f"scoring verify {_place(facts)}")
    again = f"scoring report {shlex.quote(facts.record.run_id)} {_place(facts)}"
    yield Step("Make this page again, or set two runs side by side with --compare", again)


def _settings(facts: Facts) -> str:
    return f"cat {shlex.quote(f'{facts.workspace}/runs/{facts.record.run_id}/config.yaml')}"


def _place(facts: Facts) -> str:
    return shlex.quote(f"workspace={facts.workspace}")

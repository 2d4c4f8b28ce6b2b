"""What the rules find in a run. Pure.

A rule that cannot tell finds None, which is neither good nor bad news: a run that failed says nothing of drift, and one in which
every partition was too small to be judged does not either.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from scoring.respond.alerts.rules import Rule
from scoring.respond.manual import clean
from scoring.respond.story import Story, Told

_GRAVITY = ("fail", "warn")
_ENDED = ("published", "published-with-warnings", "held")  # the numbers of other runs are of what they got to
_LONGEST = 300
_MOST_NAMED = 30


@dataclass(frozen=True)
class Hit:
    """`labels` tell it from others of its rule; `said` is one sentence; `partitions` are the first of `count` that it is about."""

    labels: Mapping[str, str]
    said: str
    partitions: tuple[str, ...] = ()
    count: int = 0


def found(rule: Rule, story: Story, settled: bool) -> list[Hit] | None:
    """`settled`: the run found that everything is published, and judged nothing."""
    if rule.run:
        return _of_the_run(rule, story)
    if settled:
        return None
    return _of_checks(rule, story) if rule.check else _of_metrics(rule, story)


def _of_the_run(rule: Rule, story: Story) -> list[Hit]:
    if story.record["status"] not in rule.run:
        return []
    held = [p.key for p in story.partitions if p.status == "held"]
    why = [f"{p.key}: {_why(p)}" for p in story.partitions if p.status == "held"][:3]
    said = f"{len(held)} partition(s) held: {'; '.join(why)}" if held else story.record["message"] or "no reason is on record"
    return [_hit({}, f"the run ended as {story.record['status']}: {said}", held)]


def _why(partition: Told) -> str:
    """The checks that hold it."""
    failed = [c for c in partition.checks if c["status"] == "fail" and c["severity"] == "error"]
    return ", ".join(f"{c['name']} {c['actual']}, expected {c['expected']}" for c in failed)


def _of_checks(rule: Rule, story: Story) -> list[Hit] | None:
    """One for each check and subject, however many partitions it is found in; a partition is no subject: each day is another."""
    mine = [(p, c) for p in story.partitions for c in p.checks if _any(rule.check, c["name"]) and c["status"] != "skip"]
    if not mine:
        return None
    keys = {p.key for p in story.partitions}
    bad: dict[tuple[str, str], list[tuple[Told, Mapping[str, Any]]]] = {}
    for partition, check in mine:
        if _is(rule, check):
            subject = "" if check["subject"] in keys else check["subject"]
            bad.setdefault((check["name"], subject), []).append((partition, check))
    return [_together(name, subject, seen) for (name, subject), seen in sorted(bad.items())]


def _is(rule: Rule, check: Mapping[str, Any]) -> bool:
    fits = check["status"] in rule.status and _any(rule.subject, check["subject"])
    return fits and rule.check_severity in (None, check["severity"])


def _together(name: str, subject: str, seen: Sequence[tuple[Told, Mapping[str, Any]]]) -> Hit:
    """In the words of the worst, and of those the last."""
    worst = min(reversed(seen), key=lambda one: _GRAVITY.index(one[1]["status"]))
    of = f" of {subject}" if subject else ""
    said = f"{name}{of} in {len(seen)} partition(s), {worst[0].key}: {worst[1]['actual']}; expected {worst[1]['expected']}"
    return _hit({"check": name, "subject": subject}, said, list(dict.fromkeys(p.key for p, _ in seen)))


def _of_metrics(rule: Rule, story: Story) -> list[Hit] | None:
    from scoring.respond.metrics import families

    if story.record["status"] not in _ENDED or rule.metric not in (known := families(story)):
        return None
    _, names, samples = known[rule.metric]
    labelled = [(dict(zip(names, values, strict=True)), value) for values, value in samples.items()]
    mine = [(labels, value) for labels, value in labelled if all(_any((g,), labels.get(n, "")) for n, g in rule.where.items())]
    over: Callable[[float, float], bool] = operator.gt if rule.above is not None else operator.lt
    limit, word = (rule.above, "above") if rule.above is not None else (rule.below, "below")
    assert limit is not None
    hits = [
        _hit(_renamed(labels), _measured(rule.metric, labels, value, word, limit)) for labels, value in mine if over(value, limit)
    ]
    return hits if mine else None


def _renamed(labels: Mapping[str, str]) -> dict[str, str]:
    """A check keeps its name, a column is a subject, as in alerts on checks."""
    return {"subject" if name == "column" else name: value for name, value in labels.items()}


def _measured(metric: str, labels: Mapping[str, str], value: float, word: str, limit: float) -> str:
    said = f"{{{', '.join(f'{name}={one}' for name, one in labels.items())}}}" if labels else ""
    return f"{metric}{said} is {value:.6g}, {word} {limit:g}"


def _any(globs: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _hit(labels: Mapping[str, str], said: str, keys: Sequence[str] = ()) -> Hit:
    shown = {name: clean(value) for name, value in labels.items() if value}
    return Hit(shown, clean(said, _LONGEST), tuple(clean(k) for k in keys[:_MOST_NAMED]), len(keys))

"""From facts to one HTML file that needs nothing else: no script, no font, no picture from elsewhere.

Names, keys and reasons are foreign data: the templates escape all that they print, and what no reader should meet (control
characters, marks that turn the direction of text) is replaced before.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scoring.respond.manual import clean
from scoring.respond.report import account, comparison, effort, findings, words
from scoring.respond.report.facts import Facts
from scoring.respond.report.steps import steps

_TEMPLATES = Path(__file__).with_name("templates")
_ASKED = (
    "source.kind",
    "source.path",
    "model.bundle",
    "model.precision",
    "engine.kind",
    "engine.lanes",
    "hardware.device",
    "watch.baseline",
)
_LONGEST = 20_000  # paths of pictures; names are cut before
_LINES = 10  # partitions that are shown at once; the others unfold


def render(facts: Facts) -> str:
    """The report of a run."""
    record = facts.record
    drifted, alike = findings.cards(facts.columns), findings.calm(facts.columns)
    verdicts, lines = account.verdicts(record), account.lines(record)
    return (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            record=record,
            sentence=account.sentence(facts),
            further=account.further(facts),
            grave=account.grave(record.status),
            statuses=account.statuses(record),
            figures=figures(facts),
            steps=steps(facts),
            bar=account.bar(record),
            lost=words.share(record.rows["in"] - record.rows["scored"], record.rows["in"]),
            lines=lines[:_LINES],
            more_lines=lines[_LINES:],
            verdicts=[v for v in verdicts if v.status in ("fail", "warn") and (v.holds or not v.drawn)],
            drawn=sum(v.status in ("fail", "warn") and v.drawn for v in verdicts),
            calm_verdicts=[v for v in verdicts if v.status not in ("fail", "warn")],
            cards=drifted[: findings.MOST_CARDS],
            cards_left=[c.name for c in drifted[findings.MOST_CARDS :]],
            calm=alike[: findings.MOST_CALM],
            scores=findings.spreads(facts.scores),
            stages=effort.stages(record),
            waiting=effort.waiting(record),
            ways=effort.ways(record),
            cost=effort.cost(facts),
            losses=findings.losses(facts),
            lost_files=findings.lost_files(record),
            environment=environment(facts),
        )
    )


def compare(first: Facts, second: Facts) -> str:
    """Two runs side by side; what differs stands out."""
    return (
        _environment()
        .get_template("compare.html")
        .render(first=first, second=second, groups=comparison.groups(first, second), sentence=comparison.sentence(first, second))
    )


def figures(facts: Facts) -> list[effort.Item]:
    """The numbers that a reader takes away."""
    record = facts.record
    rows = record.rows
    found = [effort.Item("Rows in", words.count(rows["in"]))]
    found.append(effort.Item("Scored", words.count(rows["scored"]), words.share(rows["scored"], rows["in"])))
    found.append(effort.Item("In quarantine", words.count(rows["quarantined"]), words.share(rows["quarantined"], rows["in"])))
    if rows["suppressed"]:
        found.append(effort.Item("Suppressed", words.count(rows["suppressed"]), words.share(rows["suppressed"], rows["in"])))
    found.append(effort.Item("Partitions", words.count(len(record.partitions)), account.statuses(record)))
    return [*found, *(i for i in effort.cost(facts)[:2]), *(i for i in effort.cost(facts) if i.name == "Cost per million rows")]


def environment(facts: Facts) -> list[effort.Item]:
    """What the scores were made with and of."""
    record = facts.record
    found = [("run", record.run_id), ("started", record.started), ("finished", record.finished)]
    found += [(f"model {key}", value) for key, value in sorted(record.model.items())]
    found += [("device", f"{device}: {words.count(rows)} rows") for device, rows in sorted(record.devices.items())]
    found += sorted(record.environment.items()) + [(key, facts.settings[key]) for key in _ASKED if key in facts.settings]
    found += [("fingerprint", record.fingerprint)]
    found += [(f"ledger {key}", str(value)) for key, value in sorted(record.ledger.items())]
    return [effort.Item(words.name(key), words.name(str(value), 300)) for key, value in found if value not in ("", None)]


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(count=words.count, moment=words.moment, status=words.status, plural=words.plural)
    return made


def _printable(value: Any) -> Any:
    """What a template prints: markup that a template made as it is, all other text without what cannot be seen."""
    return clean(value, _LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value

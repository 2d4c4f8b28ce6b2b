"""Two runs side by side: what is equal is told once, what differs stands out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scoring.respond.report import account, effort, findings
from scoring.respond.report.facts import Facts, Found
from scoring.respond.report.words import NONE, count, duration, name, share, status

_MOST = 400


@dataclass(frozen=True)
class Pair:
    """A fact of both runs as it is shown, NONE where a run does not have it. `change` is that of numbers, or ""."""

    name: str
    first: str
    second: str
    change: str = ""

    @property
    def differs(self) -> bool:
        return self.first != self.second


@dataclass(frozen=True)
class Group:
    """`lead` are those that differ, `same` the others; `number`: values are aligned as numbers."""

    title: str
    pairs: list[Pair]
    number: bool = False

    @property
    def lead(self) -> list[Pair]:
        return [p for p in self.pairs if p.differs][:_MOST]

    @property
    def same(self) -> list[Pair]:
        return [p for p in self.pairs if not p.differs][:_MOST]


def sentence(first: Facts, second: Facts) -> str:
    """Which kinds of facts differ."""
    differ = [g.title.lower() for g in groups(first, second) if g.lead]
    alike = "Nothing that was recorded differs." if not differ else f"What differs: {', '.join(differ)}."
    return f"Run {name(second.record.run_id)} beside run {name(first.record.run_id)}. {alike}"


def groups(first: Facts, second: Facts) -> list[Group]:
    return [
        Group("Account of rows", _account(first, second), number=True),
        Group("Partitions", _partitions(first, second)),
        Group("Rates and cost", _rates(first, second), number=True),
        Group("Checks", _checks(first, second)),
        Group("Drift", _drift(first, second)),
        Group("Quarantine by rule", _counts(first.record.reasons, second.record.reasons), number=True),
        Group("Model, environment and settings", _environment(first, second)),
    ]


def _account(first: Facts, second: Facts) -> list[Pair]:
    rows, others = first.record.rows, second.record.rows
    found = [Pair("ended", status(first.record.status), status(second.record.status))]
    return found + [_pair(o, rows.get(o, 0), others.get(o, 0)) for o in ("in", *account.OUTCOMES)]


def _partitions(first: Facts, second: Facts) -> list[Pair]:
    def said(facts: Facts) -> dict[str, str]:
        return {line.key: f"{line.status}, {count(line.rows['in'])} in, {line.lost} lost" for line in account.lines(facts.record)}

    return _texts(said(first), said(second))


def _rates(first: Facts, second: Facts) -> list[Pair]:
    rates = [Pair("rows per second", *_both(first, second, "rows_per_second"), _change(*_raw(first, second, "rows_per_second")))]
    walls = _raw(first, second, "wall_seconds")
    rates.append(Pair("time in all", duration(walls[0]), duration(walls[1]), _change(*walls)))
    stages, others = first.record.stages, second.record.stages
    for stage in sorted({*stages, *others}):
        one, two = stages.get(stage, 0.0), others.get(stage, 0.0)
        rates.append(Pair(f"time in {name(stage)}", duration(one), duration(two), _change(one, two)))
    costs = [{i.name.lower(): i.value for i in effort.cost(f)[2:]} for f in (first, second)]
    routes = _counts(first.record.routes, second.record.routes)
    return rates + _texts(*costs) + [Pair(f"rows by route {p.name}", p.first, p.second, p.change) for p in routes]


def _raw(first: Facts, second: Facts, rate: str) -> tuple[float, float]:
    return first.record.rates.get(rate, 0.0), second.record.rates.get(rate, 0.0)


def _both(first: Facts, second: Facts, rate: str) -> tuple[str, str]:
    one, two = _raw(first, second, rate)
    return count(one), count(two)


def _checks(first: Facts, second: Facts) -> list[Pair]:
    def said(facts: Facts) -> dict[str, str]:
        found = account.verdicts(facts.record)
        return {f"{v.check} {v.subject}".strip(): f"{v.status} in {v.met}" for v in found}

    return _texts(said(first), said(second))


def _drift(first: Facts, second: Facts) -> list[Pair]:
    def said(facts: Facts) -> dict[str, str]:
        return {name(c.name): _told(c.worst[0]) for c in findings.ordered(facts.columns) if c.worst}

    return _texts(said(first), said(second))


def _told(found: Found) -> str:
    """The verdict and how far it went, without digits that two equal days would differ in."""
    one = found.finding
    return f"{one.cause or one.status}, {share(one.value)} moved" if one.status in ("warn", "fail") else one.status


def _environment(first: Facts, second: Facts) -> list[Pair]:
    def said(facts: Facts) -> dict[str, str]:
        record = facts.record
        model = {f"model {key}": value for key, value in record.model.items()}
        return {**model, **record.environment, **facts.settings, "fingerprint": record.fingerprint}

    return _texts(said(first), said(second))


def _texts(first: Mapping[str, str], second: Mapping[str, str]) -> list[Pair]:
    names: Iterable[str] = dict.fromkeys([*first, *second])
    return [Pair(name(n), *(name(str(facts.get(n, NONE)), 300) or NONE for facts in (first, second))) for n in names]


def _counts(first: Mapping[str, int], second: Mapping[str, int]) -> list[Pair]:
    names = sorted({*first, *second}, key=lambda n: (-max(first.get(n, 0), second.get(n, 0)), n))
    return [_pair(name(n), first.get(n, 0), second.get(n, 0)) for n in names]


def _pair(of: str, one: float, two: float) -> Pair:
    return Pair(of, count(one), count(two), _change(one, two))


def _change(one: float, two: float) -> str:
    if one == two or not one:
        return ""
    return f"{(two - one) / one:+.1%}"

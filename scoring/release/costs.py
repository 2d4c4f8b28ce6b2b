"""What each rule costs, and whom: values that are more, or less, frequent among the rows a rule lost than among all rows.

Pure sums and one test per value: the share among the lost against the share among all, by the normal approximation of the binomial
(a z of 4 comes by chance once in 16,000 values). A rule that drops one group of people stands out here; whether it should drop
them is for a person to say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from scoring.redact import veiled
from scoring.types import Cost

ALL = ""
_LEAST_Z, _LEAST_DIFFERENCE = 4.0, 0.05
_LEAST_ROWS = 10  # that share a value, for it to be told: fewer may be one person
_PER_RULE, _MOST = 3, 24
Mixes = dict[str, dict[str, Counter[str]]]


class Costs:
    """`add` what receipts found; sums, so that order does not matter. A column that one slice found too varied is dropped."""

    def __init__(self) -> None:
        self._sums: Mixes = {}
        self._columns: set[str] | None = None
        self._names: dict[str, str] = {}  # of values, by stand-in; a slice names only what enough of its rows share

    def add(self, mix: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
        if not mix:
            return
        self._columns = {*mix.get(ALL, {})} if self._columns is None else self._columns & {*mix.get(ALL, {})}
        for reason, by_column in mix.items():
            for column, counts in by_column.items():
                by_stand_in = {value if value.startswith("#") else veiled(value): value for value in counts}
                self._names |= {short: value for short, value in by_stand_in.items() if value != short}
                here = self._sums.setdefault(reason, {}).setdefault(column, Counter())
                here.update({short: counts[value] for short, value in by_stand_in.items()})

    def strongest(self) -> tuple[Cost, ...]:
        """The strongest contrasts, at most three a rule."""
        found = [cost for reason in sorted(self._sums) if reason != ALL for cost in self._of(reason)]
        return tuple(sorted(found, key=lambda c: (-abs(c.share_lost - c.share_all), c.rule, c.column, c.value))[:_MOST])

    def _of(self, reason: str) -> list[Cost]:
        costs = [cost for column in sorted(self._columns or ()) for cost in self._contrasts(reason, column)]
        return sorted(costs, key=lambda c: (-abs(c.share_lost - c.share_all), c.column, c.value))[:_PER_RULE]

    def _contrasts(self, reason: str, column: str) -> Iterable[Cost]:
        lost, whole = self._sums[reason].get(column, Counter()), self._sums[ALL][column]
        rows, total = sum(lost.values()), sum(whole.values())
        for value in {*lost, *whole} if rows and total else ():
            among_lost, among_all = lost[value] / rows, whole[value] / total
            spread = math.sqrt(max(among_all * (1 - among_all), 1 / total) / rows)
            difference = abs(among_lost - among_all)
            enough = max(lost[value], whole[value]) >= _LEAST_ROWS and value in self._names
            if enough and difference >= _LEAST_DIFFERENCE and difference / spread >= _LEAST_Z:
                yield Cost(reason, rows, column, self._names[value], round(among_lost, 4), round(among_all, 4))

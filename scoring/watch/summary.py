"""Summary: what rows looked like, as counts. Empty, `+`, JSON and Arrow; nothing here depends on how rows were split.

All values are integers, but for minimum and maximum, which are exact under any split as well. Counts are those of a Plan (which
edges, which categories); summaries of two plans cannot be added, and say so instead of adding what does not belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scoring.types import canonical

if TYPE_CHECKING:
    import pyarrow as pa

WHOLE = ":all"  # the slice of all rows
MIXED = "mixed"  # the plan of a sum over several plans: rows are known, nothing else


@dataclass(frozen=True)
class Summary:
    """A commutative monoid under +; `Summary()` is its zero.

    `plain` holds only str, int, float, list and dict: {"plan": digest, "rows": n, "columns": {name: counts}, "scores": {name:
    counts}, "segments": {value: {"rows", "columns", "scores"}}}. Counts are described in `scoring/watch/tally.py`.
    """

    plain: Mapping[str, Any] = field(default_factory=dict)

    def __add__(self, other: Summary) -> Summary:
        if not self.plain or not other.plain:
            return self if self.plain else other
        if self.plain["plan"] == other.plain["plan"] != MIXED:
            return Summary(_merged(self.plain, other.plain))
        return Summary({"plan": MIXED, "rows": self.rows + other.rows})

    @property
    def plan(self) -> str:
        return str(self.plain.get("plan", ""))

    @property
    def rows(self) -> int:
        return int(self.plain.get("rows", 0))

    def of(self, part: str) -> Mapping[str, Any]:
        """Counts by name: part "columns", "scores" or "segments"."""
        found: Mapping[str, Any] = self.plain.get(part, {})
        return found

    def segment(self, name: str) -> Summary:
        """The rows of one segment; `Summary()` if there were none."""
        inner = self.of("segments").get(name)
        return Summary({"plan": self.plan, **inner}) if inner else Summary()

    def to_json(self) -> bytes:
        """Canonical: equal summaries give equal bytes."""
        return canonical(self.plain)

    def to_arrow(self) -> pa.Table:
        """A long table: part, column, statistic ("null", "le.3", "in.0", "cell.254", …), value float64."""
        import pyarrow as pa  # whoever tells of a job while it runs should take next to none of its cores

        columns: dict[str, pa.DataType] = dict.fromkeys(("part", "column", "statistic"), pa.string()) | {"value": pa.float64()}
        rows = [
            {"part": part, "column": name, "statistic": statistic, "value": float(value)}
            for part in ("columns", "scores")
            for name, counts in sorted(self.of(part).items())
            for statistic, value in _leaves(counts)
        ]
        return pa.Table.from_pylist(rows, schema=pa.schema(columns))


def _merged(one: Any, other: Any, key: str = "") -> Any:
    """Integers add, lists add place by place, mappings add key by key; the least of `min`, the most of `max`; texts agree."""
    if isinstance(one, Mapping):
        return {k: _merged(one[k], other[k], k) if k in one and k in other else one.get(k, other.get(k)) for k in {**one, **other}}
    if isinstance(one, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    if key in ("min", "max"):
        return min(one, other) if key == "min" else max(one, other)
    return one if isinstance(one, str) else one + other


def _leaves(counts: Mapping[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in sorted(counts.items()):
        if isinstance(value, Mapping):
            found += [(f"{key}.{inner}", n) for inner, n in sorted(value.items())]
        elif isinstance(value, list):
            found += [(f"{key}.{place}", n) for place, n in enumerate(value)]
        else:
            found.append((key, value))
    return found

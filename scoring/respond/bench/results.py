"""What was measured, as plain data: one result for each configuration, all of them in one record, which is also the JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Literal

Status = Literal["measured", "skipped", "failed"]


@dataclass(frozen=True)
class Spread:
    """A number that was measured several times. `low` and `high` are the quartiles; `values` are in the order of the rounds."""

    median: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Quartiles as of a whole population (Hyndman and Fan 1996, type 7), so that they lie within what was measured."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else (values[0],) * 3
        return cls(median(values), low, high, tuple(values))

    def each(self, function: Callable[[float], float]) -> Spread:
        """The spread of a function of the number; quartiles stay ordered whatever the function does to the order."""
        return Spread.of([function(value) for value in self.values])


@dataclass(frozen=True)
class Measurement:
    """What a configuration did, medians over its rounds.

    `devices` is what its lanes hold together (GPUs, or cores where there are none), `stages` seconds of all lanes per million rows,
    `busy` the share of the time in which the model was at work, `waited_for` the stage that was longer than the model, "" if none.
    `host_gb` is the peak of the lanes' resident memory together, `gpu_gb` what they took of the GPU. `deviation` is the largest
    difference from the golden scores, as `tolerance` counts it. `sample_rows` were scored in each round, which took `seconds`.
    """

    lanes: int
    kind: Literal["gpu", "cpu"]
    device: str
    devices: float
    sample_rows: int
    seconds: Spread
    rows_per_second: Spread
    tokens_per_second: Spread | None
    start_seconds: float
    stages: dict[str, float]
    busy: float
    waited_for: str
    host_gb: float | None
    gpu_gb: float | None
    deviation: float
    tolerance: float
    routes: dict[str, int]
    joules_per_row: Spread | None = None
    price_per_hour: float | None = None  # of all lanes
    cost_per_million: Spread | None = None
    hours: Spread | None = None  # for the whole dataset; None where its rows are not known
    cost: Spread | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One configuration: `name` is what sets it apart from the others, `overrides` all that was said of it."""

    name: str
    overrides: tuple[str, ...]
    status: Status
    reason: str = ""
    measured: Measurement | None = None


@dataclass(frozen=True)
class Choice:
    """`name` of the chosen configuration, "" if none can be; `alike` are those that are no different from it."""

    name: str
    why: str
    alike: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """`rows` by the footers; `estimated` from the size of the files, where those promise none; None where nobody knows."""

    path: str
    bytes: int
    rows: int | None
    estimated: bool = False


@dataclass(frozen=True)
class BenchRecord:
    """All that a bench found. `pareto` names the configurations that no other beats in speed, cost and accuracy together."""

    date: str
    machine: dict[str, str]
    dataset: Dataset
    model: dict[str, str]
    repeats: int
    results: tuple[Result, ...]
    choice: Choice
    pareto: tuple[str, ...]
    notes: tuple[str, ...] = ()
    written: dict[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[Result, ...]:
        return tuple(r for r in self.results if r.measured is not None)


def told_apart(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Names for configurations: what not all of them say. One alone, or the n-th of the same, is named by what there is."""
    common = set(overrides[0]).intersection(*overrides[1:]) if len(overrides) > 1 else set()
    names = [" ".join(o for o in said if o not in common) or "as said" for said in overrides]
    if len(overrides) == 1:
        names = ["as said"]
    return [f"{name} ({names[: n + 1].count(name)})" if names.count(name) > 1 else name for n, name in enumerate(names)]

"""From the rounds of a configuration to its result: medians, shares, money, and what a reader has to know beside the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from scoring.engine.estimate import devices, price_per_hour
from scoring.jobs.benching.sample import Sample
from scoring.jobs.benching.trial import Trial
from scoring.jobs.preparation import Prepared
from scoring.respond.bench.results import Dataset, Measurement, Spread
from scoring.settings import Job

_DEVICE = "score"  # the stage in which the model works
_STABLE_S = 1.0  # a shorter round is told by start and end more than by its rate
_NOISY = 0.1  # quartiles that are so far apart, as a share of the median
_PACKED = (".gz", ".zst")


def dataset_of(path: str, sample: Sample, trials: Sequence[Trial]) -> Dataset:
    """Rows by the footers, or estimated by what the sampled files held for their size."""
    if sample.rows is not None:
        return Dataset(path, sample.bytes, sample.rows)
    packed = any(f.path.endswith(_PACKED) for work in sample.slices for f in work.fragments)
    size = sum(t.bytes for t in trials)
    if packed or not size:
        return Dataset(path, sample.bytes, None)
    return Dataset(path, sample.bytes, round(sample.bytes * sum(t.rows for t in trials) / size), estimated=True)


def measurement(job: Job, prepared: Prepared, tolerance: float, trials: Sequence[Trial], dataset: Dataset) -> Measurement:
    """What the rounds of one configuration come to. `dataset` is what hours and cost are for."""
    lanes, held = prepared.lanes, devices(prepared.lanes)
    rate = Spread.of([t.rows / t.seconds for t in trials])
    stages = {name: median(1e6 * t.stages[name] / t.rows for t in trials) for name in trials[0].stages}
    longest = max((name for name in stages if name != _DEVICE), key=lambda name: stages[name], default="")
    start = round(median(t.start_seconds for t in trials), 3)
    price = price_per_hour(job.hardware, lanes)
    hours = rate.each(lambda r: ((dataset.rows or 0) / r + start) / 3600) if dataset.rows is not None else None
    return Measurement(
        lanes=lanes.count,
        kind=lanes.kind,
        device=trials[0].device,
        devices=held,
        sample_rows=trials[0].rows,
        seconds=Spread.of([t.seconds for t in trials]),
        rows_per_second=rate,
        tokens_per_second=Spread.of([t.tokens / t.seconds for t in trials]) if trials[0].tokens else None,
        start_seconds=start,
        stages={name: round(seconds, 6) for name, seconds in stages.items()},
        busy=round(median(_busy(job, prepared, t) for t in trials), 4),
        waited_for=longest if stages.get(longest, 0.0) > stages.get(_DEVICE, 0.0) else "",
        host_gb=_most([t.host_gb for t in trials]),
        gpu_gb=_most([t.gpu_gb for t in trials]),
        deviation=trials[0].deviation or 0.0,
        tolerance=tolerance,
        routes={route: sum(t.routes.get(route, 0) for t in trials) for route in sorted({r for t in trials for r in t.routes})},
        price_per_hour=price,
        cost_per_million=None if price is None else rate.each(lambda r: price * 1e6 / r / 3600),
        hours=hours,
        cost=None if price is None or hours is None else hours.each(lambda h: price * h),
        notes=tuple(_notes(prepared, trials, rate)),
    )


def _busy(job: Job, prepared: Prepared, trial: Trial) -> float:
    """Time in the model as a share of what all places for it had: a GPU computes one window at a time, a core one slice."""
    lanes = prepared.lanes
    places = lanes.count * (1 if lanes.kind == "gpu" else min(lanes.cpus, job.engine.in_flight))
    return min(1.0, trial.stages.get(_DEVICE, 0.0) / (places * trial.seconds))


def _notes(prepared: Prepared, trials: Sequence[Trial], rate: Spread) -> list[str]:
    seconds = median(t.seconds for t in trials)
    found = []
    if seconds < _STABLE_S:
        more = "the dataset has no more" if trials[0].exhausted else "say seconds=… or rows=…"
        found.append(f"too few rows for a stable rate: a round took {seconds:.2f} s; {more}")
    if rate.high - rate.low > _NOISY * rate.median:
        found.append(f"rounds differ: half of them lie within {rate.low:,.0f} to {rate.high:,.0f} rows/s")
    scored = sum(sum(t.routes.values()) for t in trials)
    aside = sum(n for t in trials for route, n in t.routes.items() if route != prepared.lanes.kind)
    if aside:
        found.append(f"{aside / scored:.0%} of the rows took a fallback route")
    return found + sorted({note for t in trials for note in t.notes})


def _most(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(max(known), 3) if known else None

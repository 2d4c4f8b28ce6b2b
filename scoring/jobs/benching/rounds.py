"""The configurations in turns: looked at once, then measured round by round, each time in a process of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from scoring.engine import capacity
from scoring.errors import ConfigError
from scoring.jobs.benching.sample import Sample, sample_of
from scoring.jobs.benching.trial import Task, Trial, attempt
from scoring.jobs.preparation import Prepared, identify
from scoring.jobs.watching import baseline_of
from scoring.jobs.workspace import if_there
from scoring.models import bundle
from scoring.models.precision import tolerance
from scoring.parts import part
from scoring.respond.bench.results import told_apart
from scoring.settings import Job
from scoring.sources.discover import Found, discover
from scoring.types import canonical

Configuration = tuple[Sequence[str], Job]  # what was said, and what it means
Say = Callable[[str], None]
Stop = Callable[[], str | None]


@dataclass(frozen=True)
class Length:
    """`rows` None: as many as last `seconds`."""

    rows: int | None
    seconds: float
    repeats: int


@dataclass
class Entry:
    """A configuration on its way. It is out of the game once `lost` says why."""

    name: str
    overrides: tuple[str, ...]
    job: Job
    tolerance: float = 0.0
    model: str = ""
    prepared: Prepared | None = None
    sample: Sample | None = None
    trials: list[Trial] = field(default_factory=list)
    skipped: str = ""
    lost: str = ""


def entries_of(configurations: Sequence[Configuration]) -> list[Entry]:
    names = told_apart([said for said, _ in configurations])
    return [Entry(name, tuple(said), job) for name, (said, job) in zip(names, configurations, strict=True)]


def prepare(entries: Sequence[Entry], folder: Path) -> None:
    """Look at bundle, machine and footers, once for each that differs."""
    machine = capacity.measure()
    samples: dict[bytes, Sample] = {}
    for n, entry in enumerate(entries):
        entry.skipped = absent(entry.job, machine)
        try:
            if not entry.skipped:
                _identify(entry, folder / f"workspace-{n}")
        except ConfigError as error:
            entry.lost = str(error)
    for entry in entries:
        if entry.prepared is not None:
            source = entry.job.source
            key = canonical(asdict(source))
            if key not in samples:
                found = discover(source, part("sources", source.kind).SUFFIXES)
                samples[key] = sample_of(found.partitions, source, folder)
            entry.sample = samples[key]


def absent(job: Job, machine: capacity.Machine) -> str:
    """The hardware that a configuration asks for and this machine lacks; "" if it is there, or is a cluster's to find."""
    wanted = job.hardware
    if wanted.device != "cuda" or (job.engine.kind == "ray" and job.engine.address != "local"):
        return ""
    if not machine.gpus:
        return "no CUDA device"
    known = wanted.measured.device if wanted.measured else ""
    return f"no {known} (this machine has {', '.join(sorted(set(machine.gpus)))})" if known and known not in machine.gpus else ""


def _identify(entry: Entry, workspace: Path) -> None:
    """Raises: ConfigError: it cannot work here."""
    job = entry.job
    identity, lanes, gone, contract = identify(job, if_there(job.workspace))
    entry.prepared = Prepared(identity, lanes, Found((), ()), (), (), gone, contract, baseline_of(job))
    entry.job = replace(job, workspace=str(workspace), run_id=None, contract=contract)
    entry.tolerance = tolerance(bundle.read(job.model.bundle).tolerance, bool(lanes.gpus), job.model.precision)
    entry.model = identity.model["digest"]


def rounds(entries: Sequence[Entry], wanted: Length, folder: Path, say: Say, should_stop: Stop) -> str:
    """All rounds; each begins with another configuration, so that none is always the first. Why they were ended, or ""."""
    for n in range(wanted.repeats):
        alive = [entry for entry in entries if entry.prepared is not None and not entry.lost]
        first = n % max(1, len(alive))
        for entry in (*alive[first:], *alive[:first]):
            _round(entry, n, wanted, folder, say, should_stop)
            if why := should_stop():
                return f"{why} {n} of {wanted.repeats} rounds were complete; what follows rests on fewer."
    return ""


def _round(entry: Entry, n: int, wanted: Length, folder: Path, say: Say, should_stop: Stop) -> None:
    assert entry.prepared is not None
    assert entry.sample is not None
    rows = entry.trials[0].asked if entry.trials else wanted.rows
    task = Task(entry.job, entry.prepared, entry.sample, n, rows, wanted.seconds, golden=not entry.trials)
    found = attempt(task, folder, should_stop)
    shutil.rmtree(Path(entry.job.workspace) / "runs" / f"round-{n}", ignore_errors=True)
    if isinstance(found, Trial):
        entry.trials.append(found)
        say(f"round {n + 1} of {wanted.repeats}: {entry.name}: {found.rows / found.seconds:,.0f} rows/s")
    elif not should_stop():
        entry.lost = found.reason
        say(f"round {n + 1} of {wanted.repeats}: {entry.name}: failed: {found.reason}")

"""Configurations measured beside each other on a sample of the dataset, in turns, and which of them to choose.

Nothing is published: each configuration stages into a workspace of its own, which is removed.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from scoring.engine import capacity
from scoring.engine.environment import environment
from scoring.errors import ConfigError, UsageError
from scoring.jobs.benching import profile
from scoring.jobs.benching.findings import dataset_of, measurement
from scoring.jobs.benching.rounds import Configuration, Entry, Length, Say, Stop, entries_of, prepare, rounds
from scoring.respond.bench.choice import choose, pareto
from scoring.respond.bench.picture import picture
from scoring.respond.bench.results import BenchRecord, Dataset, Result

SECONDS, REPEATS = 5.0, 5
_FEW = 5  # rounds below which a spread says little
JSON, PICTURE = "bench.json", "bench.svg"


@dataclass(frozen=True)
class Asked:
    """The words of the verb; `profile` is the file to save the choice in."""

    length: Length
    profile: Path | None = None
    out: Path | None = None


def asked(own: Mapping[str, str], config_dir: str | None, workspace: str) -> Asked:
    """Raises: UsageError: a number or a name that cannot be; rows and seconds at once. ConfigError: no place for the profile."""
    if "rows" in own and "seconds" in own:
        raise UsageError("rows=… and seconds=… both say how long a round is: say one of them.")
    rows = int(_number(own, "rows", int)) if "rows" in own else None
    seconds = _number(own, "seconds", float) if "seconds" in own else SECONDS
    repeats = int(_number(own, "repeats", int)) if "repeats" in own else REPEATS
    saved = profile.place(own["save"], config_dir, workspace) if "save" in own else None
    return Asked(Length(rows, seconds, repeats), saved, Path(own["out"]) if own.get("out") else None)


def bench(configurations: Sequence[Configuration], wanted: Asked, say: Say, should_stop: Stop = lambda: None) -> BenchRecord:
    """Measure all configurations, round by round, each in a process of its own. What fails is a result, too.

    Raises:
        ConfigError: the configurations are of different data. SourceError: nothing can be read.
    """
    jobs = [job for _, job in configurations]
    if len({(job.source.kind, job.source.path) for job in jobs}) > 1:
        raise ConfigError(
            "source: scoring bench compares configurations on one dataset; source.kind and source.path must not differ."
        )
    entries = entries_of(configurations)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=_near(jobs[0].workspace), ignore_cleanup_errors=True) as place:
        folder = Path(place)
        prepare(entries, folder)
        stopped = rounds(entries, wanted.length, folder, say, should_stop)
    return _finished(entries, wanted, stopped)


def _finished(entries: Sequence[Entry], wanted: Asked, stopped: str) -> BenchRecord:
    results = tuple(_result(entry) for entry in entries)
    timed = [entry for entry in entries if entry.trials]
    chosen = choose(results)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    record = BenchRecord(
        date=date,
        machine=_machine(),
        dataset=_dataset(timed[0]) if timed else Dataset(entries[0].job.source.path, 0, None),
        model=timed[0].prepared.identity.model if timed and timed[0].prepared else {},
        repeats=wanted.length.repeats,
        results=results,
        choice=chosen,
        pareto=pareto(results),
        notes=tuple(_notes(wanted, stopped)),
    )
    return _written(entries, record, wanted)


def _result(entry: Entry) -> Result:
    said = (entry.name, entry.overrides)
    if entry.skipped:
        return Result(*said, "skipped", entry.skipped)
    if entry.lost or not entry.trials or entry.prepared is None:
        return Result(*said, "failed", entry.lost or "stopped before it was measured")
    found = measurement(entry.job, entry.prepared, entry.tolerance, entry.trials, _dataset(entry))
    return Result(*said, "measured", "", found)


def _dataset(entry: Entry) -> Dataset:
    assert entry.sample is not None
    return dataset_of(entry.job.source.path, entry.sample, entry.trials)


def _notes(wanted: Asked, stopped: str) -> list[str]:
    repeats = wanted.length.repeats
    few = f"repeats={repeats}: a spread of fewer than {_FEW} rounds says little"
    return ([stopped] if stopped else []) + ([few] if repeats < _FEW else [])


def _written(entries: Sequence[Entry], record: BenchRecord, wanted: Asked) -> BenchRecord:
    """Write what was asked for, and say where."""
    found = {}
    entry = next((e for e in entries if e.name == record.choice.name), None)
    result = next((r for r in record.results if r.name == record.choice.name), None)
    if wanted.profile is not None and entry is not None and result is not None and result.measured is not None:
        compared = [e.job for e in entries if not e.skipped]
        profile.write(wanted.profile, entry.job, compared, result.measured, entry.model, record.date, record.machine["processor"])
        found["profile"] = str(wanted.profile)
    if wanted.out is None:
        return replace(record, written=found)
    found |= {"json": str(wanted.out / JSON), "picture": str(wanted.out / PICTURE)}
    record = replace(record, written=found)
    try:
        wanted.out.mkdir(parents=True, exist_ok=True)
        (wanted.out / PICTURE).write_text(picture(record), "utf-8")
        (wanted.out / JSON).write_text(json.dumps(asdict(record), indent=2) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError(f"out: {wanted.out} cannot be written: {error.strerror or error}.") from None
    return record


def _machine() -> dict[str, str]:
    found = capacity.measure()
    facts = {
        "processor": _processor(),
        "cores": str(found.cores),
        "memory_gb": f"{found.memory_bytes / 1e9:.1f}",
        "gpus": ", ".join(found.gpus) or "none",
        "load": f"{os.getloadavg()[0]:.2f}",
        "kernels": os.environ.get("SCORING_KERNELS", "auto"),
    }
    return facts | environment()


def _processor() -> str:
    """Its name as the kernel has it, or else its architecture."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _near(workspace: str) -> Path | None:
    """Where the workspace lies or would lie, so that the same disk is written to; the temporary folder for a bucket."""
    local = workspace.removeprefix("file://")
    if "://" in local:
        return None
    wanted = Path(local).expanduser().absolute()
    return next(p for p in (wanted, *wanted.parents) if p.is_dir())


def _number(own: Mapping[str, str], name: str, kind: type[int] | type[float]) -> float:
    """Raises: UsageError: not a number above 0."""
    try:
        found = kind(own[name])
    except ValueError:
        found = 0
    if not 0 < found < float("inf"):
        raise UsageError(f"{name}={own[name]} is not a {'whole ' if kind is int else ''}number above 0.")
    return found

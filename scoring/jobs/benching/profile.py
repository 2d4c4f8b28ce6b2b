"""The chosen configuration as a hardware profile of the user's: `hardware=NAME` with the folder that it stands in.

It holds the whole hardware group, what the compared configurations set differently in the engine group, and the measured rates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from scoring.errors import ConfigError, UsageError
from scoring.respond.bench.results import Measurement
from scoring.respond.manual import choices
from scoring.settings import Job, Measured

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SAID = """# @package _global_
# What `scoring bench` chose on {date}: {rate:,.0f} rows/s of {lanes} lane(s) on {device}.
# Use it with hardware={name} --config-dir={folder}; it sets what the bench varied in the engine group, too.
"""


def place(name: str, config_dir: str | None, workspace: str) -> Path:
    """Where a profile will stand: in the folder of --config-dir, or else in conf/ of a local workspace.

    Raises:
        UsageError: it is no name, or that of a profile of ours. ConfigError: there is no local folder for it.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"--save {name!r}: a profile is named with up to 64 letters, digits, '_' and '-'.")
    if name in choices("hardware"):
        raise UsageError(f"--save {name}: hardware={name} is there already. Choose another name.")
    local = workspace.removeprefix("file://")
    if config_dir is None and "://" in local:
        raise ConfigError(f"--save {name}: {workspace} is no folder. Say where profiles stand: --config-dir=…")
    return Path(config_dir or Path(local) / "conf").absolute() / "hardware" / f"{name}.yaml"


def write(path: Path, chosen: Job, compared: Sequence[Job], found: Measurement, model: str, date: str, processor: str) -> None:
    """Write the profile; an older one of the name is replaced. `model` is a digest, `processor` the name of the CPU.

    Raises:
        ConfigError: it cannot be written.
    """
    rate, device = found.rows_per_second, processor if found.device == "cpu" else found.device
    measured = Measured(
        rows_per_second=round(rate.median, 1),
        low=round(rate.low, 1),
        high=round(rate.high, 1),
        lanes=found.lanes,
        start_seconds=found.start_seconds,
        engine=chosen.engine.kind,
        device=device,
        model=model,
        date=date,
    )
    said: dict[str, Any] = {"hardware": asdict(replace(chosen.hardware, measured=measured))}
    engine = _differing(asdict(chosen.engine), [asdict(job.engine) for job in compared])
    said |= {"engine": engine} if engine else {}
    folder = path.parent.parent
    head = _SAID.format(date=date, rate=rate.median, lanes=found.lanes, device=device, name=path.stem, folder=folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + yaml.safe_dump(said, sort_keys=False, width=132))
    except OSError as error:
        raise ConfigError(f"--save: {path} cannot be written: {error.strerror or error}.") from None


def _differing(mine: Mapping[str, Any], all_of_them: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that are not the same in all configurations, as the chosen one has them."""
    found: dict[str, Any] = {}
    for key, value in mine.items():
        others = [other[key] for other in all_of_them]
        if isinstance(value, dict):
            found |= {key: inner} if (inner := _differing(value, others)) else {}
        elif any(other != value for other in others):
            found[key] = list(value) if isinstance(value, tuple) else value
    return found

"""What can be set: frozen dataclasses, one per conf group, and `build`, which checks a plain dict against one of them.

Plain dataclasses, so that lanes and bare GPU machines need no pydantic; pydantic checks them once, on the driver, in `build`.
"""

from scoring.settings.checking import Within, build
from scoring.settings.groups import (
    WATCHED,
    Batch,
    Column,
    Contract,
    Csv,
    Engine,
    Fallback,
    Fault,
    Hardware,
    Job,
    Level,
    Limit,
    Measured,
    Model,
    Privacy,
    Ready,
    Release,
    Retry,
    RowRule,
    Sink,
    Source,
    Watch,
)
from scoring.settings.respond import Lineage, Metrics, Respond

__all__ = [
    "WATCHED",
    "Batch",
    "Column",
    "Contract",
    "Csv",
    "Engine",
    "Fallback",
    "Fault",
    "Hardware",
    "Job",
    "Level",
    "Limit",
    "Lineage",
    "Measured",
    "Metrics",
    "Model",
    "Privacy",
    "Ready",
    "Release",
    "Respond",
    "Retry",
    "RowRule",
    "Sink",
    "Source",
    "Watch",
    "Within",
    "build",
]

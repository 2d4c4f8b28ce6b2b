"""What can be set: frozen dataclasses, one per conf group, and `build`, which checks a plain dict against one of them.

Plain dataclasses, so that lanes and bare GPU machines need no pydantic; pydantic checks them once, on the driver, in `build`.
"""

from scoring.settings.alerts import Alertmanager, AlertRule, Alerts, Notify, Retraining
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
from scoring.settings.respond import Lineage, Logs, Metrics, OutboxLimits, Respond

__all__ = [
    "WATCHED",
    "AlertRule",
    "Alertmanager",
    "Alerts",
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
    "Logs",
    "Measured",
    "Metrics",
    "Model",
    "Notify",
    "OutboxLimits",
    "Privacy",
    "Ready",
    "Release",
    "Respond",
    "Retraining",
    "Retry",
    "RowRule",
    "Sink",
    "Source",
    "Watch",
    "Within",
    "build",
]

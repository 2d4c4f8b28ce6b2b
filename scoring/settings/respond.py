"""Who is told of a run, and how. Addresses hold no secret: tokens come from the environment, by the name of their variable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from scoring.settings.alerts import Alerts, Retraining
from scoring.settings.checking import AtLeastOne, Positive


@dataclass(frozen=True)
class Lineage:
    """OpenLineage. Events stand in `runs/<id>/openlineage.jsonl`; with a `url` they are posted there as well."""

    enabled: bool = True
    url: str | None = None  # the whole address: http://marquez:5000/api/v1/lineage
    token_env: str = "OPENLINEAGE_API_KEY"  # the variable that holds the bearer token, if the receiver wants one
    namespace: str = "scoring"  # of the job; of datasets it is where they lie
    parent: str | None = None  # namespace/job/run id of who started this; None: the variable OPENLINEAGE_PARENT_ID
    every_s: Positive = 60.0  # seconds between RUNNING events, with a `url`


@dataclass(frozen=True)
class Metrics:
    """Prometheus. A run has ended before anybody could scrape it: its metrics are written or pushed. With a `textfile`, how far a
    long run is stands beside it, in *.live.prom.
    """

    textfile: str | None = None  # a file of this job alone, *.prom, in the folder of node_exporter's textfile collector
    pushgateway: str | None = None  # its address: http://pushgateway:9091
    token_env: str = "SCORING_PUSHGATEWAY_TOKEN"


LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True)
class Logs:
    """What is logged while a run goes on, and where to. `scoring run -v` is `stderr_level=info`."""

    file: bool = True  # runs/<id>/log.jsonl: a JSON object a line
    level: LogLevel = "info"  # from which on the file has it
    stderr: Literal["none", "text", "json"] = "text"
    stderr_level: LogLevel = "warning"


@dataclass(frozen=True)
class OutboxLimits:
    """What may wait in `<workspace>/outbox`. The oldest messages go first, and it is said that they are given up."""

    max_bytes: AtLeastOne = 64 << 20
    max_days: Positive = 30.0


@dataclass(frozen=True)
class Respond:
    """`name` is what the job is called elsewhere; None: as the last folder of the workspace."""

    name: str | None = None
    limit_s: Positive = 5.0  # for all that is told after a run; what is not delivered then waits for the next run
    report: bool = True  # write runs/<id>/report.html
    logs: Logs = Logs()
    lineage: Lineage = Lineage()
    metrics: Metrics = Metrics()
    outbox: OutboxLimits = OutboxLimits()
    alerts: Alerts = field(default_factory=Alerts)
    retraining: Retraining = field(default_factory=Retraining)

"""Prometheus metrics of the last run of a job: gauges, in base units, as text for a textfile or a Pushgateway.

https://prometheus.io/docs/practices/naming. All carry the label `pipeline` and none a run or a partition: a series for each would
never end. A run that failed leaves `scoring_last_success_timestamp_seconds` where it was.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from scoring.respond.outbox import Message
from scoring.respond.story import Story
from scoring.watch.summary import WHOLE

TEXTFILE, PUSHGATEWAY = "textfile", "pushgateway"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATUSES = ("published", "published-with-warnings", "held", "paused", "failed", "refused", "skipped")
_ROUTES = ("gpu", "gpu-smaller-batch", "cpu", "backup-model")
_RATIOS = ("drift", "score_drift", "null_rate", "quarantine_mix")  # findings whose value is a share of rows

Samples = dict[tuple[str, ...], float]
Families = dict[str, tuple[str, tuple[str, ...], Samples]]  # name: help, labels beside `pipeline`, value by values of the labels


def messages(story: Story, receivers: tuple[str, ...]) -> tuple[Message, ...]:
    """The same text for each; the newest takes the place of one that waits, for only the last run counts."""
    body = text(story)
    return tuple(Message(to, "metrics", body, CONTENT_TYPE) for to in receivers)


def group(address: str, name: str) -> str:
    """Where a Pushgateway keeps the metrics of a job. The grouping key is the job alone: a group is never forgotten there."""
    return f"{address.rstrip('/')}/metrics/job/{quote(name, safe='')}"


def text(story: Story) -> str:
    """In the text format of Prometheus, 0.0.4."""
    return exposed(story.name, families(story))


def exposed(pipeline: str, found: Families) -> str:
    """Gauges of a job as text."""
    registry = CollectorRegistry()
    for name, (words, labels, samples) in found.items():
        gauge = Gauge(name, words, ("pipeline", *labels), registry=registry)
        for values, value in samples.items():
            gauge.labels(pipeline, *values).set(value)
    return generate_latest(registry).decode()


def families(story: Story) -> Families:
    """All of a run, some without a sample."""
    return _of_the_run(story) | _of_the_rows(story) | _of_the_data(story)


def _of_the_run(story: Story) -> Families:
    record = story.record
    rates = record["rates"]
    model: dict[str, str] = record["model"] or {}
    info: Samples = {tuple(str(model.get(key, "")) for key in ("name", "version", "digest")): 1.0} if model else {}
    return {
        "scoring_last_run_timestamp_seconds": ("When the last run ended.", (), _moment(record["finished"])),
        "scoring_last_success_timestamp_seconds": (
            "When a run last published all it should have, or found that all was published.",
            (),
            {} if story.last_success is None else {(): story.last_success},
        ),
        "scoring_run_status": (
            "1 for how the last run ended, 0 for the other ways.",
            ("status",),
            {(one,): float(one == record["status"]) for one in _STATUSES},
        ),
        "scoring_run_duration_seconds": ("Wall time of the last run.", (), {(): rates.get("wall_seconds", 0.0)}),
        "scoring_stage_duration_seconds": (
            "Time of the last run by stage, added up over lanes.",
            ("stage",),
            {(name,): seconds for name, seconds in record["stages"].items()},
        ),
        "scoring_device_busy_ratio": ("Share of the lanes' time in which the model ran.", (), _busy(story)),
        "scoring_run_energy_joules": (
            "Energy that the devices of the last run took meanwhile, where it can be read.",
            ("device",),
            {(device,): joules for device, joules in record.get("energy", {}).get("joules", {}).items()},
        ),
        "scoring_model_info": ("The model of the last run.", ("name", "version", "digest"), info),
        "scoring_outbox_messages": (
            "Messages of earlier runs that wait in the outbox.",
            ("receiver",),
            {(name,): float(n) for name, n in story.waiting.items()},
        ),
    }


def _of_the_rows(story: Story) -> Families:
    record = story.record
    outcomes: Samples = {(outcome,): float(record["rows"][outcome]) for outcome in ("scored", "quarantined", "suppressed")}
    statuses = Counter(p.status for p in story.partitions)
    lost: Samples = {(): record["rows"]["quarantined"] / record["rows"]["in"]} if record["rows"]["in"] else {}
    return {
        "scoring_rows": ("Rows of the last run by what became of them.", ("outcome",), outcomes),
        "scoring_quarantined_ratio": ("Share of the last run's rows that were quarantined.", (), lost),
        "scoring_rows_per_second": ("Rows read per second of scoring.", (), {(): record["rates"].get("rows_per_second", 0.0)}),
        "scoring_routed_rows": (
            "Rows by the route that scored them; all but the first choice are fallbacks.",
            ("route",),
            {(route,): float(record["routes"].get(route, 0)) for route in _ROUTES},
        ),
        "scoring_quarantined_rows": (
            "Rows that broke a rule; one that broke two counts twice.",
            ("rule",),
            {(rule,): float(n) for rule, n in sorted(record["reasons"].items())},
        ),
        "scoring_partitions": (
            "Partitions of the last run by status.",
            ("status",),
            {(status,): float(statuses[status]) for status in _STATUSES},
        ),
    }


def _of_the_data(story: Story) -> Families:
    checks = Counter((c["name"], c["status"]) for p in story.partitions for c in p.checks)
    summary = story.summary
    nulls: Samples = {
        (name,): counts["null"] / summary.rows for name, counts in sorted(summary.of("columns").items()) if summary.rows
    }
    return {
        "scoring_checks": (
            "Checks of the last run's partitions.",
            ("check", "status"),
            {key: float(n) for key, n in sorted(checks.items())},
        ),
        "scoring_drift_ratio": (
            "Share of rows that moved away from the baseline, in the partition where it is largest.",
            ("kind", "column"),
            _largest(story),
        ),
        "scoring_null_ratio": ("Share of nulls among admitted rows.", ("column",), nulls),
    }


def _largest(story: Story) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for finding in (f for p in story.partitions for f in p.findings):
        if finding["family"] in _RATIOS and finding["slice"] == WHOLE and finding["column"] and finding["status"] != "skip":
            key = (finding["family"], finding["column"])
            found[key] = max(found.get(key, 0.0), float(finding["value"]))
    return dict(sorted(found.items()))


def _busy(story: Story) -> dict[tuple[str, ...], float]:
    """Lanes that wait for rows cost as much as those that score."""
    available = story.record["rates"].get("scoring_seconds", 0.0) * story.asked.get("lanes", 0)
    return {(): min(float(story.record["stages"].get("score", 0.0)) / available, 1.0)} if available else {}


def _moment(finished: Any) -> dict[tuple[str, ...], float]:
    return {(): datetime.fromisoformat(finished).timestamp()} if finished else {}

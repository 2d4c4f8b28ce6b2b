"""A story of a run without a run: two published days, one held, drift, personal columns, a quarantine."""

from dataclasses import asdict

from scoring.respond.story import Story, Told
from scoring.sinks.manifest import Manifest, PublicFile
from scoring.types import Check
from scoring.watch.drift import WHOLE, Finding
from scoring.watch.summary import Summary

STARTED, FINISHED = "2026-01-04T01:00:00+00:00", "2026-01-04T01:02:05+00:00"
DIGEST = "ab" * 32
PARENT = "airflow/nightly.score/0197e1c4-5b3e-7c1a-9d55-0c6d2f6a7b11"


def check(name, subject, status, severity="warn", actual="1", expected="0"):
    return asdict(Check(name, subject, status, severity, expected, actual))


def finding(family, column, value, status="warn", where=WHOLE):
    return asdict(Finding(family, column, where, "ks", value, 0.02, 0.0, None, status, 100))


def manifest(day, rows):
    key = f"date=2026-01-{day:02d}"
    files = (PublicFile(f"scores/{key}/part-0.parquet", "runs/r/staged/x", rows, 10 * rows, DIGEST),)
    lost = (PublicFile(f"quarantine/{key}/part-0.parquet", "runs/r/staged/y", 2, 20, DIGEST),)
    made_by = {"name": "churn", "version": "3", "digest": DIGEST}
    return Manifest(key, 1, "r", "f", {}, "i", made_by, {"scored": rows, "quarantined": 2, "suppressed": 0}, files, lost, ())


def summary(rows):
    columns = {"amount": {"null": rows // 10, "min": 0.5, "max": 99.0}, "age": {"null": 0}}
    return Summary({"plan": "p", "rows": rows, "columns": columns, "scores": {}})


def partition(day, status="published", rows=100, checks=(), findings=()):
    made = manifest(day, rows) if status.startswith("published") else None
    key = f"date=2026-01-{day:02d}"
    counts = {"in": rows + 2, "scored": rows, "quarantined": 2, "suppressed": 0}
    return Told(key, status, counts, tuple(checks), made, tuple(findings), summary(rows))


def story(status="published", held=False, message="", **changes):
    drifted = [
        finding("drift", "amount", 0.12),
        finding("drift", "amount", 0.5, where="country=SE"),
        finding("drift", "age", 0.01, "pass"),
    ]
    passed = check("bad_rows", "date=2026-01-01", "pass", "error")
    partitions = [
        partition(1, checks=[passed], findings=[finding("drift", "amount", 0.3, "fail"), finding("history", "volume", 9.0)]),
        partition(
            2, checks=[passed, check("drift", "amount", "warn"), check("history", "date=2026-01-02", "skip")], findings=drifted
        ),
        *([partition(3, "held", checks=[check("bad_share", "date=2026-01-03", "fail", "error")])] if held else []),
    ]
    rows = {"in": 204, "scored": 200, "quarantined": 4, "suppressed": 0}
    record = {
        "run_id": "r",
        "status": status,
        "rows": rows,
        "started": STARTED,
        "finished": FINISHED,
        "message": message,
        "model": {"name": "churn", "version": "3", "digest": DIGEST},
        "rates": {"rows_per_second": 1632.0, "wall_seconds": 125.0, "scoring_seconds": 100.0},
        "stages": {"read": 80.0, "score": 50.0},
        "routes": {"gpu": 190, "cpu": 10},
        "reasons": {"admit:amount:range": 4},
        "partitions": [],
        "energy": {"joules": {"package-0": 1500.0, "gpu-0": 3000.0}, "seconds": 125.0, "source": "nvml, rapl"},
    }
    asked = {
        "source": {"kind": "parquet", "path": "/data/in"},
        "carry": ["row", "email"],
        "columns": {
            "amount": {"dtype": "float64", "treatment": None, "pii": None},
            "age": {"dtype": "int64", "treatment": "generalise", "pii": "quasi"},
            "email": {"dtype": "string", "treatment": "pseudonymise", "pii": "direct"},
        },
        "inputs": ["amount", "age"],
        "bundle": "/models/churn",
        "lanes": 2,
        "started": STARTED,
        "model": record["model"],
        "nominal": ["2026-01-01T00:00:00+00:00", "2026-01-03T00:00:00+00:00"],
        "files": 5,
        "bytes": 12345,
    }
    schema = (("row", "int64"), ("email", "string"), ("score", "float"), ("model_version", "string"), ("run_id", "string"))
    given = {
        "name": "churn-nightly",
        "workspace": "/w",
        "record": record,
        "asked": asked,
        "partitions": tuple(partitions),
        "config": "source:\n  kind: parquet\n",
        "schema": schema,
        "last_success": 1767488525.0,
        "waiting": {"lineage": 2},
    }
    return Story(**given | changes)

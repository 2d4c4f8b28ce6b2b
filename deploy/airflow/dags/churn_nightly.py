"""Each night the day before is scored; history from Airflow's own backfill, or as one range in one run. docs/orchestrators.md."""

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param

from scoring.orchestrators.airflow import ScoringOperator

COMMAND = {
    "executable": os.environ.get("SCORING_COMMAND", "/opt/scoring/.venv/bin/scoring"),
    "config_dir": os.environ.get("SCORING_CONF", "/srv/churn/conf"),
    "overrides": ["job=churn-nightly"],
}

# One interval is one day, half-open: the run of the 2nd, just after midnight, is of the 1st. A retry waits for late input.
with DAG(
    "churn_nightly",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=2,
    default_args={"retries": 6, "retry_delay": timedelta(minutes=30)},
    tags=["scoring"],
):
    ScoringOperator(task_id="score", **COMMAND)

# A long range as one process, whose lanes load the model once. By hand, with the dates of the form; say it again to go on.
with DAG(
    "churn_history",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={
        "start": Param("2026-01-01", type="string", format="date"),
        "end": Param("2026-02-01", type="string", format="date", description="not part of the range"),
        "which": Param("missing,stale", type="string", description="missing, failed, stale, all"),
    },
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    tags=["scoring"],
):
    ScoringOperator(
        task_id="score",
        start="{{ params.start }}",
        end="{{ params.end }}",
        which="{{ params.which }}",
        not_ready="skip",
        **COMMAND,
    )

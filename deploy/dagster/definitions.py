"""Each night the day before is scored; backfills of Dagster, one run a day or one run for the range. docs/orchestrators.md."""

import os

import dagster as dg

from scoring.orchestrators.dagster import ScoringResource

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01", timezone="UTC")


@dg.asset(
    partitions_def=DAYS,
    output_required=False,  # a day whose input is not ready stays missing
    retry_policy=dg.RetryPolicy(max_retries=2, delay=60),
    tags={"dagster/concurrency_key": "churn"},
)
def churn_scores(context: dg.AssetExecutionContext, scoring: ScoringResource):
    """One run for each day: each has its own state, and loads the model for itself."""
    yield from scoring.backfill(context)


@dg.asset(partitions_def=DAYS, output_required=False, backfill_policy=dg.BackfillPolicy.single_run())
def churn_history(context: dg.AssetExecutionContext, scoring: ScoringResource):
    """One run for a range, whose lanes load the model once. Days that were published are materialized, also if others were held."""
    yield from scoring.backfill(context, not_ready="skip")


nightly = dg.define_asset_job("churn_nightly", selection=[churn_scores])

defs = dg.Definitions(
    assets=[churn_scores, churn_history],
    jobs=[nightly],
    schedules=[dg.build_schedule_from_partitioned_job(nightly, hour_of_day=2, minute_of_hour=15)],
    resources={
        "scoring": ScoringResource(
            executable=os.environ.get("SCORING_COMMAND", "/opt/scoring/.venv/bin/scoring"),
            config_dir=os.environ.get("SCORING_CONF", "/srv/churn/conf"),
            overrides=["job=churn-nightly"],
        )
    },
)

"""Runs in Airflow's environment: what the operator refuses before it calls anything, and a stop as the task runner asks for it."""

import json
import signal
import sys

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from scoring.orchestrators.airflow import ScoringOperator


def ended(**given):
    operator = ScoringOperator(task_id="score", overrides=["job=churn-nightly"], **given)
    signal.signal(signal.SIGTERM, lambda number, frame: operator.on_kill())
    try:
        return ["done", str(operator.execute({}))]
    except AirflowException as error:
        return ["refused" if isinstance(error, AirflowFailException) else "failed", str(error)]


print(json.dumps(ended(**json.loads(sys.argv[1]))))

"""A real Airflow runs the DAGs of deploy/airflow: the night that is due, and seven days of history with every sort of trouble.

Needs .venv-airflow (`make .venv-airflow/.ready`).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nights
import pytest
from nights import HERE, ROOT, Place, answer
from serving import asked, free_port, once, serving

AIRFLOW = ROOT / ".venv-airflow/bin/airflow"
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
DAYS = [str(YESTERDAY - timedelta(days=n)) for n in range(7, -1, -1)]
KINDS = ["good", "kills", "good", "held", "not-ready", "good", "good", "good"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not AIRFLOW.exists(), reason=f"no {AIRFLOW}")]


@dataclass(frozen=True)
class Airflow:
    url: str
    token: str
    environment: dict[str, str]

    def __call__(self, path: str, data: Any = None, method: str | None = None) -> Any:
        return asked(f"{self.url}/api/v2{path}", data, self.token, method)

    def tasks(self, dag: str, kind: str) -> dict[str, tuple[str, int]]:
        """State and number of tries of each task, by the day of its interval."""
        runs = self(f"/dags/{dag}/dagRuns?limit=100")["dag_runs"]
        found = {}
        for run in (run for run in runs if run["run_type"] == kind):
            one = self(f"/dags/{dag}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"][0]
            found[str(run["data_interval_start"])[:10]] = (one["state"], one["try_number"])
        return found

    def said(self, dag: str, run_id: str, attempt: int = 1) -> str:
        return str(self(f"/dags/{dag}/dagRuns/{run_id}/taskInstances/score/logs/{attempt}?full_content=true"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return nights.make(tmp_path_factory.mktemp("nights"), dict(zip(DAYS, [*KINDS[:-1], "not-ready"], strict=True)))


@pytest.fixture(scope="module")
def airflow(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Only the waits of the shipped DAGs are made shorter."""
    home = tmp_path_factory.mktemp("airflow")
    shipped = (ROOT / "deploy/airflow/dags/churn_nightly.py").read_text()
    quick = shipped.replace(
        '"retries": 6, "retry_delay": timedelta(minutes=30)', '"retries": 2, "retry_delay": timedelta(seconds=15)'
    )
    assert quick != shipped
    (home / "dags").mkdir()
    (home / "dags/churn_nightly.py").write_text(quick)
    port = free_port()
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "COV_"))}
    environment = known | {
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "SCORING_COMMAND": str(place.command),
        "SCORING_CONF": str(place.conf),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-this-test-alone-and-long-enough-for-a-signature-of-512-bits-0123456789",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    }
    answer([str(AIRFLOW), "db", "migrate"], environment)
    parts = ("api-server", "dag-processor", "scheduler")
    with serving({part: [str(AIRFLOW), part] for part in parts}, environment, home):
        url = f"http://127.0.0.1:{port}"
        token = once(lambda: asked(f"{url}/auth/token")["access_token"], f"the API server, {home}")
        made = Airflow(url, token, environment)
        once(lambda: made("/dags/churn_nightly"), f"the DAG, {home}")
        yield made


def test_the_night_that_is_due_waits_for_its_input(airflow: Airflow, place: Place) -> None:
    """Not ready at first: it is tried again, and found when the input has come. Unpaused, the scheduler makes its run."""
    airflow("/dags/churn_nightly", {"is_paused": False}, "PATCH")
    once(lambda: airflow.tasks("churn_nightly", "scheduled").get(DAYS[-1], ("",))[0] == "up_for_retry" or None, "a retry")
    place.ready(DAYS[-1])
    state = once(lambda: _ended(airflow.tasks("churn_nightly", "scheduled")), "the end of the night")
    assert set(state) == {DAYS[-1]}, "no catch-up, and no day before its end"
    assert state[DAYS[-1]][0] == "success"
    assert state[DAYS[-1]][1] >= 2
    assert place.published() == {DAYS[-1]: 1}
    run_id = airflow("/dags/churn_nightly/dagRuns")["dag_runs"][0]["dag_run_id"]
    assert "_SUCCESS" in airflow.said("churn_nightly", run_id), "why it had to wait stands in the log"
    assert "Run 2" in airflow.said("churn_nightly", run_id, state[DAYS[-1]][1]), "progress stands in the log"
    kept = airflow(f"/dags/churn_nightly/dagRuns/{run_id}/taskInstances/score/xcomEntries/return_value")["value"]
    assert "published" in str(kept)


def test_seven_days_of_history_each_end_as_they_should(airflow: Airflow, place: Place) -> None:
    """By Airflow's own backfill. The 75 of a day without input is a skip; a held day is not tried twice; a killed process is."""
    first, last = DAYS[0], DAYS[-2]
    words = ["--dag-id", "churn_nightly", "--from-date", first, "--to-date", last, "--max-active-runs", "2"]
    answer([str(AIRFLOW), "backfill", "create", *words], airflow.environment)
    found = once(lambda: _ended(airflow.tasks("churn_nightly", "backfill"), 7), "the end of history", 550)
    states = {day: state for day, (state, _) in found.items()}
    expected = {"good": "success", "kills": "failed", "held": "failed", "not-ready": "skipped"}
    assert states == dict(zip(DAYS[:-1], [expected[kind] for kind in KINDS[:-1]], strict=True))
    tries = {kind: found[day][1] for day, kind in zip(DAYS, KINDS, strict=False) if kind not in ("good",)}
    assert tries == {"kills": 3, "held": 1, "not-ready": 1}
    assert place.published() == {day: 1 for day, kind in zip(DAYS, KINDS, strict=True) if kind == "good"}


def test_a_range_by_hand_is_one_process(airflow: Airflow, place: Place) -> None:
    """What history left open, once it is mended: one run of `churn_history`, published days left alone."""
    place.ready(DAYS[4])
    end = str(datetime.fromisoformat(DAYS[4]).date() + timedelta(days=1))
    airflow("/dags/churn_history", {"is_paused": False}, "PATCH")
    given = {"logical_date": None, "conf": {"start": DAYS[4], "end": end, "which": "missing"}}
    run = airflow("/dags/churn_history/dagRuns", given)["dag_run_id"]
    once(lambda: airflow(f"/dags/churn_history/dagRuns/{run}")["state"] in ("success", "failed") or None, "the end")
    assert airflow(f"/dags/churn_history/dagRuns/{run}")["state"] == "success", airflow.said("churn_history", run)
    assert place.published()[DAYS[4]] == 1


def _ended(found: dict[str, tuple[str, int]], count: int = 1) -> dict[str, tuple[str, int]] | None:
    over = [state in ("success", "failed", "skipped") for state, _ in found.values()]
    return found if len(over) == count and all(over) else None


DAY = {"start": "2026-01-01 00:00:00+00:00", "end": "2026-01-02 00:00:00+00:00", "not_ready": "retry"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"end": DAY["start"]}, "CronDataIntervalTimetable"),
        ({"start": "", "end": ""}, "has no data interval"),
        ({"executable": "/nowhere/scoring"}, "Say the path of `scoring`"),
        ({"not_ready": "wait"}, "Say 'retry' or 'skip'"),
    ],
)
def test_what_cannot_be_is_refused_and_says_what_to_do(given: dict[str, str], says: str, tmp_path: Path) -> None:
    kind, message = _executed(DAY | {"executable": "/bin/true"} | given, tmp_path)
    assert kind == "refused"
    assert says in message


def test_a_task_that_is_killed_lets_the_run_keep_its_state(tmp_path: Path) -> None:
    """SIGTERM to the task, as its supervisor sends it, while a slice is in hand."""
    place = nights.make(tmp_path / "place", {"2026-01-01": "waits"})
    given = DAY | {"executable": str(place.command), "config_dir": str(place.conf)}
    with subprocess.Popen(_line(given), env=_plain(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as task:
        assert task.stdout is not None
        said = []
        for line in task.stdout:
            said.append(line)
            if "on 1 lane(s)" in line:
                task.terminate()
            if "Stopping: " in line:
                place.gate.touch()
    assert any("Stopping: " in line for line in said), said
    assert json.loads(said[-1])[0] in ("failed", "done")
    assert _executed(given, tmp_path)[0] == "done"
    assert place.published() == {"2026-01-01": 1}


def _executed(given: dict[str, str], home: Path) -> tuple[str, str]:
    kind, message = json.loads(answer(_line(given), _plain(home)).splitlines()[-1])
    return kind, message


def _line(given: dict[str, str]) -> list[str]:
    return [str(AIRFLOW.with_name("python")), str(HERE / "refusals.py"), json.dumps(given)]


def _plain(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "AIRFLOW_HOME": str(home / "airflow"), "PYTHONPATH": str(ROOT)}

"""A real Dagster, webserver and daemon, runs deploy/dagster: one night, and seven days of history with every sort of trouble.

Needs .venv-dagster (`make .venv-dagster/.ready`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nights
import pytest
from nights import ROOT, Place, answer
from serving import asked, free_port, once, serving

BIN = ROOT / ".venv-dagster/bin"
DAYS = [f"2026-01-{n:02d}" for n in range(1, 9)]
KINDS = ["good", "kills", "good", "held", "not-ready", "good", "good", "good"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (BIN / "dagster").exists(), reason=f"no {BIN}/dagster")]
LAUNCH = """mutation($of: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $of) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL = "query($of: String!) { partitionBackfillOrError(backfillId: $of) { ... on PartitionBackfill { status } } }"
RUNS = """query { runsOrError(limit: 100) { ... on Runs { results {
    runId status tags { key value } stats { ... on RunStatsSnapshot { stepsFailed } } } } } }"""
STATES = """query($of: AssetKeyInput!) { assetNodeOrError(assetKey: $of) { ... on AssetNode {
    partitionStats { numMaterialized numFailed }
    latestRunForPartition: assetPartitionStatuses { __typename ... on TimePartitionStatuses {
        ranges { startKey endKey status } } } } } }"""
LOGS = """query($of: ID!) { logsForRun(runId: $of) { ... on EventConnection { events {
    __typename ... on MessageEvent { message } } } } }"""


@dataclass(frozen=True)
class Dagster:
    url: str
    environment: dict[str, str]
    workspace: list[str]

    def __call__(self, query: str, of: Any = None) -> Any:
        found = asked(f"{self.url}/graphql", {"query": query, "variables": {"of": of}})
        assert "errors" not in found, found["errors"]
        return next(iter(found["data"].values()))

    def runs(self, **tags: str) -> dict[str, tuple[str, str]]:
        """State and id of the newest run of each partition, of runs with these tags."""
        found = {}
        for run in reversed(self(RUNS)["results"]):
            has = {tag["key"]: tag["value"] for tag in run["tags"]}
            if tags.items() <= has.items():
                found[has.get("dagster/partition", "range")] = (run["status"], run["runId"])
        return found

    def states(self, asset: str) -> dict[str, set[str]]:
        """MATERIALIZED and FAILED: days."""
        ranges = self(STATES, {"path": [asset]})["latestRunForPartition"]["ranges"]
        found: dict[str, set[str]] = {}
        for one in ranges:
            found.setdefault(one["status"], set()).update(d for d in DAYS if one["startKey"] <= d <= one["endKey"])
        return found

    def events(self, run_id: str) -> Counter[str]:
        return Counter(event["__typename"] for event in self(LOGS, run_id)["events"])

    def said(self, run_id: str) -> str:
        return "\n".join(event.get("message", "") for event in self(LOGS, run_id)["events"])

    def backfill(self, asset: str, first: str, last: str) -> str:
        names = [day for day in DAYS if first <= day <= last]
        given = {"partitionNames": names, "assetSelection": [{"path": [asset]}], "fromFailure": False}
        made = self(LAUNCH, given)
        assert made["__typename"] == "LaunchBackfillSuccess", made
        over = ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
        once(lambda: self(BACKFILL, made["backfillId"])["status"] in over or None, "the end of the backfill", 500)
        return str(made["backfillId"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return nights.make(tmp_path_factory.mktemp("nights"), dict(zip(DAYS, KINDS, strict=True)))


@pytest.fixture(scope="module")
def dagster(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dagster]:
    """Only the wait between two tries of the shipped definitions is made shorter."""
    home: Path = tmp_path_factory.mktemp("dagster")
    shipped = (ROOT / "deploy/dagster/definitions.py").read_text()
    quick = shipped.replace("max_retries=2, delay=60", "max_retries=1, delay=1")
    assert quick != shipped
    (home / "definitions.py").write_text(quick)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\nconcurrency: {runs: {max_concurrent_runs: 2}}\n")
    port = free_port()
    known = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "PYTHON", "COV_"))}
    environment = known | {
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "SCORING_COMMAND": str(place.command),
        "SCORING_CONF": str(place.conf),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    definitions = ["-f", str(home / "definitions.py")]
    commands = {
        "webserver": [str(BIN / "dagster-webserver"), *definitions, "-h", "127.0.0.1", "-p", str(port)],
        "daemon": [str(BIN / "dagster-daemon"), "run", *definitions],
    }
    with serving(commands, environment, home):
        made = Dagster(f"http://127.0.0.1:{port}", environment, definitions)
        once(lambda: made("query { version }"), f"the webserver, {home}")
        yield made


def test_a_night_is_one_partition(dagster: Dagster, place: Place) -> None:
    """By the command line, as somebody would try it first."""
    words = ["asset", "materialize", *dagster.workspace, "--select", "churn_scores", "--partition", DAYS[-1]]
    answer([str(BIN / "dagster"), *words], dagster.environment)
    assert place.published() == {DAYS[-1]: 1}
    assert dagster.states("churn_scores") == {"MATERIALIZED": {DAYS[-1]}}
    _, run_id = dagster.runs()[DAYS[-1]]
    assert "Run 2" in dagster.said(run_id), "progress stands in the log"


def test_seven_days_of_history_each_end_as_they_should(dagster: Dagster, place: Place) -> None:
    """By the mutation that the button of the UI sends: a run for each day."""
    backfill = dagster.backfill("churn_scores", DAYS[0], DAYS[6])
    found = dagster.runs(**{"dagster/backfill": backfill})
    expected = {"good": "SUCCESS", "kills": "FAILURE", "held": "FAILURE", "not-ready": "SUCCESS"}
    assert {day: state for day, (state, _) in found.items()} == {d: expected[k] for d, k in zip(DAYS[:7], KINDS[:7], strict=True)}
    good = {day for day, kind in zip(DAYS, KINDS, strict=True) if kind == "good"}
    assert dagster.states("churn_scores") == {"MATERIALIZED": good, "FAILED": {DAYS[1], DAYS[3]}}
    tries = {kind: dagster.events(found[DAYS[n]][1])["ExecutionStepRestartEvent"] for n, kind in enumerate(KINDS[:7])}
    assert tries == {"good": 0, "kills": 1, "held": 0, "not-ready": 0}, "only what a retry may settle is tried again"
    assert "bad_share" in dagster.said(found[DAYS[3]][1])
    assert "has no _SUCCESS" in dagster.said(found[DAYS[4]][1])
    assert place.published() == dict.fromkeys(sorted(good), 1)


def test_a_range_is_one_run_and_keeps_what_was_published(dagster: Dagster, place: Place) -> None:
    """`BackfillPolicy.single_run`: the held day fails the run, and the days beside it are materialized nevertheless."""
    backfill = dagster.backfill("churn_history", DAYS[2], DAYS[5])
    assert {state for state, _ in dagster.runs(**{"dagster/backfill": backfill}).values()} == {"FAILURE"}
    states = dagster.states("churn_history")
    assert states["MATERIALIZED"] == {DAYS[2], DAYS[5]}
    assert DAYS[3] in states["FAILED"]
    assert set(place.published()) == {day for day, kind in zip(DAYS, KINDS, strict=True) if kind == "good"}

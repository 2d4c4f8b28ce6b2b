"""The command as orchestrators call it: real processes, and what their ends mean."""

from __future__ import annotations

import ast
import sys
import threading
from pathlib import Path

import nights
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nights import ROOT, Place

from scoring.errors import ScoringError
from scoring.orchestrators.command import Command, Ending, Request, iso

NIGHT = {"2026-01-01": "good", "2026-01-02": "held", "2026-01-03": "not-ready", "2026-01-04": "waits"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return nights.make(tmp_path_factory.mktemp("nights"), NIGHT)


def command(place: Place) -> Command:
    return Command(str(place.command), ["job=churn-nightly"], str(place.conf))


def ended(code: int, *actions: str) -> Ending:
    """An account whose intervals with an action ended with this code, beside one that is published."""
    one = {"key": "date=2026-01-01", "start": "2026-01-01T00:00Z", "status": "", "reason": "why"}
    intervals = [one | {"action": action, "exit_code": code} for action in actions]
    return Ending(code, {"intervals": [*intervals, one | {"action": "score", "status": "published", "exit_code": 0}]}, ["last"])


@given(st.sampled_from([cls.exit_code for cls in (ScoringError, *ScoringError.__subclasses__())]) | st.integers(-64, 255))
def test_no_end_but_0_is_well_and_what_a_retry_would_repeat_is_refused(code: int) -> None:
    verdict = ended(code, "score").verdict
    assert (verdict == "done") == (code == 0)
    assert (verdict == "refused") == (code in (64, 65, 77, 78))
    assert (verdict == "again") == (code == 75)


def test_only_what_lacks_nothing_but_input_is_not_ready() -> None:
    assert ended(75, "wait", "wait").verdict == "not-ready"
    assert ended(75, "wait", "score").verdict == "again"
    assert Ending(75, {}, ["Another run is at work."]).verdict == "again"
    assert ended(65, "wait").verdict == "refused"


def test_what_is_told_is_short_however_long_the_range_is() -> None:
    assert ended(65, *["score"] * 900).why().endswith("and 880 more")
    assert "Another run" in Ending(75, {}, ["Another run is at work."]).why()


def test_instants_are_said_without_blanks() -> None:
    assert iso("2026-01-01 00:00:00+00:00") == "2026-01-01T00:00:00+00:00"
    with pytest.raises(ValueError, match="None"):
        iso("None")


def test_a_range_with_troubles_is_told_day_by_day(place: Place) -> None:
    said: list[str] = []
    ending = command(place).backfill(Request("2026-01-01", "2026-01-04"), said.append)
    assert (ending.code, ending.verdict) == (65, "refused")
    assert "date=2026-01-02: held: bad_share" in ending.why()
    assert "date=2026-01-03: wait: " in ending.why()
    assert any(line.startswith("Run 2026") for line in said), "progress comes line by line"
    assert place.published()["2026-01-01"] == 1
    assert ending.facts()["counts"] == {"held": 1, "not ready": 1, "published": 1}


@pytest.mark.slow
def test_a_stop_lets_the_run_keep_its_state(place: Place) -> None:
    """SIGTERM, once however often it is asked for: what is in hand is finished, and the same request goes on."""
    one, begun, said = command(place), threading.Event(), list[str]()

    def hear(line: str) -> None:
        said.append(line)
        begun.set()

    stopping = threading.Thread(target=lambda: (begun.wait(60), one.stop(), one.stop(), place.gate.touch()))
    stopping.start()
    ending = one.backfill(Request("2026-01-04 00:00:00+00:00", "2026-01-05"), hear)
    stopping.join(60)
    assert sum(line.startswith("Stopping") for line in said) == 1
    assert ending.code in (0, 75, 143), ending.why()
    assert command(place).backfill(Request("2026-01-04", "2026-01-05"), print).verdict == "done"
    assert place.published()["2026-01-04"] == 1


def test_a_command_that_is_not_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Command(str(tmp_path / "scoring"), []).backfill(Request("2026-01-01", "2026-01-02"), print)


@pytest.mark.parametrize("name", ["airflow", "dagster"])
def test_nothing_but_the_command_is_needed_beside_an_orchestrator(name: str) -> None:
    """Their environments have no torch, no Hydra, no Polars."""
    known = {*sys.stdlib_module_names, name, "scoring"}
    for path in ((ROOT / f"scoring/orchestrators/{file}.py") for file in (name, "command")):
        found = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {n.module or "" if isinstance(n, ast.ImportFrom) else n.names[0].name for n in found}
        assert {n.partition(".")[0] for n in names} <= known
        assert {n for n in names if n.startswith("scoring")} <= {"scoring.orchestrators.command"}

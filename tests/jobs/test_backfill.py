"""What a backfill finds, does and says, on a few days of small files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import daily
import pyarrow as pa
import pytest
from daily import DAYS, ROWS, back, by_day, in_thread, job, manifests, nightly, planned, versions
from people import KEY

from scoring.engine import capacity
from scoring.errors import BusyError, ConfigError, PausedError, SourceError, UsageError
from scoring.jobs.backfill import backfill
from scoring.jobs.backfills import request as requests
from scoring.jobs.erase import erase
from scoring.jobs.preparation import identity_parts
from scoring.jobs.release_held import release_held
from scoring.jobs.turns import Seat, alone
from scoring.ledger.chain import verify
from scoring.stores import open_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return daily.make(tmp_path_factory.mktemp("models"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return daily.days(tmp_path / "data")


def spoilt(data: Path, day: str, bad: int = ROWS) -> None:
    """A day whose rows are out of the contract of `strict`."""
    table = daily.rows(7)
    daily.write(data, day, table.set_column(1, "x", pa.array([1e6] * bad + [0.5] * (ROWS - bad))))


STRICT = {"contract__columns": {"x": {"dtype": "float64", "max": 1000.0}}}


def test_all_missing_days_are_scored_by_lanes_that_load_once(models: Path, data: Path, tmp_path: Path) -> None:
    record = back(job(models, data, tmp_path / "w"))
    assert (record.exit_code, record.counts, record.model_loads) == (0, {"published": 6}, 1)
    assert record.rows == {"in": 6 * ROWS, "scored": 6 * ROWS, "quarantined": 0, "suppressed": 0}
    assert versions(tmp_path / "w") == dict.fromkeys(DAYS, 1)
    assert all(m.restated is None for m in manifests(tmp_path / "w"))
    again = back(job(models, data, tmp_path / "w"))
    assert (again.exit_code, again.counts, again.message) == (0, {"as they are": 6}, "Nothing to do.")
    assert list(open_store(str(tmp_path / "w")).list("control/leases")) == []
    assert list(open_store(str(tmp_path / "w")).list("control/present")) == []


def test_the_range_is_half_open_and_ranges_may_overlap(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w")
    back(given, start="2026-01-02", end="2026-01-04")
    assert [*versions(tmp_path / "w")] == DAYS[1:3]
    record = back(given, start="2026-01-03", end="2026-01-06")
    assert by_day(record, "status") == ["", "published", "published"]
    assert versions(tmp_path / "w") == dict.fromkeys(DAYS[1:5], 1)


def test_each_change_makes_days_stale_and_says_which(models: Path, data: Path, tmp_path: Path) -> None:
    """Of the contract: one column is enough for every day, for a manifest holds the digest of the whole; verdicts change no row."""
    given = job(models, data, tmp_path / "w")
    back(given)
    other = {
        "model": job(models, data, tmp_path / "w", "2"),
        "contract": job(models, data, tmp_path / "w", contract__columns={"x": {"dtype": "float64", "max": 1e9}}),
        "config": job(models, data, tmp_path / "w", source__carry=["id", "y"]),
    }
    for why, changed in other.items():
        record = planned(changed, which="stale")
        assert by_day(record, "why") == [(why,)] * 6
        assert record.counts == {"to score": 6}
    for verdict in ({"release__max_bad_share": 0.5}, {"contract__min_rows": 3}, {"engine__in_flight": 1}):
        assert planned(job(models, data, tmp_path / "w", **verdict), which="stale").counts == {"as they are": 6}
    assert planned(other["model"]).counts == {"as they are": 6}, "missing replaces nothing"


def test_code_of_a_user_makes_days_stale(models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("class Net: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    given = job(models, data, tmp_path / "w")
    given = replace(given, model=replace(given.model, module="mine:Net"))
    before = identity_parts(given, "d")
    (tmp_path / "mine.py").write_text("class Net: ...\n")
    after = identity_parts(given, "d")
    assert {name for name in before if before[name] != after[name]} == {"code"}


def test_restated_input_is_found_scored_again_and_written_down(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w")
    back(given)
    daily.write(data, DAYS[2], daily.rows(50), "late.parquet")
    daily.write(data, DAYS[4], daily.rows(51))
    record = back(given, which="stale")
    assert by_day(record, "why") == [(), (), ("input",), (), ("input",), ()]
    assert versions(tmp_path / "w") == dict.fromkeys(DAYS, 1) | {DAYS[2]: 2, DAYS[4]: 2}
    restated = {m.key[5:]: m.restated for m in manifests(tmp_path / "w") if m.restated}
    assert {day: (one.replaces, one.why) for day, one in restated.items()} == {DAYS[2]: (1, ("input",)), DAYS[4]: (1, ("input",))}
    entries: list[dict[str, object]] = []
    verify(open_store(str(tmp_path / "w")), lambda entry: entries.append(entry["payload"]))
    assert [(e["version"], e["replaces"], e["why"]) for e in entries if "replaces" in e] == [(2, 1, ["input"])] * 2


def test_all_scores_fresh_days_again_as_often_as_it_is_said(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w")
    for n in (1, 2, 3):
        assert back(given, which="all").counts == {"published": 6}
        assert set(versions(tmp_path / "w").values()) == {n}


def test_a_held_day_stops_no_other_and_decides_the_exit_code(models: Path, data: Path, tmp_path: Path) -> None:
    spoilt(data, DAYS[1], bad=10)
    given = job(models, data, tmp_path / "w", **STRICT)
    record = back(given)
    assert (record.exit_code, record.counts) == (65, {"held": 1, "published": 5})
    assert "bad_share" in by_day(record, "reason")[1]
    assert planned(given, which="failed").counts == {"as they are": 5, "to score": 1}
    assert by_day(planned(given), "state")[1] == "failed"
    mended = job(models, data, tmp_path / "w", **STRICT, release__max_bad_share=0.5)
    record = back(mended, which="failed")
    assert (record.exit_code, by_day(record, "status")[1]) == (0, "published")
    assert record.runs == (record.intervals[1].run_id,)
    assert planned(given, which="failed").counts == {"as they are": 6}


def test_a_held_day_that_was_dropped_is_missing_again(models: Path, data: Path, tmp_path: Path) -> None:
    spoilt(data, DAYS[0], bad=10)
    given = job(models, data, tmp_path / "w", **STRICT)
    run_id = back(given).intervals[0].run_id
    release_held(str(tmp_path / "w"), run_id, f"date={DAYS[0]}", "not wanted", discard=True)
    assert by_day(planned(given), "state")[0] == "missing"


def test_a_failed_day_stops_no_other(models: Path, data: Path, tmp_path: Path) -> None:
    """A file that is rewritten under the reader."""

    class Rewriting(daily.Quiet):
        def planned(self, partition: str, slices: int, rows: int) -> None:
            if partition.endswith(DAYS[3]):
                daily.write(data, DAYS[3], daily.rows(60, 10))

    given = job(models, data, tmp_path / "w")
    record, _ = backfill(given, "", daily.RANGE, lambda: nullcontext(Rewriting()))
    assert (record.exit_code, record.counts) == (75, {"failed": 1, "published": 5})
    assert "changed since planning" in by_day(record, "reason")[3]
    assert planned(given, which="failed").counts == {"as they are": 5, "to score": 1}
    assert (back(given, which="failed").exit_code, versions(tmp_path / "w")) == (0, dict.fromkeys(DAYS, 1))


def test_limits_and_order(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w", hardware__price_per_hour=3600.0)
    record = back(given, order="newest", max_partitions="2")
    assert (record.exit_code, record.counts) == (0, {"later": 4, "published": 2})
    assert [*versions(tmp_path / "w")] == DAYS[4:]
    record = back(given, max_cost="0")
    assert (record.exit_code, record.counts) == (0, {"as they are": 2, "later": 4})
    assert by_day(record, "reason")[0] == "max_cost=0 is spent"
    assert back(given, max_cost="1e9").counts == {"as they are": 2, "published": 4}
    with pytest.raises(ConfigError, match=r"hardware\.price_per_hour"):
        back(job(models, data, tmp_path / "w2"), max_cost="1")


def test_the_plan_estimates_by_earlier_runs_and_makes_nothing(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w", hardware__price_per_hour=2.0)
    first = planned(given)
    assert (first.seconds, first.cost, first.rows) == (None, None, {"in": 6 * ROWS})
    assert not (tmp_path / "w").exists()
    back(given)
    later = planned(given, which="all")
    assert later.rate is not None
    assert later.seconds == pytest.approx(6 * ROWS / later.rate)
    cores = capacity.measure().cores  # an inline lane holds all of them
    assert later.cost == pytest.approx(later.seconds / 3600 * 2.0 * cores)


def test_what_is_not_ready_waits_with_its_reason(models: Path, data: Path, tmp_path: Path) -> None:
    for day in DAYS[:3]:
        (data / f"date={day}" / "_SUCCESS").touch()
    given = job(models, data, tmp_path / "w", source__ready={"success_file": "_SUCCESS"})
    record = back(given, end="2026-01-08")
    assert (record.exit_code, record.counts) == (75, {"not ready": 4, "published": 3})
    assert by_day(record, "reason")[3:] == [*(f"{data}/date={day} has no _SUCCESS" for day in DAYS[3:]), "no input yet"]
    assert planned(job(models, data, tmp_path / "w"), which="stale").counts == {"as they are": 6}, "readiness changes no row"


def test_a_run_leaves_what_is_not_ready_for_later(models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("2026-01-03T00:00:00Z")
    given = job(models, data, tmp_path / "w", source__ready={"watermark": str(tmp_path / "mark")})
    record = nightly(given)
    assert record.status == "paused"
    assert {p.key[5:]: p.status for p in record.partitions} == dict.fromkeys(DAYS[:2], "published") | dict.fromkeys(
        DAYS[2:], "paused"
    )
    again = nightly(given)
    assert (again.status, again.message[-17:]) == ("paused", " 4 are not ready.")
    (tmp_path / "mark").write_text("2026-01-07T00:00:00Z")
    assert nightly(given).status == "published"


def test_gaps_are_gaps_and_a_range_without_anything_is_waited_for(models: Path, tmp_path: Path) -> None:
    data = daily.days(tmp_path / "data", [DAYS[0], DAYS[4]])
    given = job(models, data, tmp_path / "w")
    record = back(given)
    assert (record.exit_code, record.counts) == (0, {"empty": 4, "published": 2})
    record = back(given, start="2026-02-01", end="2026-02-03")
    assert (record.exit_code, record.counts) == (75, {"not ready": 2})


def test_published_days_without_input_are_left_alone(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w")
    back(given)
    (data / f"date={DAYS[0]}" / "part.parquet").unlink()
    record = back(given, which="all")
    assert by_day(record, "state")[0] == "gone"
    assert (record.exit_code, versions(tmp_path / "w")[DAYS[0]]) == (0, 1)


def test_several_partitions_of_a_day_are_published_each(models: Path, tmp_path: Path) -> None:
    for region in ("eu", "us"):
        daily.days(tmp_path / "data" / f"region={region}", DAYS[:2])
    record = back(job(models, tmp_path / "data", tmp_path / "w"))
    assert record.counts == {"empty": 4, "published": 4}
    assert by_day(record, "key")[:2] == ["region=eu/date=2026-01-01", "region=us/date=2026-01-01"]


def test_hours_of_a_day_that_has_25(models: Path, tmp_path: Path) -> None:
    for hour in range(30):
        day, n = ("2026-10-24", 22 + hour) if hour < 2 else ("2026-10-25", hour - 2)
        if n < 24:
            daily.write(tmp_path / "data", f"{day}/hour={n:02d}", daily.rows(hour, 3))
    given = job(models, tmp_path / "data", tmp_path / "w")
    record = back(given, start="2026-10-25", end="2026-10-26", timezone="Europe/Berlin")
    assert (record.grain, record.counts) == ("hour", {"published": 25})
    assert (record.intervals[0].key, record.intervals[-1].key) == ("date=2026-10-24/hour=22", "date=2026-10-25/hour=22")


def test_days_of_a_zone_are_ready_when_they_are_over_there(models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("2026-01-02T23:00:00Z")
    given = job(models, data, tmp_path / "w", source__ready={"watermark": str(tmp_path / "mark")})
    assert planned(given).counts == {"not ready": 5, "to score": 1}
    berlin = planned(given, timezone="Europe/Berlin")
    assert (berlin.counts, berlin.intervals[0].start) == ({"not ready": 4, "to score": 2}, "2025-12-31T23:00Z")


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ({"start": ""}, UsageError, "needs start=…"),
        ({"end": "2026-01-01"}, UsageError, "is not after"),
        ({"end": "2026-13-01"}, UsageError, "end=2026-13-01 is no date"),
        ({"which": "stalle"}, UsageError, "Say which=missing|failed|stale|all."),
        ({"order": "up"}, UsageError, "Say order=oldest|newest."),
        ({"grain": "week"}, UsageError, "Say grain=day|hour."),
        ({"grain": "hour"}, ConfigError, "Say grain=day."),
        ({"max_partitions": "0"}, UsageError, "max_partitions=0 is no number from 1 on"),
        ({"max_cost": "-1"}, UsageError, "max_cost=-1 is no number from 0 on"),
        ({"max_cost": "nan"}, UsageError, "max_cost=nan is no number"),
        ({"timezone": "Berlin"}, UsageError, "timezone=Berlin is not known"),
        ({"timezone": "Europe/Berlin", "start": "2026-01-01T00:00Z"}, UsageError, "is not where a day of Europe/Berlin begins"),
        ({"model": "bundle"}, UsageError, "Say model=current, model=as-of or model=pinned:VERSION."),
        ({"model": "pinned:9"}, ConfigError, "no such version. There are: 1, 2."),
    ],
    ids=lambda v: "-".join(v.values()) if isinstance(v, dict) else None,
)
def test_what_cannot_be_asked_for(models: Path, data: Path, tmp_path: Path, words: dict[str, str], error: type, said: str) -> None:
    with pytest.raises(error) as refused:
        planned(job(models, data, tmp_path / "w"), **words)
    assert said in str(refused.value)
    assert type(refused.value) is error


def test_tables_without_days_are_refused_with_a_way_out(models: Path, tmp_path: Path) -> None:
    daily.write(tmp_path / "data", "2026-01", daily.rows(1))
    with pytest.raises(ConfigError, match=r"names a day or an hour.*date=2026-01-31\[/hour=05\]"):
        planned(job(models, tmp_path / "data", tmp_path / "w"))
    daily.write(tmp_path / "data", "2026-01-01", daily.rows(1))
    daily.write(tmp_path / "data", "2026-01-01/hour=05", daily.rows(1))
    with pytest.raises(ConfigError, match=r"is a day and .* an hour"):
        planned(job(models, tmp_path / "data", tmp_path / "w"))
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError):
        planned(job(models, tmp_path / "none", tmp_path / "w"))


def test_words_can_be_said_again() -> None:
    words = {"end": "2026-01-07", "which": "stale,failed", "start": "2026-01-01"}
    assert requests.line(words) == "start=2026-01-01 end=2026-01-07 which=stale,failed"
    assert requests.parse(words).which == ("stale", "failed")


# which model


def test_a_pinned_version_and_the_models_that_answered_then(models: Path, data: Path, tmp_path: Path) -> None:
    """January began with model 1 and went on with model 2; a reproduction makes no day stale, a restatement all that differ."""
    back(job(models, data, tmp_path / "w"), end="2026-01-03")
    two = job(models, data, tmp_path / "w", "2")
    back(two, start="2026-01-04", end="2026-01-06")
    reproduced = planned(two, model="as-of", which="stale,missing")
    assert by_day(reproduced, "state") == ["fresh", "fresh", "missing", "fresh", "fresh", "missing"]
    record = back(two, model="as-of", which="all")
    assert by_day(record, "model") == ["1", "1", "1", "2", "2", "2"], "a gap is answered by the model of the day before"
    assert (record.model_loads, len(record.runs)) == (2, 2)
    assert by_day(planned(two, which="stale"), "why")[:3] == [("model",)] * 3
    pinned = back(two, model="pinned:1", which="stale")
    assert by_day(pinned, "status") == ["", "", "", "published", "published", "published"]
    assert {m.model["version"] for m in manifests(tmp_path / "w")} == {"1"}
    assert by_day(planned(two, model="as-of", which="stale"), "why")[3:] == [("model",), ("model",), ("model",)]


def test_as_of_without_a_past_or_without_its_bundle(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w")
    record = back(given, model="as-of")
    assert (record.exit_code, record.counts) == (78, {"refused": 6})
    assert by_day(record, "reason")[0] == "no model is known to have answered then, or before"
    back(given)
    alone_2 = replace(
        job(models, data, tmp_path / "w", "2"), model=replace(given.model, bundle=str(models / "bundle2"), bundles=())
    )
    with pytest.raises(ConfigError, match=r"answered by version 1 .*model\.bundles=\[…\]"):
        planned(alone_2, model="as-of")


# side by side


def test_two_backfills_share_a_range_and_publish_each_day_once(models: Path, data: Path, tmp_path: Path) -> None:
    given = job(models, data, tmp_path / "w")
    first, second = (in_thread(lambda: back(given, which="all")) for _ in range(2))
    one, two = first(), second()
    statuses = list(zip(by_day(one, "status"), by_day(two, "status"), strict=True))
    done = [pair.count("published") for pair in statuses]
    assert versions(tmp_path / "w") == dict(zip(DAYS, done, strict=True)), statuses
    assert verify(open_store(str(tmp_path / "w"))).ok


def test_live_work_is_let_in_between_intervals_and_lanes_stay_warm(models: Path, tmp_path: Path) -> None:
    """The nightly run comes while a backfill has days left, and changes the answer for one of them."""
    names = [f"2026-01-{n:02d}" for n in range(1, 15)]
    data = daily.days(tmp_path / "data", names)
    late = daily.days(tmp_path / "late", names[-1:])
    given, store = job(models, data, tmp_path / "w"), open_store(str(tmp_path / "w"))
    slow = daily.Slow()
    backfilling = in_thread(lambda: backfill(given, "", {"start": "2026-01-01", "end": "2026-01-15"}, lambda: nullcontext(slow))[0])
    assert slow.begun.wait(60)
    record = nightly(job(models, late, tmp_path / "w", "2"))
    slow.over.set()
    assert record.status == "published"
    found = backfilling()
    assert (found.model_loads, found.counts) == (1, {"published": 13, "skipped": 1})
    last = found.intervals[-1]
    assert f"was published by run {record.run_id} meanwhile" in last.reason
    assert versions(tmp_path / "w") == dict.fromkeys(names, 1)
    assert manifests(tmp_path / "w")[-1].model["version"] == "2"
    assert verify(store).ok


def test_live_work_excludes_live_work_and_a_waiting_backfill_can_be_stopped(
    models: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(str(tmp_path / "w"))
    with alone(store, {"run": "erasure"}):
        with pytest.raises(BusyError, match="erasure"), alone(store, {"run": "another"}):
            pass
        with pytest.raises(PausedError, match=r"Stopped by SIGTERM\. The backfill was waiting"):
            back(job(models, data, tmp_path / "w"), stop=lambda: "Stopped by SIGTERM.")
    with Seat(store, "a backfill", lambda: None) as seat, caplog.at_level("WARNING"):
        waiting = in_thread(lambda: nightly(job(models, data, tmp_path / "w")))
        while not (seat.wanted and "waiting for a backfill (pid" in caplog.text):
            assert versions(tmp_path / "w") == {}, "the run does not wait"
        seat.give_way()
        assert waiting().status == "published"


def test_lanes_that_do_not_know_of_an_erasure_score_nothing_after_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends its pass, and goes on with others."""
    names = [f"2026-01-{n:02d}" for n in range(1, 15)]
    data = tmp_path / "data"
    for n, day in enumerate(names):
        daily.write(data, day, daily.rows(n, 4).append_column("who", pa.array(["a", "b", "c", "d"])))
    monkeypatch.setenv("SCORING_PRIVACY_KEY", KEY)
    contract = {"contract__columns": {"who": {"dtype": "string", "pii": "direct", "treatment": "pseudonymise", "purpose": "t"}}}
    given = job(models, data, tmp_path / "w", **contract, contract__privacy={"subject": "who"}, source__carry=["id", "who"])
    slow = daily.Slow()
    words = {"start": "2026-01-01", "end": "2026-01-15"}
    backfilling = in_thread(lambda: backfill(given, "", words, lambda: nullcontext(slow)))
    assert slow.begun.wait(60)
    erase(str(tmp_path / "w"), "b", "asked for it")
    slow.over.set()
    record, ran = backfilling()
    assert record.counts == {"published": 14}
    assert (record.model_loads, [r.status for _, r in ran]) == (2, ["paused", "published"])
    assert all(sum(m.counts.values()) - m.counts["suppressed"] == 3 for m in manifests(tmp_path / "w"))


# the command


def command(*words: str) -> subprocess.CompletedProcess[str]:
    known = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "scoring", *words], env=known, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command(models: Path, data: Path, tmp_path: Path) -> None:
    given = ["source=parquet", f"source.path={data}", f"model.bundle={models}/bundle1", f"workspace={tmp_path}/w"]
    words = [*given, "engine=inline", "watch=off", "respond.lineage.enabled=false", "start=2026-01-01", "end=2026-01-08"]
    shown = command("backfill", *words, "--dry-run")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "2026-01     MMMMMM-" in shown.stdout
    assert not (tmp_path / "w").exists()
    done = command("backfill", *words, "--json")
    record = json.loads(done.stdout)
    assert (done.returncode, record["counts"], record["model_loads"]) == (0, {"empty": 1, "published": 6}, 1)
    assert (record["intervals"][0]["start"], record["intervals"][0]["end"]) == ("2026-01-01T00:00Z", "2026-01-02T00:00Z")
    kept = json.loads((tmp_path / "w" / "runs" / record["runs"][0] / "record.json").read_text())
    assert kept["environment"]["backfill"] == "start=2026-01-01 end=2026-01-08"
    assert (tmp_path / "w" / "runs" / record["runs"][0] / "report.html").exists()

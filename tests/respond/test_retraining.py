"""Asking for a training: k of the n latest judged partitions, never on a broken feed, cool-down, budget, and each thing once."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from past_runs import MODEL, NAME, calm, check, day, drifted, finding, ran

from scoring.respond.outbox import Message
from scoring.respond.retraining.command import Command
from scoring.respond.retraining.decide import Asked, decide
from scoring.respond.retraining.judged import Verdict, merged
from scoring.respond.retraining.tell import EVENTS, FOLDER, Asking
from scoring.settings import Retraining
from scoring.stores import LocalStore

ASKING = Retraining(enabled=True, url="http://there", command=("true",), approvals=("model-owner",), min_rows=2000)
CANARY = "canary-secret-77aa"


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "w"))


def told(store, story, asking=ASKING, environment=None):
    return Asking(store, NAME, asking, environment or {}).tell(story)


def events(store):
    return [json.loads(store.get(key)) for key in store.list(EVENTS)]


def kinds(store):
    return [e["type"].removeprefix("scoring.") for e in events(store)]


def test_the_event_is_whole_and_in_the_workspace_and_for_each_receiver(store):
    made = told(store, ran(store, 1, calm(1), calm(2), drifted(3, moved=0.4), drifted(4), drifted(5)))
    assert [m.to for m in made] == ["retraining-http", "retraining-command"]
    (written,) = events(store)
    assert {m.body for m in made} == {json.dumps(written, sort_keys=True)}
    assert {m.content_type for m in made} == {"application/cloudevents+json"}
    event = JSONFormat().read(None, made[0].body)  # the library's own validation
    assert (event.get_type(), event.get_source(), event.get_subject(), event.get_specversion()) == (
        "scoring.retrain.requested.v1", "/scoring/churn-nightly", "models:/churn", "1.0"
    )  # fmt: skip
    assert event.get_time() == datetime(2026, 1, 5, 0, 1, 30, tzinfo=UTC)
    data = written["data"]
    assert data["why"] == "3 of the 5 latest judged partitions drifted"
    said = [(r["partition"], r["name"], r["subject"], r["moved"]) for r in data["reasons"]]
    assert said == [(f"date=2026-01-0{n}", "drift", "amount", moved) for n, moved in ((3, 0.4), (4, 0.3), (5, 0.3))]
    assert data["model"] == MODEL
    assert data["baseline"] == {"digest": "b" * 64, "bundle": "/models/churn"}
    assert data["suggested_training_interval"] == {"start": "2026-01-03T00:00:00+00:00", "end": "2026-01-06T00:00:00+00:00"}
    assert (data["window"]["start"], len(data["window"]["partitions"])) == ("2026-01-01T00:00:00+00:00", 5)
    assert (data["rows"], data["labels"], data["approvals_needed"]) == (3000, None, ["model-owner"])
    assert data["reproduce"] == f"scoring report run-001 workspace={store.root}"


def test_the_same_run_told_twice_gives_the_same_and_one_event(store):
    story = ran(store, 1, drifted(1), drifted(2), drifted(3))
    assert told(store, story) == told(store, story) != ()
    assert len(events(store)) == 1


def test_nights_count_as_a_month_at_once(store):
    for n in range(1, 4):
        told(store, ran(store, n, drifted(n)))
    assert kinds(store) == ["retrain.requested.v1"]


def test_the_window_goes_by_days_not_by_runs(store):
    """An old month that is scored again drifts, and is no reason: the latest days are calm."""
    told(store, ran(store, 1, *map(calm, range(20, 25))))
    told(store, ran(store, 2, *map(drifted, range(1, 6))))
    assert events(store) == []


def test_partitions_that_name_no_day_count_each_time(store):
    for n in range(1, 4):
        assert events(store) == []
        told(store, ran(store, n, drifted(0, key="all")))
    (event,) = events(store)
    assert event["data"]["suggested_training_interval"] is None
    assert [p["run_id"] for p in event["data"]["window"]["partitions"]] == ["run-001", "run-002", "run-003"]


@pytest.mark.parametrize(
    "broken",
    [
        {"checks": [check("contract:unique", "date=2026-01-05", "fail", "error")]},
        {"checks": [check("bad_files", "date=2026-01-05", "warn")]},
        {"checks": [check("readable", "date=2026-01-05", "fail", "error")]},
        {"findings": [finding("history", "volume", 9.0)]},
        {"findings": [finding("null_rate", "age", 0.5, "fail") | {"cause": "null burst"}]},
        {"findings": [finding("null_rate", "age", 0.9, "fail") | {"cause": "empty"}]},
    ],
    ids=["contract", "file", "unreadable", "volume", "nulls", "empty"],
)
def test_a_broken_feed_is_an_incident_and_mended_it_is_a_request(broken, store):
    story = ran(store, 1, *map(drifted, range(1, 5)), day(5, **broken))
    (event,) = {m.body for m in told(store, story)}
    said = json.loads(event)
    assert said["type"] == "scoring.data.incident.v1"
    assert said["data"]["verdict"] == "fix upstream"
    assert {r["partition"] for r in said["data"]["reasons"]} == {"date=2026-01-05"}
    assert "approvals_needed" not in said["data"]
    assert told(store, ran(store, 2, drifted(4))) == (), "the same break is told once"
    told(store, ran(store, 3, calm(5)))
    assert kinds(store) == ["data.incident.v1", "retrain.requested.v1"]


def test_more_nulls_that_may_be_the_world_are_a_doubt(store):
    doubtful = [finding("null_rate", "age", 0.14) | {"cause": "null burst", "words": "16% -> 30%"}]
    told(store, ran(store, 1, *map(drifted, range(1, 5)), day(5, findings=[*doubtful, finding("drift", "amount", 0.01, "pass")])))
    (event,) = events(store)
    assert event["type"] == "scoring.retrain.requested.v1"
    assert [(d["subject"], d["actual"]) for d in event["data"]["doubts"]] == [("age", "16% -> 30%")]


def test_drift_below_the_threshold_and_of_segments_is_none(store):
    small = [drifted(n, moved=0.05) for n in range(1, 4)]
    part = [day(n, findings=[finding("drift", "amount", 0.9, "fail", "country=SE")]) for n in range(4, 7)]
    assert told(store, ran(store, 1, *small, *part)) == ()


def test_another_model_starts_anew(store):
    told(store, ran(store, 1, drifted(1), drifted(2)))
    told(store, ran(store, 2, drifted(3), model=MODEL | {"digest": "cd" * 32}))
    assert events(store) == []


def test_few_rows_are_no_reason(store):
    assert told(store, ran(store, 1, *(drifted(n, scored=500) for n in (1, 2, 3)))) == ()
    (kept,) = store.list(FOLDER)
    assert json.loads(store.get(kept))["decision"].endswith("1,500 rows in them, fewer than min_rows (2,000)")


def test_a_damaged_state_is_made_again_from_the_record(store):
    told(store, ran(store, 1, drifted(1)))
    told(store, ran(store, 2, drifted(2)))
    for key in list(store.list(FOLDER)):
        store.replace(key, b'{"verdicts": [{}], "decision": 3}')
    told(store, ran(store, 3, drifted(3)))
    assert kinds(store) == ["retrain.requested.v1"]


def test_a_damaged_event_still_counts(store):
    told(store, ran(store, 1, drifted(1), drifted(2), drifted(3)))
    (key,) = store.list(EVENTS)
    store.replace(key, b"\x00")
    told(store, ran(store, 2, drifted(4)))
    assert list(store.list(EVENTS)) == [key], "the cool-down goes by names"


def test_secrets_of_the_environment_are_in_no_event(store):
    leaky = [
        day(n, [check("drift", "amount", "fail", actual=CANARY)], [finding("drift", "amount", 0.5, "fail")]) for n in (1, 2, 3)
    ]
    made = told(store, ran(store, 1, *leaky), environment={"DB_PASSWORD": CANARY})
    assert made
    assert CANARY not in json.dumps([*(m.body for m in made), *events(store)])
    assert json.loads(made[0].body)["data"]["reasons"][0]["actual"] == "***"


@st.composite
def nights(draw):
    """(day of the year, hours since the last run, drifted, broken, rows), each a run of one partition."""
    one = st.tuples(
        st.integers(0, 400), st.integers(1, 24 * 20), st.booleans(), st.integers(0, 9).map(lambda n: n == 0), st.integers(0, 3)
    )
    return draw(st.lists(one, min_size=1, max_size=25))


@settings(max_examples=80)
@given(
    nights(),
    st.builds(
        Retraining,
        drifted=st.integers(1, 3),
        of_last=st.integers(3, 5),
        cool_down_days=st.sampled_from([0.0, 3.0, 10.0]),
        monthly_budget=st.integers(1, 2),
        min_rows=st.integers(0, 4),
    ),
)
def test_the_laws_of_asking(sequence, asking):
    """Whatever comes in which order: k of n, enough rows, no broken feed, cool-down, budget, each id once, told again the same."""
    when, verdicts, past, number = datetime(2026, 1, 1, tzinfo=UTC), (), [], count()
    for place, hours, moved, broken, rows in sequence:
        when += timedelta(hours=hours)
        start = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=place)
        said = ({"name": "drift", "n": next(number)},)
        now = Verdict(
            f"date={start:%Y-%m-%d}", "r", when.isoformat(), start.isoformat(), "", "m", rows, moved, said * moved, said * broken
        )
        verdicts = merged(verdicts, [now])
        made = decide(verdicts, "m", past, when, asking)
        assert made == decide(tuple(Verdict.of(json.loads(json.dumps(v.plain()))) for v in verdicts), "m", past, when, asking)
        window = sorted({v.key: v for v in verdicts}.values(), key=lambda v: v.start)[-asking.of_last :]
        drifting = [v for v in window if v.drifted]
        if made.kind == "nothing":
            continue
        assert len(drifting) >= asking.drifted
        assert any(v.broken for v in window) == (made.kind == "incident")
        asked = Asked(made.kind, made.id("m")[:16], when)
        assert asked.id not in {one.id for one in past}
        if made.kind == "retrain":
            before = [one.when for one in past if one.kind == "retrain"]
            assert sum(v.rows for v in drifting) >= asking.min_rows
            assert all(when - one >= timedelta(days=asking.cool_down_days) for one in before)
            assert Counter((w.year, w.month) for w in [*before, when])[when.year, when.month] <= asking.monthly_budget
        past.append(asked)
        assert decide(verdicts, "m", past, when, asking) == made, "told again in the same second, it is the same"
        later = decide(verdicts, "m", past, when + timedelta(days=400), asking)
        assert later.kind == "nothing", "what was asked for stays asked for"


def message(body="{}"):
    return Message("retraining-command", "1", body)


def test_a_command_gets_the_event_on_its_stdin(tmp_path):
    out = tmp_path / "got"
    Command("c", (sys.executable, "-c", f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())")).send(
        message('{"a": 1}'), 20.0
    )
    assert out.read_text() == '{"a": 1}'


def test_a_command_that_fails_or_is_not_there_has_not_taken_it():
    with pytest.raises(RuntimeError, match="the command ended with 3"):
        Command("c", (sys.executable, "-c", "raise SystemExit(3)")).send(message(), 20.0)
    with pytest.raises(OSError, match="No such file"):
        Command("c", ("/no/such/program",)).send(message(), 1.0)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    pids = tmp_path / "pids"
    pids.touch()
    shell = f"sleep 300 & echo $! >> {pids}; echo $$ >> {pids}; wait"
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Command("c", ("/bin/sh", "-c", shell)).send(message(), 1.0)
    assert time.monotonic() - began < 5
    for pid in map(int, Path(pids).read_text().split()):
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline, "it is left behind"
            os.sched_yield()

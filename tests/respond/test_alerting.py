"""The teller of alerts on a workspace: what it says, when, to whom; and that its state may be damaged, lost or told again."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from past_runs import NAME, calm, check, day, drifted, left, ran, record, settled

from scoring.redact import redacted
from scoring.respond.alerts import quiet
from scoring.respond.alerts.acks import Ack, acknowledge, acknowledged
from scoring.respond.alerts.commands import Said
from scoring.respond.alerts.course import State
from scoring.respond.alerts.tell import FOLDER, Alerting
from scoring.respond.alerts.wording import postable
from scoring.respond.passes import Passes
from scoring.settings import Alertmanager, AlertRule, Alerts, Notify
from scoring.stores import LocalStore
from scoring.types import canonical

UNKNOWN = Said()
CANARY = "canary-secret-55d1"
SETTINGS = Alerts(alertmanager=Alertmanager("http://alertmanager:9093"))
HELD = {"status": "held", "checks": [check("bad_share", "date=2026-01-02", "fail", "error", "0.2", "<= 0.05")]}


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "w"))


def told(store, story, settings=SETTINGS, people=("notify-1",), said=UNKNOWN, environment=None):
    return Alerting(store, NAME, settings, people, environment or {}).tell(story, said)


def posted(messages):
    return [one for m in messages if m.to == "alertmanager" for one in json.loads(m.body)]


def noticed(messages):
    return [json.loads(m.body) for m in messages if m.to.startswith("notify")]


def names(alerts, when="2026-01-05T23:00:00+00:00"):
    """Rules that fire and that are gone, as Alertmanager would see them then."""
    fires = {True: [], False: []}
    for one in alerts:
        fires[one["endsAt"] > when].append(one["labels"]["alertname"])
    return sorted(fires[True]), sorted(fires[False])


def state(store):
    return Passes(store, FOLDER, NAME, State.of, lambda s, o, t: s).newest()


def test_one_message_a_run_says_all_and_what_is_gone(store):
    worst = drifted(2), day(3, [check("bad_files", "date=2026-01-03", "warn")], status="published-with-warnings")
    first = told(store, ran(store, 1, *worst))
    assert [m.to for m in first] == ["alertmanager", "notify-1"]
    assert names(posted(first)) == (["drift", "files-lost"], [])
    (message,) = noticed(first)
    assert message["title"] == "churn-nightly: 2 alert(s), run run-001"
    assert message["type"] == "warning"
    assert "[warn] drift fires: drift of amount in 1 partition(s), date=2026-01-02: 1; expected 0" in message["body"]
    same = told(store, ran(store, 2, drifted(4), day(5, [check("bad_files", "date=2026-01-05", "pass")])))
    assert names(posted(same)) == (["drift"], ["files-lost"])
    assert noticed(same)[0]["title"] == "churn-nightly: 1 gone, run run-002"
    assert noticed(same)[0]["type"] == "success"
    again = told(store, ran(store, 3, drifted(6)))
    assert (names(posted(again)), noticed(again)) == ((["drift"], []), []), "Alertmanager is told again, people are not"
    gone = told(store, ran(store, 4, calm(7)))
    assert names(posted(gone)) == ([], ["drift"])


def test_a_partition_is_no_label(store):
    """Each day would be another alert, and none would ever be seen to last."""
    one = told(store, ran(store, 1, day(2, [check("contract:unique", "date=2026-01-02", "fail", "error")])))
    two = told(store, ran(store, 2, day(3, [check("contract:unique", "date=2026-01-03", "fail", "error")])))
    assert [a["labels"] for a in posted(one)] == [a["labels"] for a in posted(two)]
    assert posted(one)[0]["labels"] == {
        "alertname": "check-failed", "check": "contract:unique", "pipeline": NAME, "severity": "page"
    }  # fmt: skip


def test_the_same_run_told_twice_gives_the_same_messages(store):
    story = ran(store, 1, drifted(2))
    assert told(store, story) == told(store, story) != ()


def test_a_run_that_is_told_late_has_no_news(store):
    told(store, ran(store, 5, drifted(2)))
    assert told(store, ran(store, 4, day(1, **HELD), status="held")) == ()


def test_two_runs_that_begin_in_one_second_are_both_told(store):
    """The second has a name that sorts before the first."""
    told(store, ran(store, 5, drifted(2)))
    second = record(5, calm(3)) | {"run_id": "a-name-of-its-own"}
    assert names(posted(told(store, left(store, second, calm(3))))) == ([], ["drift"])


def test_a_failed_run_hides_its_drift_and_a_held_one_its_warnings(store):
    failed = told(store, ran(store, 1, drifted(2), status="failed", message="the disk is full"))
    assert names(posted(failed)) == (["failed"], [])
    assert "the run ended as failed: the disk is full" in noticed(failed)[0]["body"]
    held = told(store, ran(store, 2, drifted(3), day(2, **HELD), status="held"))
    assert names(posted(held)) == (["held"], ["failed"])
    assert "bad_share 0.2, expected <= 0.05" in noticed(held)[0]["body"]
    mended = told(store, ran(store, 3, drifted(4), status="published-with-warnings"))
    assert names(posted(mended)) == (["drift"], ["held"])


def test_a_run_with_nothing_to_do_mends_what_a_run_can_mend(store):
    told(store, ran(store, 1, drifted(3), day(2, **HELD), status="held"))
    after = told(store, settled(store))
    assert [a["labels"]["alertname"] for a in posted(after)] == ["held"]
    assert [m["title"] for m in noticed(after)] == ["churn-nightly: 1 gone, run run-000"]
    late = told(store, ran(store, 2, drifted(4), year=2999))
    assert names(posted(late), "2999-01-06") == (["drift"], []), "of what was hidden the next run has news"


def test_where_nothing_fires_a_run_with_nothing_to_do_leaves_nothing(store, tmp_path):
    told(store, ran(store, 1, calm(1)))
    assert told(store, settled(store)) == ()
    assert len(list((tmp_path / "w" / FOLDER).iterdir())) == 1


def test_unacknowledged_it_escalates_and_acknowledged_it_does_not(store):
    for n in range(1, 4):
        told(store, ran(store, n, drifted(n)))
    fourth = told(store, ran(store, 4, drifted(4)))
    assert noticed(fourth)[0]["body"].startswith("[page] drift escalated: nobody acknowledged it")
    labels = [(a["labels"]["severity"], a["labels"].get("escalated"), a["endsAt"] > "2026-01-05T23") for a in posted(fourth)]
    assert sorted(labels) == [("page", "true", True), ("warn", None, False)], "under its old labels it has ended"
    (alert,) = state(store).firing
    first = Ack(alert.fingerprint, alert.since, "ada", "looking", "2026-01-05T01:00:00+00:00")
    assert acknowledge(store, first) == first
    assert acknowledge(store, Ack(alert.fingerprint, alert.since, "bob", "me too", "")) == first, "the first stands"
    for n in range(5, 12):
        assert noticed(told(store, ran(store, n, drifted(n)))) == []
    told(store, ran(store, 12, calm(12)))
    assert noticed(told(store, ran(store, 13, drifted(13)))) != []
    assert acknowledged(store, state(store).firing) == {}, "another time it fires, it has to be acknowledged anew"


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{}", b'{"firing": [{}], "gone": [], "history": {}}', b"\xff\xfe"])
def test_a_damaged_state_is_made_again_from_the_record(garbage, store, tmp_path):
    rules = Alerts(rules={"drift": AlertRule(at_least=2, of_last=2)}, alertmanager=SETTINGS.alertmanager)
    for n in (1, 2):
        before = told(store, ran(store, n, drifted(n)), rules)
    assert names(posted(before)) == (["drift"], [])
    newest = sorted((tmp_path / "w" / FOLDER).iterdir())[-1]
    newest.write_bytes(garbage)
    after = told(store, ran(store, 3, drifted(3)), rules)
    assert names(posted(after)) == (["drift"], [])
    assert noticed(after) == [], "they were told of it by the run whose state was damaged"
    assert posted(after)[0]["startsAt"] == posted(before)[0]["startsAt"]


def test_a_lost_state_is_made_again_from_the_last_runs_and_told_once_more(store, tmp_path):
    for n in (1, 2):
        told(store, ran(store, n, drifted(n)))
    for file in (tmp_path / "w" / FOLDER).iterdir():
        file.unlink()
    third = told(store, ran(store, 3, drifted(3)))
    assert posted(third)[0]["startsAt"] == "2026-01-05T00:01:30+00:00", "since the first run"
    assert len(noticed(third)) == 1
    assert noticed(told(store, ran(store, 4, drifted(4)))) == []


def test_old_states_are_swept(store, tmp_path):
    for n in range(1, 56):
        told(store, ran(store, n, drifted(1)))
    assert len(list((tmp_path / "w" / FOLDER).iterdir())) <= 51
    assert state(store).firing[0].since == "2026-01-05T00:01:30+00:00"


def test_metrics_are_held_against_limits(store):
    rules = {
        "nulls": AlertRule(metric="scoring_checks", where={"check": "dr*", "status": "fail"}, above=1.0, labels={"team": "risk"})
    }
    settings = Alerts(rules=rules, alertmanager=SETTINGS.alertmanager)
    first = told(store, ran(store, 1, drifted(2), drifted(3, "age")), settings)
    (mine,) = [a for a in posted(first) if a["labels"]["alertname"] == "nulls"]
    assert mine["labels"] | {"severity": ""} == {
        "alertname": "nulls", "check": "drift", "status": "fail", "pipeline": NAME, "team": "risk", "severity": ""
    }  # fmt: skip
    assert "scoring_checks{check=drift, status=fail} is 2, above 1" in mine["annotations"]["summary"]
    lost = day(4, scored=90)
    lost["rows"] |= {"in": 100, "quarantined": 10}
    assert "quarantine" in names(posted(told(store, ran(store, 2, lost), settings)))[0]


def test_commands_are_whole_and_quoted(store):
    words = redacted(["run", "job=mine", "source.path=my data", f"x.api_key={CANARY}", "u=http://me:pw@x/"], {"MY_TOKEN": CANARY})
    said = Said(tuple(words), "/srv/my jobs")
    story = ran(
        store, 1, drifted(2), day(3, **HELD | {"status": "published"}), day(5, [check("bad_files", "date=2026-01-05", "warn")])
    )
    found = {a["labels"]["alertname"]: a["annotations"] for a in posted(told(store, story, said=said))}
    place = f"workspace={store.root}"
    for one in found.values():
        assert shlex.split(one["reproduce"]) == ["scoring", "report", "run-001", place]
        assert CANARY not in json.dumps(one)
    rescore = found["drift"]["mend"].splitlines()[0].split("  # ")[0]
    line = ["scoring", "run", "job=mine", "source.path=my data", "x.api_key=***", "u=http://***@x/", "release.on_change=rescore"]
    assert shlex.split(rescore) == ["cd", "/srv/my jobs", "&&", *line]
    assert "scoring baseline /data/in bundle=/models/churn" in found["drift"]["mend"]
    assert f"scoring quarantine {place} run=run-001" in found["check-failed"]["mend"]
    assert "scoring requeue job=mine" in found["check-failed"]["mend"]
    assert "release.on_change=rescore" in found["files-lost"]["mend"]


def test_a_held_run_says_how_to_let_it_out(store):
    (held,) = posted(told(store, ran(store, 1, day(2, **HELD), status="held")))
    lines = [line.split("  # ")[0] for line in held["annotations"]["mend"].splitlines()]
    release = ["scoring", "release-held", "run-001", "date=2026-01-02", f"workspace={store.root}", "--reason=…"]
    assert shlex.split(lines[0]) == release
    assert shlex.split(lines[1]) == [*release, "--discard"]
    least = f"source=parquet source.path=/data/in model.bundle=/models/churn workspace={store.root}"
    assert lines[2] == f"scoring run {least} release.on_change=rescore"


def test_secrets_of_the_environment_are_in_no_text(store):
    leaky = day(2, [check("drift", "amount", "fail", actual=f"like {CANARY}"), check("bad_files", CANARY, "warn", expected=CANARY)])
    story = ran(store, 1, leaky, status="failed", message=f"could not log in with {CANARY}")
    made = told(store, story, said=Said(("run", f"a={CANARY}"), f"/{CANARY}"), environment={"SOME_PASSWORD": CANARY})
    assert made
    assert CANARY not in json.dumps([m.body for m in made])
    assert CANARY not in json.dumps(state(store).plain())


def test_warnings_wait_in_quiet_hours_and_pages_do_not(store):
    settings = Alerts(notify=Notify("X", "00:00-00:30", "UTC"))
    made = told(store, ran(store, 1, drifted(3), day(2, [check("contract:unique", "date=2026-01-02", "fail", "error")])), settings)
    assert [(m.id.rsplit("-", 1)[1], m.after, json.loads(m.body)["type"]) for m in made] == [
        ("alerts", "", "failure"),
        ("quiet", "2026-01-05T00:30:00+00:00", "warning"),
    ]
    assert [m.after for m in told(store, ran(store, 40, calm(4)), settings)] == [""]


@pytest.mark.parametrize(
    ("hours", "zone", "when", "until"),
    [
        ("22:00-07:00", "UTC", "2026-01-05T23:00", "2026-01-06T07:00"),
        ("22:00-07:00", "UTC", "2026-01-05T06:59", "2026-01-05T07:00"),
        ("22:00-07:00", "UTC", "2026-01-05T07:00", None),
        ("22:00-07:00", "UTC", "2026-01-05T22:00", "2026-01-06T07:00"),
        ("12:00-13:30", "UTC", "2026-01-05T13:29", "2026-01-05T13:30"),
        ("12:00-13:30", "UTC", "2026-01-05T13:30", None),
        ("22:00-07:00", "Europe/Berlin", "2026-03-28T22:30", "2026-03-29T05:00"),  # clocks go forward that night
        ("22:00-07:00", "Europe/Berlin", "2026-01-05T22:30", "2026-01-06T06:00"),
        (None, "UTC", "2026-01-05T23:00", None),
    ],
)
def test_quiet_hours_end_by_the_wall_clock(hours, zone, when, until):
    found = quiet.until(Notify("X", hours, zone), datetime.fromisoformat(f"{when}:00+00:00"))
    assert found == (None if until is None else datetime.fromisoformat(f"{until}:00+00:00"))


@pytest.mark.parametrize(
    ("hours", "zone"), [("7-22", "UTC"), ("22:00-22:00", "UTC"), ("24:00-07:00", "UTC"), ("22:00-07:00", "Mars/X")]
)
def test_hours_that_are_none_are_refused(hours, zone):
    assert quiet.wrong(Notify("X", hours, zone))


def test_what_alertmanager_gets_is_what_it_takes(store):
    """Ends after it begins, an address that is one, labels that are never empty."""
    story = ran(store, 1, drifted(2))
    (alert,) = posted(told(store, story))
    assert re.fullmatch(r"file:///.*/runs/run-001/report\.html", alert["generatorURL"])
    assert all(alert["labels"].values())
    assert datetime.fromisoformat(alert["endsAt"]) - datetime.fromisoformat(alert["startsAt"]) == timedelta(hours=192)
    assert postable(State(), (), store.root, datetime.now(UTC), 1.0) == ""


def test_a_state_of_another_format_is_no_state(store):
    told(store, ran(store, 1, drifted(2)))
    store.replace(f"{FOLDER}/00000009-20990101000000-x.json", canonical({"version": 9}))
    assert state(store).firing[0].rule == "drift"

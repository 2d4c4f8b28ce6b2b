"""The course of alerts, over any sequence of runs: each law by itself, against a plain reading of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.respond.alerts.course import Alert, Seen, State, advance, fingerprint
from scoring.respond.alerts.matching import Hit
from scoring.respond.alerts.quality import Deed, Quality, qualities
from scoring.respond.alerts.rules import SHIPPED, Rule, rules, wrong
from scoring.settings import AlertRule, Alerts

RULES = (
    Rule("failed", run=("failed",), severity="page", inhibits=("*",)),
    Rule("held", run=("held",), severity="page", inhibits=("severity=warn",)),
    Rule("drift", check=("drift",), at_least=2, of_last=3),
    Rule("nulls", check=("null_rate",), inhibits=("drift",)),
)
SUBJECTS = ("amount", "age")


def hits(rule, subjects):
    return [Hit({} if rule.run else {"subject": s}, f"{rule.name} {s}", ("date=2026-01-01",), 1) for s in subjects]


def mark(rule, subject=None):
    labels = {"alertname": rule.name, "pipeline": "p"} | ({} if rule.run else {"subject": subject})
    return fingerprint(labels)


@st.composite
def runs(draw):
    """What each rule found in each run, None where it cannot tell; and which of the alerts that fire are acknowledged after it."""
    found = {}
    for rule in RULES:
        some = st.lists(st.sampled_from(SUBJECTS[:1] if rule.run else SUBJECTS), unique=True)
        found[rule.name] = draw(some if rule.run else st.none() | some)
    return found, draw(st.booleans())


def walk(sequence, escalate_after=3):
    """(state, notes, found) after each run; a run is told twice, which changes nothing."""
    state, acknowledged, steps = State(), set(), []
    for n, (found, acks) in enumerate(sequence):
        what = {r.name: None if found[r.name] is None else hits(r, found[r.name]) for r in RULES}
        seen = Seen("p", f"r{n}", f"2026-01-01T00:{n:02d}:00+00:00", what)
        before = state
        state, notes = advance(before, seen, RULES, acknowledged, escalate_after)
        again = advance(State.of(json.loads(json.dumps(before.plain()))), seen, RULES, acknowledged, escalate_after)
        assert again == (state, notes), "told again, and from the file, it is the same"
        steps.append((state, notes, found))
        if acks:
            acknowledged |= {(a.fingerprint, a.since) for a in state.firing}
    return steps


@settings(max_examples=30)
@given(st.lists(runs(), max_size=14))
def test_an_alert_is_told_once_a_run_begins_once_and_ends_once(sequence):
    open_now = set()
    for state, notes, _ in walk(sequence):
        assert max(Counter(n.alert.fingerprint for n in notes).values(), default=0) <= 1
        for note in notes:
            if note.kind == "new":
                assert note.alert.fingerprint not in open_now
                open_now.add(note.alert.fingerprint)
            else:
                assert note.alert.fingerprint in open_now
            if note.kind == "resolved":
                open_now.remove(note.alert.fingerprint)
        assert open_now == {a.fingerprint for a in state.firing if a.told}


@settings(max_examples=30)
@given(st.lists(runs(), max_size=14))
def test_it_fires_while_k_of_the_last_n_runs_that_could_tell_found_it(sequence):
    past = {rule.name: [] for rule in RULES}
    for state, _, found in walk(sequence):
        for rule in RULES:
            past[rule.name] += [] if found[rule.name] is None else [set(found[rule.name])]
            for subject in SUBJECTS[:1] if rule.run else SUBJECTS:
                times = sum(subject in run for run in past[rule.name][-rule.of_last :])
                fires = any(a.fingerprint == mark(rule, subject) for a in state.firing)
                assert fires == (times >= rule.at_least)


@settings(max_examples=30)
@given(st.lists(runs(), max_size=14))
def test_what_is_hidden_is_not_told_and_something_always_is(sequence):
    for state, notes, _ in walk(sequence):
        hidden = {a.fingerprint for a in state.firing if a.hidden}
        assert not hidden & {n.alert.fingerprint for n in notes if n.kind != "resolved"}
        assert not state.firing or any(not a.hidden for a in state.firing)
        shown = {a.rule for a in state.firing if not a.hidden}
        if "failed" in shown:
            assert shown == {"failed"}
        if "held" in shown:
            assert not any(a.severity == "warn" and not a.hidden for a in state.firing)


@settings(max_examples=30)
@given(st.lists(runs(), max_size=14), st.integers(0, 3))
def test_it_escalates_only_unacknowledged_and_not_before_its_time(sequence, escalate_after):
    quiet_for, acknowledged = Counter(), set()
    for (state, notes, _), (_, acks) in zip(walk(sequence, escalate_after), sequence, strict=True):
        kinds = {n.alert.fingerprint: n for n in notes}
        for alert in state.firing:
            note = kinds.get(alert.fingerprint)
            quiet_for[alert.fingerprint] += not alert.hidden
            if note and note.kind in ("again", "escalated"):
                assert quiet_for[alert.fingerprint] == escalate_after > 0
                assert (alert.fingerprint, alert.since) not in acknowledged
                assert (alert.severity, alert.escalated) == ("page", True)
                assert (note.kind == "escalated") == ("escalated" not in note.before and bool(note.before))
            if note:
                quiet_for[alert.fingerprint] = 0
        for gone in (n.alert.fingerprint for n in notes if n.kind == "resolved"):
            del quiet_for[gone]
        if acks:
            acknowledged |= {(a.fingerprint, a.since) for a in state.firing}


def one(name, **found):
    what = {rule.name: [] if rule.run else None for rule in RULES}
    return Seen("p", name, "2026-01-01T00:00:00+00:00", what | found)


def test_a_failed_run_hides_its_drift_and_says_nothing_of_what_it_did_not_judge():
    drifted = one("r1", drift=hits(RULES[2], ["amount"]))
    state, _ = advance(State(), drifted, RULES, (), 0)
    state, notes = advance(state, replace(drifted, run_id="r2"), RULES, (), 0)
    assert [(n.kind, n.alert.rule) for n in notes] == [("new", "drift")]
    state, notes = advance(state, one("r3", failed=hits(RULES[0], ["x"])), RULES, (), 0)
    assert [(n.kind, n.alert.rule) for n in notes] == [("new", "failed")]
    assert {a.rule: a.hidden for a in state.firing} == {"failed": False, "drift": True}


def test_an_alert_that_is_hidden_hides_none():
    failed, _, drift, nulls = RULES
    chain = (replace(failed, inhibits=("nulls",)), replace(drift, at_least=1), nulls)
    seen = one("r1", failed=hits(failed, ["x"]), nulls=hits(nulls, ["age"]), drift=hits(drift, ["amount"]))
    for ordered in (chain, (chain[0], nulls, chain[1])):
        state, _ = advance(State(), seen, ordered, (), 0)
        assert {a.rule: a.hidden for a in state.firing} == {"failed": False, "nulls": True, "drift": False}


def test_a_run_that_finds_everything_published_mends_what_was_wrong_with_runs_alone():
    state, _ = advance(State(), one("r1", failed=hits(RULES[0], ["x"]), nulls=hits(RULES[3], ["age"])), RULES, (), 0)
    state, notes = advance(state, replace(one("r1"), settled=True), RULES, (), 0)
    assert [(n.kind, n.alert.rule) for n in notes] == [("resolved", "failed")]
    _, notes = advance(state, one("r2", nulls=hits(RULES[3], ["age"])), RULES, (), 0)
    assert [(n.kind, n.alert.rule) for n in notes] == [("new", "nulls")]


def test_an_alert_of_a_rule_that_is_gone_is_gone():
    state, _ = advance(State(), one("r1", nulls=hits(RULES[3], ["age"])), RULES, (), 0)
    _, notes = advance(state, one("r2"), RULES[:3], (), 0)
    assert [(n.kind, n.alert.rule) for n in notes] == [("resolved", "nulls")]


def test_the_fingerprint_is_that_of_the_labels_without_severity():
    page = tuple(replace(rule, severity="page") for rule in RULES)
    first, _ = advance(State(), one("r1", nulls=hits(RULES[3], ["age"])), RULES, (), 0)
    other, _ = advance(State(), one("r9", nulls=hits(RULES[3], ["age"])), page, (), 0)
    assert first.firing[0].fingerprint == other.firing[0].fingerprint == mark(RULES[3], "age")
    assert (first.firing[0].severity, other.firing[0].severity) == ("warn", "page")


NAMES = st.sampled_from(["firing", "gone", "history", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
)


@settings(max_examples=50)
@given(JSON)
def test_a_state_is_a_state_or_refused_with_what_the_reader_expects(raw):
    try:
        state = State.of(raw)
    except (TypeError, ValueError, KeyError, AttributeError):
        return
    advance(state, one("r"), RULES, (), 1)


def test_shipped_rules_can_be_changed_in_part_and_joined_by_others():
    own = {"drift": AlertRule(at_least=2), "files-lost": AlertRule(enabled=False), "slow": AlertRule(metric="m", below=5.0)}
    found = {rule.name: rule for rule in rules(Alerts(rules=own))}
    assert set(found) == {*SHIPPED, "slow"} - {"files-lost"}
    assert (found["drift"].check, found["drift"].at_least, found["drift"].of_last) == (("drift", "score_drift"), 2, 2)
    assert wrong(Alerts(rules=own)) == ""


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("a b", AlertRule(run=("held",)), "is no name"),
        ("mine", AlertRule(), "it looks at nothing"),
        ("drift", AlertRule(run=("held",)), "it looks at check and run"),
        ("mine", AlertRule(metric="m"), "is held against nothing"),
        ("mine", AlertRule(metric="m", above=1.0, below=2.0), "is held against nothing, or two things"),
        ("mine", AlertRule(run=("held",), at_least=3, of_last=2), "can never be"),
        ("mine", AlertRule(run=("held",), labels={"severity": "x"}), "cannot be a label of yours"),
        ("mine", AlertRule(run=("held",), labels={"a-b": "x"}), "cannot be a label of yours"),
        ("mine", AlertRule(run=("held",), labels={"api_key": "x"}), "looks like a secret"),
    ],
)
def test_what_can_be_no_rule_is_said_by_name(name, rule, said):
    found = wrong(Alerts(rules={name: rule}))
    assert said in found
    assert name in found


def fired(n, rule="drift", **more):
    given = {"since": f"2026-01-{n:02d}T00:00:00+00:00", "until": f"2026-01-{n:02d}T12:00:00+00:00", "told": True}
    return Alert(f"f{n}", rule, "warn", {}, "", "r", **given | {"partitions": ("date=2026-01-01",)} | more)


def test_a_rule_that_moves_nobody_is_noisy_and_what_somebody_decided_counts():
    noisy, held = [fired(n) for n in range(1, 6)], [fired(n, "held") for n in range(1, 6)]
    hidden = fired(6, "held", told=False)
    deeds = [Deed("date=2026-01-01", "2026-01-02T06:00:00+00:00"), Deed("date=2026-01-09", "2026-01-03T06:00:00+00:00")]
    late = [Deed("date=2026-01-01", "2026-01-04T13:00:00+00:00")]
    found = qualities([*noisy, *held, hidden], {("f1", held[0].since)}, [*deeds, *late])
    assert found == (Quality("drift", 5, 2, 0.4, False), Quality("held", 5, 2, 0.4, False)), "f1 was acknowledged, f2 decided on"
    (alone,) = qualities(noisy, set(), late)
    assert (alone.acted_on, alone.noisy) == (0, True)
    (few,) = qualities(noisy[:4], set(), ())
    assert not few.noisy, "too few to tell"
    (open_still,) = qualities([fired(1, until="")], set(), late)
    assert open_still.acted_on == 1

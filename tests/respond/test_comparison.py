"""Two runs side by side: nothing stands out of equal ones, and whatever differs does."""

from dataclasses import replace

from hypothesis import given
from hypothesis import settings as hypothesis
from pages import Page, account, facts, watched

from scoring.respond.report import comparison, page
from scoring.respond.report.facts import Facts
from scoring.types import Check, PartitionRecord

COUNTS = {"in": 1_010, "scored": 1_000, "quarantined": 10, "suppressed": 0}


def led(first: Facts, second: Facts) -> dict[str, list[str]]:
    """Names of the facts that differ, by group."""
    return {g.title: [p.name for p in g.lead] for g in comparison.groups(first, second) if g.lead}


@hypothesis(max_examples=30)
@given(facts, facts)
def test_any_two_runs_can_be_compared(one, other):
    text = page.compare(one, other)
    found = Page(text)
    assert found.problems == []
    assert "<script" not in text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert page.compare(one, other) == text


@hypothesis(max_examples=30)
@given(facts)
def test_nothing_differs_between_a_run_and_itself(one):
    assert led(one, one) == {}
    assert "Nothing that was recorded differs." in comparison.sentence(one, one)


def test_what_differs_is_named_and_nothing_else():
    passed, failed = (Check("bad_rows", "a", status, "error", "", "") for status in ("pass", "fail"))
    first = Facts(
        account(
            partitions=(PartitionRecord("a", "published", COUNTS, (passed,)),), reasons={"x:range": 10}, environment={"torch": "1"}
        ),
        "w",
        {"source.path": "in", "contract.columns.amount.max": "500"},
        columns=(watched("amount", "pass"), watched("calm", "pass")),
    )
    fewer = COUNTS | {"scored": 990, "quarantined": 20}
    second = replace(
        first,
        record=replace(
            first.record,
            rows=fewer,
            partitions=(PartitionRecord("a", "held", fewer, (failed,)),),
            reasons={"x:range": 20},
            environment={"torch": "2"},
        ),
        settings={"source.path": "in", "contract.columns.amount.max": "50"},
        columns=(watched("amount", "warn"), watched("calm", "pass")),
    )
    assert led(first, second) == {
        "Account of rows": ["scored", "quarantined"],
        "Partitions": ["a"],
        "Checks": ["bad_rows"],
        "Drift": ["amount"],
        "Quarantine by rule": ["x:range"],
        "Model, environment and settings": ["torch", "contract.columns.amount.max"],
    }
    (change,) = (p.change for g in comparison.groups(first, second) for p in g.lead if p.name == "x:range")
    assert change == "+100.0%"


def test_what_only_one_run_has_is_shown_beside_nothing():
    first, second = Facts(account(reasons={"x": 1}), "w", {"a": "1"}), Facts(account(), "w")
    (pair,) = (p for g in comparison.groups(first, second) for p in g.lead if p.name == "a")
    assert (pair.first, pair.second) == ("1", "\N{EN DASH}")

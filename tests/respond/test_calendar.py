"""The calendar: every day stands in its place, with the letter of the worst of its partitions."""

from datetime import UTC, datetime, timedelta

import pytest

from scoring.respond.calendar import LEGEND, draw, letter


def days(first, letters):
    return [(datetime.fromisoformat(first).replace(tzinfo=UTC) + timedelta(days=n), one) for n, one in enumerate(letters)]


def test_months_are_lines_and_days_have_their_column():
    lines = draw(days("2028-02-28", "MS."), hours=False)
    head, february, march = lines[:3]
    assert head.endswith("1234567890123456789012345678901")
    assert (february[:7], february[12:][27:29]) == ("2028-02", "MS")
    assert (march[:7], march[12:]) == ("2028-03", ".")
    assert [line.split()[0] for line in lines[3:]] == ["M", "S", "."]


def test_hours_are_columns_of_their_day():
    start = datetime(2026, 1, 1, 22, tzinfo=UTC)
    lines = draw([(start + timedelta(hours=n), one) for n, one in enumerate("MwM")], hours=True)
    assert [line[12:] for line in lines[1:3]] == [" " * 22 + "Mw", "M"]


def test_the_worst_of_a_day_is_shown_and_colours_add_nothing_else():
    cells = [*days("2026-01-01", ".s"), *days("2026-01-01", "M.")]
    assert draw(cells, False)[1][12:] == "Ms"
    painted = draw(cells, False, colour=True)
    assert "\x1b[32mM\x1b[0m" in painted[1]


@pytest.mark.parametrize("state", ["missing", "failed", "stale", "fresh", "gone", "empty"])
@pytest.mark.parametrize("action", ["score", "keep", "wait", "later", "refuse", "none"])
def test_every_state_has_a_letter_that_is_explained(state, action):
    if action == "score" and state in ("gone", "empty"):
        return
    assert letter(state, action) in LEGEND
    assert letter(state, action).isupper() == (action == "score")

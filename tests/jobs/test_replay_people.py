"""Replays of rows about people: pseudonyms come out again, whoever is left out or erased is stepped over, nobody is shown."""

import json
import os
from dataclasses import asdict

import people
import pytest
import yaml
from people import COLUMNS, mail, plain, rejected, scored, truth

from scoring.__main__ import kept
from scoring.errors import ConfigError
from scoring.jobs.erase import erase
from scoring.jobs.replay import code, render, replay
from scoring.jobs.run import run
from scoring.settings import Job, build

ANNA, BOB = 8, 5  # both have rows that are scored and rows that are quarantined


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SCORING_PRIVACY_KEY", people.KEY)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return people.make(tmp_path_factory.mktemp("people"))


def published(place, workspace, **changes):
    given = plain(place, workspace, run_id="r", **changes)
    assert run(build(Job, given), yaml.safe_dump(given), people.Quiet()).status.startswith("published")
    return workspace


def again(workspace, **words):
    found = replay(str(workspace), "r", kept, **words)
    said = json.dumps(asdict(found)) + render(found)
    assert not [person for person in range(people.PEOPLE) if mail(person) in said]
    assert "Canary" not in said
    return found


def assert_reproduced(found, workspace):
    rows = len(scored(workspace))
    assert (found.status, found.carried, found.treated, found.missing, found.skipped) == ("reproduced", 0, 0, 0, ())
    assert found.rows.bit_equal == rows == found.sample.taken


def test_pseudonyms_masks_and_scores_come_out_again(place, tmp_path):
    workspace = published(place, tmp_path / "w")
    assert_reproduced(again(workspace), workspace)
    assert again(workspace, sample=7).rows.bit_equal == 7


def test_another_key_is_told_and_is_no_difference_of_scores(place, tmp_path, monkeypatch):
    workspace = published(place, tmp_path / "w")
    monkeypatch.setenv("SCORING_PRIVACY_KEY", "ab" * 32)
    found = again(workspace)
    assert (found.status, found.carried, found.treated) == ("reproduced", 0, found.rows.bit_equal)
    monkeypatch.delenv("SCORING_PRIVACY_KEY")
    with pytest.raises(ConfigError, match="SCORING_PRIVACY_KEY is not set"):
        again(workspace)


def test_people_on_the_list_of_the_run_are_stepped_over(place, tmp_path):
    (tmp_path / "list.txt").write_text(f"{mail(ANNA)}\n{mail(BOB)}\n")
    workspace = published(place, tmp_path / "w", contract__privacy={"subject": "email", "suppress": str(tmp_path / "list.txt")})
    os.unlink(tmp_path / "list.txt")
    assert_reproduced(again(workspace), workspace)
    assert again(workspace, sample=10).rows.bit_equal == 10


def test_people_who_were_erased_are_stepped_over(place, tmp_path):
    workspace = published(place, tmp_path / "w")
    rows = len(scored(workspace))
    assert erase(str(workspace), mail(ANNA), "asked").proven
    gone = [r for r in truth(place) if r["email"] == mail(ANNA)]
    found = again(workspace)
    assert_reproduced(found, workspace)
    assert found.rows.bit_equal == rows - sum(r["amount"] >= 0 for r in gone) < rows
    assert again(workspace, sample=9).rows.bit_equal == 9
    assert rejected(workspace)


def test_an_input_that_an_erasure_rewrote_is_compared_where_places_are_known(tmp_path):
    """Row groups without quarantined rows keep the places of theirs; of the others nobody knows them any more."""
    place = people.make(tmp_path / "p")
    workspace = published(place, tmp_path / "w")
    assert erase(str(workspace), mail(ANNA), "asked", datasets=(str(place / "data"),)).proven
    found = again(workspace)
    assert (found.status, found.carried, code(found)) == ("reproduced", 0, 0)
    assert set(found.inputs.values()) == {"erased"}
    assert found.skipped
    assert all("people were erased from it" in one.why for one in found.skipped)
    assert found.rows.bit_equal + sum(one.rows for one in found.skipped) == len(scored(workspace))


def test_without_dirt_all_of_a_rewritten_input_is_compared(tmp_path):
    place = people.make(tmp_path / "p")
    workspace = published(place, tmp_path / "w", contract__columns=COLUMNS | {"amount": {"dtype": "float64"}})
    assert erase(str(workspace), mail(ANNA), "asked", datasets=(str(place / "data"),)).proven
    assert_reproduced(again(workspace), workspace)

"""OpenLineage events: what they say, that the official classes and the published schemas take them, what is sent once."""

import copy
import inspect
import json

import pytest
from openlineage.client import facet_v2
from openlineage.client.serde import Serde
from schemas import complaints, facets
from told_story import DIGEST, FINISHED, PARENT, STARTED, check, partition, story

from scoring.respond.lineage.events import events, running
from scoring.respond.lineage.journal import Journal, messages, serialised
from scoring.settings import Lineage
from scoring.stores import LocalStore

PROGRESS = {"rows": {"done": 120, "planned": 204}, "scored": 118, "rows_per_second": 61.5}
NOW = "2026-01-04T01:01:00.250+00:00"
STORIES = {
    "published": story(),
    "held": story("held", held=True),
    "paused": story("paused", message="Stopped by SIGTERM."),
    "failed": story("failed", message="the disk is full", partitions=(), schema=(), asked={}, config=""),
    "bucket": story(workspace="s3://scores/eu", partitions=(partition(1),)),
}


def plain(found, environment=None, **settings):
    return [Serde.to_dict(e) for e in events(found, Lineage(**settings), environment or {})]


def dataset(event, side, name):
    return next(d for d in event[side] if d["name"] == name)


@pytest.mark.parametrize(("status", "kind"), [("published", "COMPLETE"), ("held", "FAIL"), ("paused", "ABORT"), ("failed", "FAIL")])
def test_a_run_starts_and_ends(status, kind):
    start, end = plain(STORIES[status])
    assert (start["eventType"], start["eventTime"]) == ("START", STARTED)
    assert (end["eventType"], end["eventTime"]) == (kind, FINISHED)
    assert start["run"]["runId"] == end["run"]["runId"]
    assert (end["job"]["namespace"], end["job"]["name"]) == ("scoring", "churn-nightly")
    assert ("errorMessage" in end["run"]["facets"]) == (status != "published")
    assert "errorMessage" not in start["run"]["facets"]


def test_why_it_ended_is_said():
    assert plain(STORIES["held"])[1]["run"]["facets"]["errorMessage"]["message"] == "Held by a gate: date=2026-01-03."
    assert plain(STORIES["failed"])[1]["run"]["facets"]["errorMessage"]["message"] == "the disk is full"


def test_each_pass_of_a_run_is_a_run_of_its_own_and_the_same_again():
    first, again = (plain(story())[0]["run"]["runId"] for _ in range(2))
    later = story()
    later = story(record={**later.record, "started": "2026-01-05T01:00:00+00:00"})
    assert first == again != plain(later)[0]["run"]["runId"]


def going(now=NOW):
    return running(story(), Lineage(), {"OPENLINEAGE_PARENT_ID": PARENT}, PROGRESS, now)


def whole():
    return serialised(events(story(), Lineage(), {}))


def test_messages_sort_as_they_are_to_come():
    start, end = whole()
    later = [serialised([going(f"2026-01-04T01:{minute:02d}:00.250+00:00")])[0] for minute in (1, 2, 10)]
    found = messages(story(), [end, *reversed(later), start])
    assert [m.body for m in sorted(found, key=lambda m: m.id)] == [start, *later, end]
    assert len({m.id for m in found}) == 5


def test_how_far_a_run_is():
    said = Serde.to_dict(going())
    assert (said["eventType"], said["eventTime"]) == ("RUNNING", NOW)
    assert said["run"]["runId"] == plain(story())[0]["run"]["runId"]
    tags = {tag["key"]: tag["value"] for tag in said["run"]["facets"]["tags"]["tags"]}
    assert tags == {"scoring_run_id": "r", "rows_done": "120", "rows_planned": "204", "rows_per_second": "61.5"}
    assert dataset(said, "inputs", "/data/in")["inputFacets"]["inputStatistics"]["rowCount"] == 120
    assert dataset(said, "outputs", "/w/scores")["outputFacets"]["outputStatistics"]["rowCount"] == 118
    assert said["run"]["facets"]["parent"]["run"]["runId"] == PARENT.rsplit("/", 1)[1]


@pytest.fixture
def journal(tmp_path):
    return Journal(LocalStore(str(tmp_path)), story())


def test_the_file_holds_an_event_once(journal, tmp_path):
    journal.add(whole())
    journal.add(whole())
    standing = (tmp_path / "runs/r/openlineage.jsonl").read_text().splitlines()
    assert [json.loads(line)["eventType"] for line in standing] == ["START", "COMPLETE"]


def test_what_was_kept_while_the_run_went_on_is_not_sent_again(journal):
    start, end = whole()
    assert journal.unsent([start, end]) == [start, end]
    journal.add([start])
    journal.add(serialised([going()]))
    assert journal.unsent([start, end]) == [end]


def test_a_pass_whose_telling_was_cut_off_is_told_whole(journal):
    start, end = whole()
    live = serialised([going()])
    for lines in ([start], live, [end]):
        journal.add(lines)
    assert journal.unsent([start, end]) == [start, *live, end]


def test_another_pass_in_the_file_is_no_matter(journal, tmp_path):
    other = Journal(LocalStore(str(tmp_path)), story(record={**story().record, "started": "2026-01-03T01:00:00+00:00"}))
    journal.add(whole()[:1])
    assert other.unsent(whole()) == whole()


def test_a_line_that_was_cut_off_is_no_matter(journal, tmp_path):
    journal.add(whole()[:1])
    with open(tmp_path / "runs/r/openlineage.jsonl", "a") as file:
        file.write(whole()[1][:200])
    assert journal.unsent(whole()) == whole()[1:]


def test_nominal_time_and_parent():
    said = plain(story(), {"OPENLINEAGE_PARENT_ID": PARENT})[0]["run"]["facets"]
    assert said["nominalTime"]["nominalStartTime"] == "2026-01-01T00:00:00+00:00"
    assert said["nominalTime"]["nominalEndTime"] == "2026-01-03T00:00:00+00:00"
    assert (said["parent"]["job"]["namespace"], said["parent"]["job"]["name"]) == ("airflow", "nightly.score")
    assert said["parent"]["run"]["runId"] == PARENT.rsplit("/", 1)[1]
    assert plain(story(), {}, parent=PARENT)[0]["run"]["facets"]["parent"] == said["parent"]
    assert "parent" not in plain(story(), {"OPENLINEAGE_PARENT_ID": "no such thing"})[0]["run"]["facets"]


def test_inputs_are_the_rows_and_the_model():
    end = plain(story())[1]
    rows = dataset(end, "inputs", "/data/in")
    assert rows["namespace"] == "file"
    assert [(f["name"], f.get("type")) for f in rows["facets"]["schema"]["fields"]] == [
        ("row", None),
        ("email", "string"),
        ("amount", "float64"),
        ("age", "int64"),
    ]
    counted = rows["inputFacets"]
    assert {k: counted["inputStatistics"][k] for k in ("rowCount", "size", "fileCount")} == {
        "rowCount": 204,
        "size": 12345,
        "fileCount": 5,
    }
    columns = counted["dataQualityMetrics"]["columnMetrics"]
    assert {k: columns["amount"][k] for k in ("nullCount", "count", "min", "max")} == {
        "nullCount": 20,
        "count": 180.0,
        "min": 0.5,
        "max": 99.0,
    }
    assert not {"min", "max"} & columns["age"].keys(), "the least age is a person's"
    model = dataset(end, "inputs", "churn")
    assert (model["namespace"], model["facets"]["version"]["datasetVersion"]) == ("models", "3")
    assert model["facets"]["tags"]["tags"][0]["value"] == DIGEST


def test_checks_are_assertions_what_is_wrong_first():
    found = dataset(plain(STORIES["held"])[1], "inputs", "/data/in")["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(a["assertion"], a["success"], a["severity"], a.get("column")) for a in found] == [
        ("bad_share", False, "error", None),
        ("drift", False, "warn", "amount"),
        ("bad_rows", True, "error", None),
    ]
    assert found[2]["params"] == {"partitions": 2, "first": "date=2026-01-01"}


def test_many_checks_do_not_make_a_message_of_megabytes():
    many = tuple(partition(1, checks=[check(f"c{n}", "x", "warn") for n in range(2000)]) for _ in range(3))
    found = dataset(plain(story(partitions=many))[1], "inputs", "/data/in")["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert len(found) == 500


def test_columns_come_from_columns_and_personal_ones_are_masked():
    scores = dataset(plain(story())[1], "outputs", "/w/scores")
    lineage = scores["facets"]["columnLineage"]
    assert set(lineage["fields"]) == {"row", "email", "score"}
    email = lineage["fields"]["email"]["inputFields"][0]
    assert (email["namespace"], email["name"], email["field"]) == ("file", "/data/in", "email")
    assert {k: email["transformations"][0][k] for k in ("type", "subtype", "masking", "description")} == {
        "type": "DIRECT",
        "subtype": "TRANSFORMATION",
        "masking": True,
        "description": "pseudonymise",
    }
    assert lineage["fields"]["row"]["inputFields"][0]["transformations"][0]["subtype"] == "IDENTITY"
    assert [f["field"] for f in lineage["fields"]["score"]["inputFields"]] == ["amount", "age"]
    assert {(f["field"], f["transformations"][0]["type"], f["transformations"][0]["subtype"]) for f in lineage["dataset"]} == {
        (name, "INDIRECT", "FILTER") for name in ("amount", "age", "email")
    }
    assert {k: scores["outputFacets"]["outputStatistics"][k] for k in ("rowCount", "size", "fileCount")} == {
        "rowCount": 200,
        "size": 2000,
        "fileCount": 2,
    }
    lost = dataset(plain(story())[1], "outputs", "/w/quarantine")["outputFacets"]["outputStatistics"]
    assert lost["rowCount"] == 4


def test_what_is_not_published_is_no_output():
    assert {d["name"] for d in plain(STORIES["failed"])[1]["outputs"]} == {"/w/quarantine"}


def test_buckets_are_named_as_the_specification_says():
    end = plain(STORIES["bucket"])[1]
    assert {(d["namespace"], d["name"]) for d in end["outputs"]} == {("s3://scores", "eu/scores"), ("s3://scores", "eu/quarantine")}


def test_the_code_is_the_configuration_and_its_repository_without_a_password(tmp_path, monkeypatch):
    git = tmp_path / "repo/.git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs/heads/main").write_text("c0ffee" * 6 + "c0ff\n")
    (git / "config").write_text('[remote "origin"]\n\turl = https://me:canary-token@git.example/team/jobs.git\n')
    monkeypatch.chdir(tmp_path / "repo")
    said = plain(story())[1]["job"]["facets"]
    assert said["sourceCode"]["sourceCode"].startswith("source:")
    assert said["sourceCodeLocation"]["url"] == "https://git.example/team/jobs.git"
    assert said["sourceCodeLocation"]["version"].startswith("c0ffee")
    assert "canary-token" not in json.dumps(said)


def classes():
    """The official class of each facet, by the address of its schema."""
    modules = [m for _, m in inspect.getmembers(facet_v2, inspect.ismodule)]
    found = [c for m in modules for _, c in inspect.getmembers(m, inspect.isclass) if hasattr(c, "_get_schema")]
    return {c._get_schema(): c for c in found}


@pytest.mark.parametrize("name", STORIES)
def test_the_official_classes_take_every_facet(name):
    known = classes()
    for event in plain(STORIES[name], {"OPENLINEAGE_PARENT_ID": PARENT}):
        seen = list(facets(event))
        assert len(seen) >= 4
        for one in seen:
            known[one["_schemaURL"]](**{k: v for k, v in one.items() if not k.startswith("_")})


@pytest.mark.parametrize("name", STORIES)
def test_the_published_schemas_take_every_event_and_facet(name):
    for event in plain(STORIES[name], {"OPENLINEAGE_PARENT_ID": PARENT}):
        assert list(complaints(event)) == []


def test_the_published_schemas_take_what_is_said_meanwhile():
    assert list(complaints(Serde.to_dict(going()))) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("run", "runId"), "r"),
        (("eventType",), "PROGRESS"),
        (("run", "facets", "tags", "tags", 0, "value"), 3),
        (("run", "facets", "parent", "job"), {}),
        (("inputs", 0, "inputFacets", "inputStatistics", "rowCount"), "many"),
        (("outputs", 0, "facets", "columnLineage", "fields", "score", "inputFields", 0, "field"), None),
        (("job", "facets", "jobType", "processingType"), 1),
        (("eventTime",), 20260104),
    ],
    ids=lambda given: ".".join(map(str, given)) if isinstance(given, tuple) else "",
)
def test_the_published_schemas_would_see_what_is_wrong(path, wrong):
    event = copy.deepcopy(plain(story(), {"OPENLINEAGE_PARENT_ID": PARENT})[1])
    *above, last = path
    at = event
    for key in above:
        at = at[key]
    at[last] = wrong
    assert list(complaints(event))

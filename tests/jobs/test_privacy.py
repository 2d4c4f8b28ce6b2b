"""Privacy through the whole job: what leaves is treated, suppressed people are counted and nothing else, no raw value is told."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import people
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from people import mail, plain, rejected, score, scored, truth
from ray import cloudpickle

from scoring.engine import lane
from scoring.errors import ChangedError, ConfigError
from scoring.jobs.verify import verify
from scoring.settings import Job, build
from scoring.sinks.publish import published
from scoring.stores import open_store


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SCORING_PRIVACY_KEY", people.KEY)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return people.make(tmp_path_factory.mktemp("people"))


def opted_out(tmp_path, *persons):
    file = tmp_path / "opted-out.txt"
    file.write_text("# asked by mail\n" + "".join(f"{mail(p)}\n" for p in persons))
    return str(file)


def test_what_leaves_is_treated_and_in_order(place, tmp_path):
    record = score(place, tmp_path / "w")
    good = [r for r in truth(place) if r["amount"] >= 0]
    found = scored(tmp_path / "w")
    assert [r["row"] for r in found] == [r["row"] for r in good]
    assert [r["age"] for r in found] == [r["age"] // 10 * 10 for r in good]
    assert {r["name"] for r in found} == {"***"}
    names = dict(zip([r["email"] for r in good], [r["email"] for r in found], strict=True))
    assert [names[r["email"]] for r in good] == [r["email"] for r in found]
    assert len(set(names.values())) == len(names)
    assert {r["email"] for r in rejected(tmp_path / "w")} <= {mail(p) for p in range(people.PEOPLE)}, "law 4: unchanged"
    assert record.rows["suppressed"] == 0


def test_the_model_sees_the_value_itself(place, tmp_path):
    """Scores do not depend on what becomes of the columns afterwards."""
    score(place, tmp_path / "treated")
    columns = {
        "email": {"dtype": "string"},
        "name": {"dtype": "string"},
        "age": {"dtype": "int64"},
        "amount": people.COLUMNS["amount"],
    }
    score(place, tmp_path / "raw", contract__columns=columns)
    assert [r["score"] for r in scored(tmp_path / "treated")] == [r["score"] for r in scored(tmp_path / "raw")]
    assert scored(tmp_path / "raw")[0]["email"].endswith("@canary.example")


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_suppressed_people_are_counted_and_nothing_else(place, tmp_path, window):
    out = opted_out(tmp_path, 3, 5)
    record = score(place, tmp_path / "w", contract__privacy__suppress=out, engine__window_rows=window)
    lines, gone = truth(place), {mail(3), mail(5)}
    theirs = [r for r in lines if r["email"] in gone]
    assert len(theirs) > 5
    assert any(r["amount"] < 0 for r in theirs), "one of their rows would be quarantined"
    bad = [r for r in lines if r["amount"] < 0 and r["email"] not in gone]
    assert record.rows == {
        "in": len(lines),
        "suppressed": len(theirs),
        "quarantined": len(bad),
        "scored": len(lines) - len(theirs) - len(bad),
    }
    assert record.reasons["admit:suppressed"] == len(theirs)
    assert record.environment["suppressed"].startswith("2 people, sha256 ")
    assert [r["row"] for r in scored(tmp_path / "w")] == [r["row"] for r in lines if r["email"] not in gone and r["amount"] >= 0]
    assert sorted(r["row"] for r in rejected(tmp_path / "w")) == [r["row"] for r in bad]
    store = open_store(str(tmp_path / "w"))
    for manifest in published(store):
        assert sum(manifest.counts.values()) == people.ROWS
    assert not verify(str(tmp_path / "w")).problems


def test_another_list_scores_nothing_again_and_a_file_moved_is_no_other_contract(place, tmp_path):
    score(place, tmp_path / "w", contract__privacy__suppress=opted_out(tmp_path, 3))
    (tmp_path / "moved.txt").write_text(f"{mail(4)}\n")
    record = score(place, tmp_path / "w", contract__privacy__suppress=str(tmp_path / "moved.txt"))
    assert record.message.startswith("Nothing to do")


def test_an_unfinished_run_does_not_go_on_under_another_list(place, tmp_path):
    job = {"run_id": "mine", "release__max_bad_rows": 0}
    assert score(place, tmp_path / "w", contract__privacy__suppress=opted_out(tmp_path, 3), **job).status == "held"
    with pytest.raises(ChangedError, match="run_id mine"):
        score(place, tmp_path / "w", contract__privacy__suppress=opted_out(tmp_path, 3, 4), **job)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contract__columns__age": {"dtype": "int64", "pii": "quasi"}}, "has no treatment"),
        ({"contract__columns__age": {"dtype": "int64", "pii": "quasi", "treatment": "generalise", "width": 0}}, "must be above 0"),
        ({"contract__columns__age": {"dtype": "int64", "treatmen": "drop"}}, "treatmen"),
        ({"contract__privacy__suppress": "/nowhere/list"}, "/nowhere/list cannot be read: No such file"),
        ({"contract__privacy__key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE is not set"),
        ({"contract__privacy__subject": ""}, "contract.privacy.subject is empty"),
    ],
)
def test_what_cannot_be_is_said_before_data_is_read(place, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        score(place, tmp_path / "w", **changes)
    assert not (tmp_path / "w" / "runs").exists() or not list((tmp_path / "w" / "runs").glob("*/staged"))


def test_retention_warns_by_the_date_of_the_partition(place, tmp_path):
    columns = plain(place, tmp_path)["contract"]["columns"]
    columns["name"]["retention_days"] = 30
    record = score(place, tmp_path / "w", contract__columns=columns)
    assert record.status == "published-with-warnings"
    told = [c for p in record.partitions for c in p.checks if c.name == "retention"]
    assert [(c.subject, c.status, c.expected) for c in told] == [
        (f"date=2026-01-0{n}", "warn", "at most 30 days (name)") for n in (1, 2)
    ]


def test_csv_lines_that_are_no_rows_and_other_spellings(place, tmp_path):
    """A suppressed person's broken line does not land in the quarantine, nor does a file of another type bring the person back."""
    data = tmp_path / "data"
    data.mkdir()
    one, two = mail(1), mail(2)
    lines = [f"0,{one},A,30,5.0,0.1", f"1,{two},B,31,5.0,0.2,extra", f"2,{one},C", f"3,{two},D,32,bad,0.3", f"4,{one},E,30,bad,1"]
    (data / "a.csv").write_text("\n".join(["row,email,name,age,amount,x", *lines, ""]))
    changes = {"source__kind": "csv", "source__path": str(data), "contract__privacy__suppress": opted_out(tmp_path, 1)}
    record = score(place, tmp_path / "w", **changes)
    assert record.rows == {"in": 5, "scored": 0, "quarantined": 2, "suppressed": 3}
    assert mail(1) not in str(rejected(tmp_path / "w"))


def test_quarantine_files_of_personal_data_are_private(place, tmp_path):
    score(place, tmp_path / "w")
    files = [p for p in (tmp_path / "w").rglob("*") if p.is_file() and "/quarantine/" in str(p)]
    assert files
    assert {oct(p.stat().st_mode & 0o777) for p in files} == {"0o600"}
    assert (tmp_path / "w/quarantine").stat().st_mode & 0o777 == 0o700


def test_a_file_without_the_subject_is_not_scored(place, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    pq.write_table(people.rows(0).drop_columns(["email"]), data / "a.parquet")
    pq.write_table(people.rows(0).slice(0, 0), data / "b.parquet")
    record = score(place, tmp_path / "w", source__path=str(data), contract__privacy__suppress=opted_out(tmp_path, 1))
    assert record.rows["scored"] == 0
    assert record.bad_files[0].reason == "missing columns: email"


CANARIES = ("canary", "Canary", "O'Bird", "4242424242")


def everything_told(workspace: Path):
    """(name, bytes) of all that a run leaves but the scores and the quarantine."""
    for path in sorted(workspace.rglob("*")):
        if path.is_file() and "quarantine" not in path.relative_to(workspace).parts:
            if path.suffix == ".parquet":
                yield str(path), str(pq.read_metadata(path).metadata).encode()
                yield str(path), str(pq.read_table(path, partitioning=None).to_pylist()).encode()
            else:
                yield str(path), path.read_bytes()


def test_no_raw_value_is_told_anywhere(place, tmp_path, capfd, caplog, monkeypatch):
    """Canaries in ids, in values that break rules, in files that fail and in a header line that is none."""
    data = tmp_path / "data"
    for n, folder in enumerate(("date=2026-01-01", "date=2026-01-02")):
        (data / folder).mkdir(parents=True)
        pyarrow.csv.write_csv(people.rows(n), data / folder / "good.csv")
    bad = data / "date=2026-01-01"
    head = "row,email,name,age,amount,x\n"
    (bad / "types.csv").write_text(head + "1,a@canary.example,Canary,Canary,Canary,4242424242424242\nCanary,,,,Canary\n")
    (bad / "header.csv").write_text("Canary,Canary,4242424242,canary@x,1,2\n" * 3)
    (bad / "quote.csv").write_text(head + "1,\"a@canary.example,O'Bird,3,4,5\n")
    (bad / "latin.csv").write_bytes(head.encode() + "1,canary,Canary-\xe9,1,1,1\n".encode("latin-1"))
    (bad / "nul.csv").write_bytes(head.encode() + b'1,"canary\0",Canary,1,1,1\n')
    monkeypatch.setenv("SCORING_PRIVACY_KEY", people.KEY)
    record = score(place, tmp_path / "w", source__kind="csv", source__path=str(data))
    assert record.rows["quarantined"] > 2
    assert len(record.bad_files) == 2
    out, err = capfd.readouterr()
    told = [*everything_told(tmp_path / "w"), ("stdout", out.encode()), ("stderr", err.encode()), ("log", caplog.text.encode())]
    assert len(told) > 10
    for name, text in told:
        for canary in (*CANARIES, people.KEY):
            assert canary.encode() not in text, f"{canary} stands in {name}"


def test_lanes_of_ray_read_the_key_from_their_environment(place, tmp_path):
    """They inherit ours; nothing that is handed to them holds it."""
    out = opted_out(tmp_path, 3)
    changes = {"engine__kind": "ray", "engine__lanes": 1, "contract__privacy__suppress": out}
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # Ray reads its token once for each process
        record = apart.submit(score, place, tmp_path / "ray", **changes).result()
    assert record.rows["suppressed"] > 0
    score(place, tmp_path / "inline", contract__privacy__suppress=out)
    assert [r["email"] for r in scored(tmp_path / "ray")] == [r["email"] for r in scored(tmp_path / "inline")]


def test_what_a_lane_is_handed_holds_no_key(place, tmp_path):
    spec = lane.LaneSpec(build(Job, plain(place, tmp_path)), "r", 1, "runs/r/suppressed-1.txt", "p")
    assert people.KEY.encode() not in cloudpickle.dumps(partial(lane.build, spec))
    assert bytes.fromhex(people.KEY) not in pickle.dumps(spec)

"""Erasing on the real thing: gone from every file, counted as suppressed, proven, never back; whatever dies in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import people
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from obstore.store import MemoryStore
from people import mail, rejected, score, scored, truth

from scoring.errors import BusyError, ConfigError
from scoring.jobs.arguments import words
from scoring.jobs.erase import command, erase, render
from scoring.jobs.verify import verify
from scoring.ledger import chain
from scoring.sinks.publish import published
from scoring.sinks.staged import find
from scoring.stores import open_store
from scoring.stores.objects import ObjectStore

ANNA, BOB = 8, 5  # both have rows that are scored and rows that are quarantined


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SCORING_PRIVACY_KEY", people.KEY)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return people.make(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    """A workspace with two versions of everything: scored, and scored again under another contract."""
    workspace = tmp_path_factory.mktemp("finished") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORING_PRIVACY_KEY", people.KEY)
        score(place, workspace, contract__columns=people.COLUMNS | {"x": {"dtype": "float32"}})
        score(place, workspace, release__on_change="rescore")
    return workspace


@pytest.fixture
def workspace(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "w", copy_function=os.link) and tmp_path / "w"


def theirs(place, *persons):
    return [r for r in truth(place) if r["email"] in {mail(p) for p in persons}]


def rows_of(workspace):
    """Rows of every Parquet file of the workspace, hidden ones too, with "row" where the file has it."""
    for path in sorted(Path(workspace).rglob("*.parquet")):
        for row in pq.read_table(path, partitioning=None).to_pylist():
            yield path, row


def assert_gone(place, workspace, *persons):
    """No row of theirs in any file, every other row as it should be, everything counted and intact."""
    gone = {r["row"] for r in theirs(place, *persons)}
    for path, row in rows_of(workspace):
        assert row.get("row") not in gone, path
        assert mail(persons[0]) not in str(row), path
    lines = [r for r in truth(place) if r["row"] not in gone]
    assert [r["row"] for r in scored(workspace)] == [r["row"] for r in lines if r["amount"] >= 0]
    assert sorted(r["row"] for r in rejected(workspace)) == [r["row"] for r in lines if r["amount"] < 0]
    checked = verify(str(workspace))
    assert checked.problems == ()
    store = open_store(str(workspace))
    for manifest in published(store):
        assert sum(manifest.counts.values()) == people.ROWS
        for file in manifest.files:
            _, run, _, name = file.staged.split("/")
            receipt = find(store, run, name.removesuffix(".parquet"))
            assert receipt.counts.scored == file.rows
            assert store.sha256(file.staged) == file.sha256


def test_gone_everywhere_and_proven(place, workspace):
    logged = lambda: [key for key in open_store(str(workspace)).list("runs") if "/done/" in key]  # noqa: E731
    assert logged()
    done = erase(str(workspace), mail(ANNA), "asked by letter")
    assert done.proven
    assert done.fresh > len(theirs(place, ANNA)), "older versions hold the person too"
    assert not logged(), "receipts from before say what must not be said any more"
    assert_gone(place, workspace, ANNA)
    store = open_store(str(workspace))
    lost = sum(m.counts["suppressed"] for m in published(store))
    assert lost == len(theirs(place, ANNA))
    assert {m.version for m in published(store)} == {3}
    (entry,) = [e for e in map(json.loads, map(store.get, store.list("ledger"))) if e["kind"] == "erased"]
    assert entry["subject"] == done.pseudonym
    assert entry["payload"]["reason"] == "asked by letter"
    assert entry["payload"]["rows"] == done.rows
    assert all(f["before"] != f["after"] for f in entry["payload"]["files"])
    assert "@" in entry["actor"]
    assert mail(ANNA) not in str(entry)
    assert chain.verify(store).ok


def test_nothing_brings_the_person_back(place, workspace):
    erase(str(workspace), mail(ANNA), "asked")
    before = sorted((str(p), p.stat().st_mtime_ns) for p in (workspace / "scores").rglob("*"))
    assert score(place, workspace).message.startswith("Nothing to do")
    assert sorted((str(p), p.stat().st_mtime_ns) for p in (workspace / "scores").rglob("*")) == before
    other = people.COLUMNS | {"x": {"dtype": "float64"}}
    record = score(place, workspace, contract__columns=other, release__on_change="rescore")
    assert record.rows["suppressed"] == len(theirs(place, ANNA))
    assert_gone(place, workspace, ANNA)


def test_said_twice_finds_nothing_and_says_so(place, workspace):
    first = erase(str(workspace), mail(ANNA), "asked")
    entries = chain.verify(open_store(str(workspace))).entries
    again = erase(str(workspace), mail(ANNA), "asked")
    assert (again.fresh, again.rows, again.proven) == (0, first.rows, True)
    assert render(again).startswith("nothing was left to erase")
    assert chain.verify(open_store(str(workspace))).entries == entries
    other = erase(str(workspace), mail(BOB), "asked")
    assert other.fresh
    assert_gone(place, workspace, ANNA, BOB)


def test_somebody_who_is_not_there_is_listed_all_the_same(place, workspace):
    done = erase(str(workspace), "nobody@canary.example", "asked")
    assert (done.rows, done.proven) == (0, True)
    assert len(list(open_store(str(workspace)).list("control/suppression"))) == 1


SITES = (
    "erase.after_list",
    "erase.before_quarantine",
    "erase.before_staged",
    "erase.after_staged",
    "erase.before_manifest",
    "erase.after_manifest",
    "erase.after_show",
    "erase.before_table",
    "erase.after_table",
    "erase.before_ledger",
)


class Struck(BaseException):
    pass


@pytest.mark.parametrize("nth", [0, 1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("site", SITES)
def test_dead_anywhere_and_said_again(place, workspace, tmp_path, site, nth):
    table = tmp_path / "registered.parquet"
    pq.write_table(people.rows(0), table)
    left = [nth]

    def strike(here):
        if here == site:
            left[0] -= 1
            if left[0] == -1:
                raise Struck

    try:
        erase(str(workspace), mail(ANNA), "asked", datasets=(str(table),), sites=strike)
    except Struck:
        if site != "erase.after_manifest":  # there the next run or erasure shows what is published, as after any publication
            assert verify(str(workspace)).problems == ()
        assert erase(str(workspace), mail(ANNA), "asked", datasets=(str(table),)).proven
    else:
        assert nth, f"nobody passes {site}"
    assert_gone(place, workspace, ANNA)
    assert mail(ANNA) not in pq.read_table(table)["email"].to_pylist()
    (entry,) = [e for e in entries(workspace) if e["kind"] == "erased"]
    # what was done before the crash is in the entry too
    assert sum(f["rows"] for f in entry["payload"]["files"]) == entry["payload"]["rows"] > 2 * len(theirs(place, ANNA))


def entries(workspace):
    store = open_store(str(workspace))
    return [json.loads(store.get(key)) for key in store.list("ledger")]


KILLER = """
import os, signal, sys
from scoring.jobs.erase import erase
erase(sys.argv[1], sys.argv[2], "asked", sites=lambda site: os.kill(os.getpid(), signal.SIGKILL) if site == sys.argv[3] else None)
"""


def test_killed_for_good_and_said_again(place, workspace):
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(workspace), mail(ANNA), "erase.after_staged"], check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    assert erase(str(workspace), mail(ANNA), "asked").proven
    assert_gone(place, workspace, ANNA)


def test_a_run_that_was_held_and_one_that_did_not_end(place, tmp_path):
    """What is staged and not published is cleaned as well, and the same run goes on with it."""
    job = {"run_id": "mine", "release__max_bad_rows": 0}
    assert score(place, tmp_path / "w", **job).status == "held"
    done = erase(str(tmp_path / "w"), mail(ANNA), "asked")
    assert done.proven
    assert done.fresh == len(theirs(place, ANNA))
    record = score(place, tmp_path / "w", run_id="mine")
    assert record.status.startswith("published")
    assert record.rows["suppressed"] == len(theirs(place, ANNA))
    assert_gone(place, tmp_path / "w", ANNA)


def test_a_lane_that_slept_through_the_erasure_is_not_published(place, tmp_path):
    """It staged its slice afterwards, with the person in it: the file is not trusted, and the slice is scored again."""
    workspace, job = tmp_path / "w", {"run_id": "mine", "release__max_bad_rows": 0}
    assert score(place, workspace, **job).status == "held"
    staged = sorted((workspace / "runs/mine/staged").iterdir())
    late = next(p for p in staged if {*pq.read_table(p)["row"].to_pylist()} & {r["row"] for r in theirs(place, ANNA)})
    kept = late.read_bytes()
    late.unlink()
    erase(str(workspace), mail(BOB), "asked")
    assert erase(str(workspace), mail(ANNA), "asked").proven
    late.write_bytes(kept)
    assert erase(str(workspace), mail(1), "asked").proven, "it looks for somebody else, and must not vouch for it"
    record = score(place, workspace, run_id="mine")
    assert record.status.startswith("published")
    assert record.rows["suppressed"] == len(theirs(place, ANNA, BOB, 1))
    assert_gone(place, workspace, ANNA, BOB, 1)


def test_an_erased_person_needs_a_contract_that_knows_persons(place, workspace):
    erase(str(workspace), mail(ANNA), "asked")
    with pytest.raises(ConfigError, match=r"1 people were erased .* contract\.privacy\.subject"):
        score(place, workspace, contract__privacy={}, release__on_change="rescore")


def test_an_older_key_is_still_needed_for_those_who_went_under_it(place, workspace, monkeypatch):
    erase(str(workspace), mail(ANNA), "asked")
    again = {"contract__privacy__key_id": "k2", "release__on_change": "rescore"}
    monkeypatch.setenv("SCORING_PRIVACY_KEY", "7f" * 32)
    with pytest.raises(ConfigError, match="under the key 'k1', which the environment lacks: they would be scored"):
        score(place, workspace, **again)
    monkeypatch.setenv("SCORING_PRIVACY_KEY", f"{'7f' * 32},k1:{people.KEY}")
    assert score(place, workspace, **again).rows["suppressed"] == len(theirs(place, ANNA))
    assert_gone(place, workspace, ANNA)
    assert {r["email"][:3] for r in scored(workspace)} == {"k2:"}
    assert erase(str(workspace), mail(BOB), "asked").proven
    assert_gone(place, workspace, ANNA, BOB)


def test_raw_ids_in_the_output_are_found_as_they_are(place, tmp_path):
    columns = people.COLUMNS | {"email": {"dtype": "string", "pii": "direct", "treatment": "pass"}}
    score(place, tmp_path / "w", contract__columns=columns)
    assert erase(str(tmp_path / "w"), mail(ANNA), "asked").proven
    assert_gone(place, tmp_path / "w", ANNA)


def test_a_workspace_from_before_is_told_the_column(place, tmp_path):
    plainly = {"email": {"dtype": "string"}, "amount": people.COLUMNS["amount"]}
    score(place, tmp_path / "w", contract__columns=plainly, contract__privacy={})
    with pytest.raises(ConfigError, match="Say column="):
        erase(str(tmp_path / "w"), mail(ANNA), "asked")
    assert erase(str(tmp_path / "w"), mail(ANNA), "asked", column="email").proven
    assert_gone(place, tmp_path / "w", ANNA)


def test_input_files_are_rewritten_and_that_is_no_change(place, tmp_path):
    """The source itself is registered: the published partition stays published, and a new contract finds fewer rows."""
    shutil.copytree(place / "data", tmp_path / "data")
    shutil.copytree(place / "bundle", tmp_path / "bundle")
    score(tmp_path, tmp_path / "w")
    register = tmp_path / "w/control"
    register.mkdir(exist_ok=True)
    (register / "datasets.json").write_text(json.dumps([str(tmp_path / "data")]))
    for person in (ANNA, BOB):
        assert erase(str(tmp_path / "w"), mail(person), "asked").proven
        assert score(tmp_path, tmp_path / "w").message.startswith("Nothing to do")
    assert not theirs(tmp_path, ANNA, BOB)
    assert [r["row"] for r in truth(tmp_path)] == [r["row"] for r in truth(place) if r["email"] not in {mail(ANNA), mail(BOB)}]
    assert pq.read_schema(tmp_path / "data/date=2026-01-01/part.parquet") == people.rows(0).schema
    assert pq.read_metadata(tmp_path / "data/date=2026-01-01/part.parquet").num_row_groups == 3
    os.utime(tmp_path / "data/date=2026-01-01/part.parquet", ns=(1, 1))
    with pytest.raises(ConfigError, match="the input files changed since"):
        score(tmp_path, tmp_path / "w")


def test_what_cannot_be_searched_proves_nothing(place, workspace, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.csv").write_text(f"to;email\n1;{mail(ANNA)}\n")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "d/b.parquet")
    given = words("erase", [f"workspace={workspace}", f"subject={mail(ANNA)}", "--reason=asked", f"datasets={tmp_path}/d"])
    done, code = command(given)
    assert code == 65
    assert done.unsearched == (f"{tmp_path}/d/a.csv", f"{tmp_path}/d/b.parquet")
    assert "NOT proven" in render(done)
    assert mail(ANNA) not in render(done)
    assert_gone(place, workspace, ANNA)


def packed(path, text):
    with pa.output_stream(str(path), compression={".gz": "gzip", ".zst": "zstd"}.get(path.suffix)) as out:
        out.write(text)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv.zst", "a.jsonl", "a.ndjson.zst"])
def test_text_loses_the_records_of_the_person_and_nothing_else(workspace, tmp_path, name):
    anna, bob = (mail(p).encode() for p in (ANNA, BOB))
    if "json" in name:
        kept = [
            b'{"email": "' + bob + b'", "n": 1.50}\r\n',
            b"{broken\n",
            b"\n",
            b'{"n": 2,"about":"' + anna + b'"}\n',
            b'{"email":null}',
        ]
        gone = [b'{"n": 3, "email":"' + anna + b'"}\n', b'{"email": "' + anna + b'", broken\n']
    else:
        cut = b"\t" if "tsv" in name else b","
        kept = [b"n,email,note\r\n", b'1,"' + bob + b'","two\r\nlines, ""so"""\r\n', b"2,,\xff\xfe\n", b'3,x,"' + anna + b'"']
        gone = [b'4,"' + anna + b'","two\nlines"\n', b"5," + anna + b"\n"]
        kept, gone = ([line.replace(b",", cut) for line in lines] for lines in (kept, gone))
    (tmp_path / "d").mkdir()
    packed(tmp_path / "d" / name, b"".join([kept[0], *gone, *kept[1:]]))
    for rows in (2, 2):
        done = erase(str(workspace), mail(ANNA), "asked", datasets=(str(tmp_path / "d"),))
        assert done.proven
        assert sum(note["rows"] for note in done.files if name in note["place"]) == rows
    with pa.input_stream(str(tmp_path / "d" / name)) as stream:
        assert stream.read() == b"".join(kept)
    assert [p.name for p in (tmp_path / "d").iterdir()] == [name]


def test_a_dataset_that_is_not_there_is_said_before_anything(workspace):
    with pytest.raises(ConfigError, match="there is no file or folder /nowhere"):
        erase(str(workspace), mail(ANNA), "asked", datasets=("/nowhere",))
    assert not (workspace / "control/suppression").exists()


def test_not_beside_a_run(workspace):
    with open_store(str(workspace)).lock({"run": "r-1"}), pytest.raises(BusyError):
        erase(str(workspace), mail(ANNA), "asked")


class Life(RuleBasedStateMachine):
    """A workspace through any sequence of runs, rescores, holds and erasures: the erased are in no file, ever again."""

    folder: Path
    root: Path

    def __init__(self):
        super().__init__()
        self.place = Path(str(self.root / f"w{len(list(self.root.glob('w*')))}"))
        self.gone, self.ran, self.shown = set(), False, True

    @rule(held=st.booleans(), limit=st.sampled_from([0, 1]))
    def run(self, held, limit):
        """A changed bound is another contract; a held run goes on when the limit is lifted."""
        bound = {"x": {"dtype": "float32", "min": -100 - limit}}
        release = {"release__max_bad_rows": 0} if held else {}
        score(self.folder, self.place, contract__columns=people.COLUMNS | bound, release__on_change="rescore", **release)
        self.ran = self.shown = True

    @precondition(lambda self: self.ran)
    @rule(person=st.sampled_from([1, ANNA, BOB]), fatal=st.sampled_from([None, *SITES]))
    def erase(self, person, fatal):
        def strike(site):
            if site == fatal:
                raise Struck

        try:
            erase(str(self.place), mail(person), "asked", sites=strike)
        except Struck:
            self.shown = fatal != "erase.after_manifest"
            # on the list, and perhaps still in files: a run may follow before it is said again
        else:
            self.gone.add(person)
            self.shown = True

    @invariant()
    def erased_people_are_nowhere(self):
        rows = {r["row"] for person in self.gone for r in theirs(self.folder, person)}
        if self.ran and rows:
            assert [p for p, row in rows_of(self.place) if row.get("row") in rows] == []
        if self.ran and self.shown:
            assert verify(str(self.place)).problems == ()


def test_erased_people_stay_away_whatever_follows(place, tmp_path):
    Life.folder, Life.root = place, tmp_path
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Life, settings=settings(max_examples=6, stateful_step_count=6, deadline=None))


def test_scores_of_the_others_are_untouched(place, workspace):
    before = {r["row"]: r for r in scored(workspace)}
    erase(str(workspace), mail(ANNA), "asked")
    for row in scored(workspace):
        assert row == before[row["row"]]


def test_in_a_bucket(place, monkeypatch):
    """The same on an object store: copies instead of links, no rename, no folder."""
    buckets = ObjectStore("memory://w", MemoryStore())
    for module in ("jobs.run", "engine.lane", "jobs.workspace", "stores"):
        monkeypatch.setattr(f"scoring.{module}.open_store", lambda root: buckets)
    score(place, "s3://w/x", contract__columns=people.COLUMNS | {"x": {"dtype": "float32"}})
    score(place, "s3://w/x", release__on_change="rescore")
    left = [3]

    def strike(here):
        left[0] -= here == "erase.after_staged"
        if left[0] == 0:
            raise Struck

    with pytest.raises(Struck):
        erase("s3://w/x", mail(ANNA), "asked", sites=strike)
    done = erase("s3://w/x", mail(ANNA), "asked")
    assert done.proven
    gone = {r["row"] for r in theirs(place, ANNA)}
    for root in ("scores", "quarantine", "runs"):
        for name in buckets.list(root):
            if name.endswith(".parquet"):
                found = pq.read_table(buckets.open_file(name)).to_pylist()
                assert not gone & {r.get("row") for r in found}, name
    assert verify("s3://w/x").problems == ()
    assert sum(m.counts["suppressed"] for m in published(buckets)) == len(gone)
    assert score(place, "s3://w/x").message.startswith("Nothing to do")
    assert erase("s3://w/x", mail(ANNA), "asked").fresh == 0

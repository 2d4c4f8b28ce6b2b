"""The command as a user meets it: one clear line and the right exit code, before Ray starts or data is read."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Commands

from scoring.models.train import Recipe, Target, fit

ROOT, FAMILIES = Path(__file__).parents[2], Path(__file__).parent / "families"


def alone(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "scoring", *words], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    with Commands(tmp_path_factory.mktemp("commands"), {}, FAMILIES) as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two daily partitions with one bad row, a bundle fitted on them, room for workspaces."""
    folder = tmp_path_factory.mktemp("command")
    rng = np.random.default_rng(0)
    x = rng.normal(size=2_000)
    table = pa.table({"id": np.arange(2_000), "x": x, "kind": rng.choice(["a", "b"], 2_000), "label": (x > 0).astype(np.int64)})
    fit(table, folder / "bundle", numeric=["x"], categorical=["kind"], targets={"score": Target("label")}, recipe=Recipe(epochs=1))
    for day, part in (("2026-01-01", table.slice(0, 1_000)), ("2026-01-02", table.slice(1_000))):
        (folder / "data" / f"date={day}").mkdir(parents=True)
        bad = pa.array([None, *part["x"].to_pylist()[1:]]) if day.endswith("02") else part["x"]
        pq.write_table(part.set_column(1, "x", bad), folder / "data" / f"date={day}" / "part.parquet")
    return folder


@pytest.fixture(scope="module")
def words(place):
    job = ["source=parquet", f"source.path={place}/data", "source.carry=[id]", f"model.bundle={place}/bundle", "engine=inline"]
    return [*job, "respond.report=false", "respond.lineage.enabled=false"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("source=parquey", "Known: csv, ipc, jsonl, parquet"),
        ("source.pth=x", "Did you mean 'source.path'?"),
        ("engine.lanes=two", "engine.lanes"),
        ("engine.fallback.cpu=sometimes", "engine.fallback.cpu"),
        ("model.bundle=/nowhere", "/nowhere is not a bundle"),
        ("source.carry=[id,idd]", "source.carry: 'idd' is no column of"),
        ("source.path=/nowhere", "there is no file or folder /nowhere"),
        ("contract.columns.x={dtype: complex}", "contract.columns.x.dtype"),
        ("hardware=cuda", "no usable GPU"),
        ("run_id=../x", "run_id"),
        ("workspace=ftp://host/x", "ftp://"),
        ("source.path=http://host/x", "http://host"),
    ],
)
def test_what_cannot_be_is_one_line_and_78(command, words, tmp_path, change, said):
    done = command("run", *words, f"workspace={tmp_path}/w", change)
    assert done.code == 78, done.err
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "Traceback" not in done.err


def test_an_impossible_plan_shows_its_arithmetic(command, words, tmp_path):
    done = command("plan", *words, "engine=ray", "engine.lanes=4000", f"workspace={tmp_path}/w")
    assert done.code == 78
    assert "4000 lanes x 1 cores = 4000 cores" in done.err


@pytest.mark.parametrize(("given", "said"), [([], "Commands:"), (["rnu"], "Did you mean 'run'?"), (["verify"], "needs workspace=")])
def test_what_is_no_command_is_64(command, given, said):
    done = command(*given)
    assert (done.code, said in done.err) == (64, True)


def test_help_lists_groups_and_settings_and_cfg_shows_the_job(command, words, tmp_path):
    told = command("run", "--help").out
    assert all(text in told for text in ("hardware   auto, cpu, cuda, simulated", "engine.fallback.cpu", "release.max_bad_share"))
    shown = command("run", *words, f"workspace={tmp_path}", "--cfg", "job").out
    assert "kind: inline" in shown
    assert not (tmp_path / "runs").exists()


def test_a_run_its_second_run_and_its_verification(command, words, tmp_path, place):
    workspace = f"workspace={tmp_path}/w"
    planned = json.loads(command("plan", *words, workspace, "--json").out)
    assert (planned["rows"], len(planned["partitions"])) == (2_000, 2)
    record = json.loads(command("run", *words, workspace, "--json").out)
    assert (record["status"], record["rows"]["in"]) == ("published", 2_000)
    again = command("run", *words, workspace)
    assert (again.code, "Nothing to do" in again.out) == (0, True)
    verified = command("verify", workspace)
    assert (verified.code, verified.out.startswith("intact: 2 partitions")) == (0, True)
    (public,) = (tmp_path / "w" / "scores" / "date=2026-01-01").glob("*.parquet")
    public.unlink()
    public.write_bytes(b"altered")
    assert command("verify", workspace).code == 65


def test_too_many_bad_rows_hold_a_partition_and_exit_65(command, words, tmp_path):
    limits = ["contract.columns.x={dtype: float64, nullable: false}", "release.max_bad_rows=0"]
    done = command("run", *words, *limits, f"workspace={tmp_path}/w", "--json")
    record = json.loads(done.out)
    assert (done.code, record["status"], record["rows"]["quarantined"]) == (65, "held", 1)
    assert [p["status"] for p in record["partitions"]] == ["published", "held"]
    assert [p.name for p in (tmp_path / "w" / "scores").iterdir() if p.name.startswith("date")] == ["date=2026-01-01"]


def test_a_secret_of_the_environment_is_not_kept(words, tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", "s3cr3t-value")
    done = alone("run", *words, f"workspace={tmp_path}/w", "run_id=${oc.env:PLANTED}")
    assert done.returncode == 0, done.stderr
    kept = [path.read_text() for path in (tmp_path / "w" / "runs").rglob("config.yaml")]
    assert kept
    assert all("${oc.env:PLANTED}" in text and "s3cr3t-value" not in text for text in kept)


def test_a_bug_is_one_line_and_a_file(words, tmp_path, monkeypatch):
    """A source of the user's own has all of Python to fail in; a panic of Polars is not even an Exception."""
    for folder in ("own", "logs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "own" / "broken.py").write_text("class Panic(BaseException): ...\nraise Panic('out of\\nthe blue')\n")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    monkeypatch.setenv("TMPDIR", f"{tmp_path}/logs")
    done = alone("plan", *words, f"workspace={tmp_path}/w", "source.kind=own.broken")
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith("scoring: internal error: Panic: out of (broken.py:2). Details: ")
    assert len(done.stderr.splitlines()) == 1
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in done.stderr
    assert "Traceback" in log.read_text()


def test_looking_makes_nothing(command, words, tmp_path):
    done = command("plan", *words, f"workspace={tmp_path}/w", "--json")
    assert json.loads(done.out)["output_bytes"] == 2_000 * (24 + 16)
    assert command("verify", f"workspace={tmp_path}/w").code == 78
    told = json.loads(command("doctor", f"workspace={tmp_path}/w", f"store={tmp_path}", "--json").out)
    assert told["problems"] == []
    assert {f"{tmp_path}/w", str(tmp_path)} <= set(told["stores"])
    assert "precision: float32" in told["would_use"]
    assert list(tmp_path.iterdir()) == []


def test_doctor_names_what_cannot_be_a_workspace(command, tmp_path):
    (tmp_path / "file").touch()
    done = command("doctor", f"workspace={tmp_path}/file/w", "store=ftp://host/x")
    assert done.code == 78
    assert "ftp:// is not known" in done.out
    assert f"{tmp_path}/file/w: Not a directory" in done.out.partition("problems")[2]


def test_several_jobs_in_a_row_end_with_the_worst_code(command, words, tmp_path):
    spaces = f"workspace={tmp_path}/a,{tmp_path}/b"
    bad = "contract.columns.x={dtype: float64, nullable: false}"
    done = command("run", "--multirun", *words, spaces, bad, "release.max_bad_rows=0", "--json")
    assert done.code == 65
    begun = [line for line in done.err.splitlines() if line.startswith("scoring run ")]
    assert [f"workspace={tmp_path}/{name}" in line for name, line in zip("ab", begun, strict=True)] == [True, True]
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b"}


def test_a_configuration_cannot_name_code(command, words, tmp_path):
    folder = tmp_path / "conf" / "release"
    folder.mkdir(parents=True)
    (folder / "evil.yaml").write_text("_target_: os.system\nmax_bad_rows: 1\n")
    done = command("run", *words, f"workspace={tmp_path}/w", f"--config-dir={tmp_path}/conf", "release=evil")
    assert (done.code, "_target_ is not allowed" in done.err) == (78, True)


def test_a_held_partition_is_released_and_its_bad_row_requeued(command, words, tmp_path):
    """Every next step as it is printed."""
    workspace, limits = (
        f"workspace={tmp_path}/w",
        ["contract.columns.x={dtype: float64, nullable: false}", "release.max_bad_rows=0"],
    )
    done = command("run", *words, *limits, workspace, "run_id=first")
    (said,) = [line for line in done.out.splitlines() if "release-held" in line]
    assert said.split("release-held ")[1] == f"first date=2026-01-02 {workspace} --reason=…"
    assert command("release-held", "first", "date=2026-01-02", workspace).code == 64
    assert command("release-held", "first", "date=2026-01-03", workspace, "--reason=x").code == 78
    released = json.loads(command("release-held", "first", "date=2026-01-02", workspace, "--reason", "one row", "--json").out)
    assert (released["kind"], released["version"], released["rows"]["quarantined"]) == ("released", 1, 1)
    assert command("release-held", "first", "date=2026-01-02", workspace, "--reason=x", "--discard").code == 77
    shown = json.loads(command("quarantine", workspace, "--json").out)
    assert (shown["reasons"], shown["samples"][0]["value"]) == ({"admit:x:null": 1}, "null")
    mended = ["contract.columns.x={dtype: float64}", "partition=date=2026-01-02", "--reason=nulls are fine"]
    record = json.loads(command("requeue", *words, *mended, workspace, "--json").out)
    assert (record["status"], record["rows"]) == ("published", {"in": 1, "scored": 1, "quarantined": 0, "suppressed": 0})
    again = command("requeue", *words, *mended, workspace)
    assert (again.code, "Nothing to requeue" in again.out) == (0, True)
    verified = json.loads(command("verify", workspace, "--json").out)
    assert (verified["problems"], verified["notes"], verified["rows"]) == ([], [], 2_000)

"""The command line before any job: whatever is said wrongly is one line and the right code, and nothing is made or read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from scoring.__main__ import settings
from scoring.errors import ConfigError, UsageError
from scoring.jobs.arguments import flags, safe_folder, words
from scoring.respond.verbs import VERBS

GIVEN = ["source=parquet", "source.path=in", "model.bundle=bundle", "workspace=out"]


def command(*given, folder, environment=None):
    """In an empty folder, which has to stay empty."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    known |= {"PYTHONPATH": str(Path(__file__).parents[2])} | (environment or {})
    done = subprocess.run(
        [sys.executable, "-m", "scoring", *given], cwd=folder, env=known, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def refused(*overrides, config_dir=None):
    with pytest.raises(ConfigError) as found:
        settings([*GIVEN, *overrides], config_dir)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ([], 64, "Commands:"),
        (["rnu"], 64, "'rnu' is not a command. Did you mean 'run'?"),
        (["run", "--jsn"], 64, "--jsn is not an option"),
        (["run", "--cfg", "hydra"], 64, "--cfg shows one thing"),
        (["run", "--config-dir"], 64, "--config-dir needs a folder"),
        (["verify"], 64, "scoring verify needs workspace=…"),
        (["verify", "workspce=x"], 64, "scoring verify does not know 'workspce'"),
        (["verify", "workspace=x", "--multirun"], 64, "takes no option but --json"),
        (["demo-data", "out=x", "rows=many"], 64, "rows=many is not a whole number"),
        (["verify", "workspace=typo"], 78, "there is no folder typo"),
        (["quarantine", "workspace=."], 78, "nothing ever ran in ."),
        (["run"], 78, "source is missing. Say source=… (csv, ipc, jsonl, parquet)."),
        (["run", "--multirun", "source=a,,b"], 78, "'source=a,,b' cannot be understood."),
        (["plan", *GIVEN, "job=dmo"], 78, "job=dmo is not known. Known: demo, demo-forest."),
        (["plan", *GIVEN], 78, "bundle is not a bundle"),
        (["run", *GIVEN, "workspace="], 78, "workspace is empty"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_what_is_said_wrongly_is_told_and_leaves_no_trace(given, code, said, tmp_path):
    done = command(*given, folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1 or "Commands:" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, tmp_path):
    done = command(verb, "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"scoring {verb}: {VERBS[verb].said}")


def test_the_job_can_be_seen_and_hydra_leaves_nothing_behind(tmp_path):
    done = command("run", *GIVEN, "engine=inline", "--cfg", "job", folder=tmp_path)
    assert done.returncode == 0
    assert re.search(r"^engine:\n  kind: inline$", done.stdout, re.MULTILINE)
    assert re.search(r"^workspace: out$", done.stdout, re.MULTILINE)
    assert "hydra" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_had_enough_changes_no_exit_code(tmp_path):
    for reader, verb in (("true", "--help"), ("head -1", "run --help")):
        line = f"{sys.executable} -m scoring {verb} | {reader}; exit ${{PIPESTATUS[0]}}"
        known = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=known, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("source.pth=x", "source.pth is not a setting. Did you mean 'source.path'?"),
        ("xyzzy=1", "xyzzy is not a setting. See scoring run --help."),
        ("+xyzzy=1", "xyzzy is not a setting. Known: contract,"),
        ("engine=rayy", "engine=rayy is not known. Known: inline, ray."),
        ("engine.lanes=two", "engine.lanes: Input should be a valid integer"),
        ("engine.lanes=0", "engine.lanes must be at least 1, not 0."),
        ("engine.lanes", "'engine.lanes' cannot be understood. Say key=value"),
        ("engine.lanes=1,2", "Ambiguous value"),
        ("model.bundle=???", "model.bundle: missing. Say model.bundle=…"),
        ("engine.lanes=${oc.env:NO_SUCH_NAME}", "engine.lanes: the environment variable NO_SUCH_NAME is not set."),
        ("engine.lanes=${nowhere.at.all}", "nowhere"),
        ("run_id=${oc.create:x}", "${oc.create:…} is not allowed"),
        ("run_id='${oc.env:A,${oc.decode:x}}'", "${oc.decode:…} is not allowed"),
        ("+contract.columns.x._target_=os.system", "_target_ is not allowed"),
        ("hydra.searchpath=[file:///etc]", "hydra's own settings are not part of a job"),
        ("+hydra/launcher=basic", "hydra's own settings are not part of a job"),
        ("++hydra.run.dir=x", "hydra's own settings are not part of a job"),
    ],
)
def test_overrides_that_cannot_be(override, said):
    assert said in refused(override)


def test_names_like_forbidden_ones_are_only_names():
    job, _ = settings([*GIVEN, "source.path=/data/my_target_file", "run_id=hydra"], None)
    assert (job.source.path, job.run_id) == ("/data/my_target_file", "hydra")


def test_what_the_environment_holds_is_used_and_never_shown(monkeypatch):
    monkeypatch.setenv("PLANTED", "hunter-2'2")
    job, written = settings([*GIVEN, "run_id=${oc.env:PLANTED}"], None)
    assert job.run_id == "hunter-2'2"
    assert "hunter" not in written
    assert "${oc.env:PLANTED}" in refused("engine.lanes=${oc.env:PLANTED}")
    assert "hunter" not in refused("engine.lanes=${oc.env:PLANTED}")


def test_a_program_with_a_hydra_of_its_own_may_call_us():
    with initialize_config_module("scoring.conf", version_base="1.3"):
        settings(GIVEN, None)
        with pytest.raises(ConfigError):
            settings([*GIVEN, "engine=rayy"], None)
        assert compose("run", ["source=csv"]).source.kind == "csv"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_bad_rows: 1\n_target_: os.system\n", "_target_ is not allowed"),
        ("max_bad_rows: !!python/object/apply:os.system [ls]\n", "has YAML tags"),
        ("max_bad_rows: !!int 1\n", "has YAML tags"),
        ("a: &a [1]\nb: [" + "*a," * 65 + "]\n", "more than 64 aliases"),
        ("max_bad_rows: [\n", "is not YAML"),
        ("max_bad_rows: 1\nmax_bad_rows: 2\n", "duplicate key max_bad_rows"),
        ("# " + "x" * (1 << 20) + "\n", "more than 1,048,576 bytes"),
        ("\udcff", "is not YAML"),
    ],
    ids=["target", "python tag", "tag", "aliases", "syntax", "twice", "size", "encoding"],
)
def test_folders_of_the_user_are_looked_at_before_hydra_sees_them(text, said, tmp_path):
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "own.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert said in refused("release=own", config_dir=str(tmp_path))


def test_a_folder_of_the_user_adds_choices(tmp_path):
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "own.yaml").write_text("max_bad_rows: 7\n")
    job, _ = settings([*GIVEN, "release=own"], str(tmp_path))
    assert job.release.max_bad_rows == 7
    assert "Known: default, own, strict." in refused("release=owm", config_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="there is no folder"):
        safe_folder(str(tmp_path / "nowhere"))


def test_flags_and_words():
    said = flags(["a=1", "--json", "--config-dir", "x", "-m", "--cfg=job", "b=c=d"])
    assert (said.flags, said.words, said.config_dir) == ({"--json", "-m", "--cfg"}, ["a=1", "b=c=d"], "x")
    given = words("verify", ["workspace=a=b", "--json"])
    assert (given.words, given.switches) == ({"workspace": "a=b"}, {"json"})
    assert words("verify", ["--workspace", "a"]).words == words("verify", ["--workspace=a"]).words == {"workspace": "a"}
    with pytest.raises(UsageError, match="--cfg"):
        flags(["--cfg"])

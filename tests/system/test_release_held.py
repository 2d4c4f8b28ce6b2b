"""A held partition is published or dropped by a person's decision: recorded, and once, whatever dies and however often said."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workload import HERE, ROOT, RUN, Quiet, assert_sound, job, manifests, plain_days, quarantine, score_bytes

from scoring.errors import ChangedError, ConfigError, HeldError, RefusedError, StoreError, UsageError
from scoring.jobs import release_held as verb
from scoring.jobs.arguments import words
from scoring.jobs.release_held import release_held
from scoring.jobs.run import run
from scoring.sinks import held as holding
from scoring.stores import LocalStore, open_store

KEYS = ("day=2026-01-01", "day=2026-01-02")
SITES = (
    "release.after_decision",
    "publish.before_manifest",
    "publish.after_manifest",
    "publish.after_show",
    "release.before_ledger",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two partitions with two bad rows a file."""
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=1, groups=3, group_rows=40)


@pytest.fixture(scope="module")
def template(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("held") / "w"
    assert run(strict(workspace, data, bundle), "", Quiet()).status == "held"
    return workspace


@pytest.fixture
def held(template: Path, tmp_path: Path) -> Path:
    """A workspace in which both partitions are held."""
    subprocess.run(["cp", "-al", template, tmp_path / "w"], check=True)  # hard links, as the workspace itself has
    return tmp_path / "w"


def strict(workspace: Path, data: Path, bundle: Path, **changes: Any) -> Any:
    return job(workspace, data, bundle, **{"release__max_bad_rows": 0, **changes})


def entries(workspace: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((workspace / "ledger").glob("*.json"))]


def kinds(workspace: Path) -> list[str]:
    return [f"{e['kind']} {e['subject']}" for e in entries(workspace)]


def test_released_it_is_what_an_undisturbed_run_publishes(held: Path, data: Path, bundle: Path, tmp_path: Path) -> None:
    run(job(tmp_path / "free", data, bundle), "", Quiet())
    for key in KEYS:
        found = release_held(str(held), RUN, key, "looked at them")
        assert (found.kind, found.version, found.already) == ("released", 1, False)
    assert_sound(held)
    assert score_bytes(held) == score_bytes(tmp_path / "free")
    assert quarantine(held) == quarantine(tmp_path / "free")
    before = kinds(held)
    assert run(strict(held, data, bundle), "", Quiet()).message.startswith("Nothing to do")
    assert kinds(held) == before


def test_who_why_and_what_had_failed_stand_in_manifest_ledger_and_record(held: Path) -> None:
    release_held(str(held), RUN, KEYS[0], "the shop was closed")
    override = manifests(held)[KEYS[0]].override
    assert override is not None
    assert (override.actor, override.reason) == (getpass.getuser(), "the shop was closed")
    assert override.failed == ("bad_rows 2, expected <= 0",)
    (entry,) = [e for e in entries(held) if e["kind"] == "released"]
    assert (entry["actor"], entry["payload"]["by"], entry["payload"]["reason"]) == (*[getpass.getuser()] * 2, "the shop was closed")
    record = json.loads((held / "runs" / RUN / "record.json").read_text())
    assert [p["status"] for p in record["partitions"]] == ["published-with-warnings", "held"]
    assert record["status"] == "held"
    release_held(str(held), RUN, KEYS[1], "as well")
    assert json.loads((held / "runs" / RUN / "record.json").read_text())["status"] == "published-with-warnings"


def test_a_decision_said_again_changes_nothing_and_another_is_refused(held: Path) -> None:
    first = release_held(str(held), RUN, KEYS[0], "fine")
    before = sorted(p for p in held.rglob("*") if "spool" not in str(p))
    again = release_held(str(held), RUN, KEYS[0], "still fine")
    assert (again.already, again.reason, again.version) == (True, "fine", first.version)
    assert sorted(p for p in held.rglob("*") if "spool" not in str(p)) == before
    with pytest.raises(RefusedError, match=r"was released by .*: fine"):
        release_held(str(held), RUN, KEYS[0], "no", discard=True)


def test_a_normal_run_judges_a_held_partition_again(held: Path, data: Path, bundle: Path) -> None:
    assert run(strict(held, data, bundle), "", Quiet()).status == "held"
    assert kinds(held) == [f"held {key}" for key in KEYS], "the same verdict is said once"
    assert run(strict(held, data, bundle, release__max_bad_rows=1), "", Quiet()).status == "held"
    assert len(kinds(held)) == 4, "another limit is another verdict"
    assert run(strict(held, data, bundle, release__max_bad_rows=2), "", Quiet()).status == "published"
    with pytest.raises(ConfigError, match="is not held: that run published it as version 1"):
        release_held(str(held), RUN, KEYS[0], "late")


def test_discarded_it_is_scored_afresh(held: Path, data: Path, bundle: Path) -> None:
    store, quiet = open_store(str(held)), Quiet()
    kept = {key: holding.newest(store, RUN, key) for key in KEYS}
    found = release_held(str(held), RUN, KEYS[0], "wrong file", discard=True)
    assert (found.kind, found.version) == ("discarded", 0)
    assert len(os.listdir(held / "runs" / RUN / "staged")) == len(kept[KEYS[1]].slices)
    record = run(strict(held, data, bundle), "", quiet)
    assert record.status == "held"
    attempts = {r.attempt for r in quiet.receipts if r.partition == KEYS[0]}
    assert attempts.isdisjoint({r.attempt for r in quiet.receipts if r.partition == KEYS[1]})
    assert holding.newest(store, RUN, KEYS[0]).version == 2
    assert release_held(str(held), RUN, KEYS[0], "now it is right").version == 1
    assert_sound(held)


def test_what_a_published_version_shares_is_not_discarded(held: Path, data: Path, bundle: Path) -> None:
    """A published partition gets another file, and the new version is held: the old slices belong to both."""
    release_held(str(held), RUN, KEYS[0], "fine")
    copy = held.parent / "more"
    subprocess.run(["cp", "-a", data, copy], check=True)
    for name in ("f0", "f9"):
        subprocess.run(["cp", "-a", data / KEYS[1] / "f0.parquet", copy / KEYS[0] / f"{name}.parquet"], check=True)
    given = strict(held, copy, bundle, release__on_change="rescore", source__duplicates="keep")
    given_id = given.__class__(**{**given.__dict__, "run_id": "second"})
    assert run(given_id, "", Quiet()).status == "held"
    with pytest.raises(ConfigError, match="did not hold"):
        release_held(str(held), "second", "day=1", "x")
    release_held(str(held), "second", KEYS[0], "not this one", discard=True)
    assert_sound(held)
    assert manifests(held)[KEYS[0]].version == 1


@pytest.mark.parametrize("discard", [False, True])
def test_overtaken_by_a_newer_version(held: Path, data: Path, bundle: Path, discard: bool) -> None:
    given = job(held, data, bundle)
    newer = given.__class__(**{**given.__dict__, "run_id": "newer"})
    assert run(newer, "", Quiet()).status == "published"
    if discard:
        assert release_held(str(held), RUN, KEYS[0], "stale", discard=True).kind == "discarded"
    else:
        with pytest.raises(ChangedError, match="was published as version 1 after run the-run was held"):
            release_held(str(held), RUN, KEYS[0], "stale")
    assert_sound(held)


def test_names_that_there_are_not_and_reasons_that_were_not_given(held: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no run 'the-rum' .* Nearest: the-run\."):
        release_held(str(held), "the-rum", KEYS[0], "x")
    with pytest.raises(ConfigError, match=r"did not hold 'day=2026-01-11'\. Nearest: day=2026-01-01"):
        release_held(str(held), RUN, "day=2026-01-11", "x")
    for missing in (["--reason="], []):
        with pytest.raises(UsageError, match="needs reason=…"):
            verb.command(words("release-held", [RUN, KEYS[0], f"workspace={held}", *missing]))
    with pytest.raises(UsageError, match="needs PARTITION"):
        verb.command(words("release-held", [RUN]))


def test_rows_that_are_not_accounted_for_are_never_released(held: Path) -> None:
    store = open_store(str(held))
    found = holding.newest(store, RUN, KEYS[0])
    lost = holding.Check("conservation", KEYS[0], "fail", "error", "121 rows", "120 rows")
    holding.hold(store, found.__class__(**{**found.__dict__, "checks": (lost,), "planned_rows": 121}))
    with pytest.raises(HeldError, match="conservation 120 rows, expected 121 rows"):
        release_held(str(held), RUN, KEYS[0], "let it go")


def test_staged_files_that_changed_are_not_released(held: Path) -> None:
    (path, *_) = (held / "runs" / RUN / "staged").iterdir()
    path.unlink()
    (hurt,) = [held for held in holding.holds(open_store(str(held)), RUN) if path.stem in dict(held.slices)]
    with pytest.raises(StoreError, match=f"{path.stem}.parquet is not what it was when"):
        release_held(str(held), RUN, hurt.key, "x")


SCRIPT = """
import os, signal, sys
from scoring.jobs.release_held import release_held
workspace, run, key, discard, fatal = sys.argv[1:]
release_held(workspace, run, key, "why not", discard == "1",
             lambda site: os.kill(os.getpid(), signal.SIGKILL) if site == fatal else None)
"""


def die(workspace: Path, discard: bool, site: str) -> None:
    code = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(workspace), RUN, KEYS[0], str(int(discard)), site],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"},
        check=False,
    ).returncode
    assert code == -signal.SIGKILL


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("after", ["said again", "a run"])
def test_killed_while_releasing(held: Path, data: Path, bundle: Path, site: str, after: str) -> None:
    die(held, False, site)
    if after == "a run":
        assert run(strict(held, data, bundle), "", Quiet()).status == "held", "the other one still is"
    assert release_held(str(held), RUN, KEYS[0], "again").reason == "why not"
    assert manifests(held)[KEYS[0]].version == 1
    assert_sound(held)
    found = [e["kind"] for e in entries(held) if e["subject"] == KEYS[0]]
    assert found == ["held", "published", "released"]


@pytest.mark.parametrize("site", ["release.after_decision", "release.before_ledger"])
@pytest.mark.parametrize("after", ["said again", "a run"])
def test_killed_while_discarding(held: Path, data: Path, bundle: Path, site: str, after: str) -> None:
    die(held, True, site)
    if after == "a run":
        quiet = Quiet()
        assert run(strict(held, data, bundle), "", quiet).status == "held"
        assert holding.newest(LocalStore(str(held)), RUN, KEYS[0]).version == 2
    else:
        release_held(str(held), RUN, KEYS[0], "again", discard=True)
        assert holding.newest(LocalStore(str(held)), RUN, KEYS[0]).version == 1
    assert [e["kind"] for e in entries(held) if e["subject"] == KEYS[0]].count("discarded") == 1

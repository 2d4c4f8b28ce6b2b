"""What is damaged is found and named, down to one byte of any entry, manifest or file; what a crash leaves is told apart."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from workload import RUN, Quiet, job, plain_days

from scoring.jobs.arguments import words
from scoring.jobs.release_held import release_held
from scoring.jobs.requeue import requeue
from scoring.jobs.run import run
from scoring.jobs.verify import command, render, verify
from scoring.ledger.chain import HEAD
from scoring.sinks.publish import current
from scoring.stores import LocalStore

KEYS = [f"day=2026-01-0{n}" for n in (1, 2)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=1, groups=2, group_rows=30)


@pytest.fixture(scope="module")
def template(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held, one released and one discarded and published by another limit, then requeued: every kind of entry."""
    place = tmp_path_factory.mktemp("made") / "w"
    run(job(place, data, bundle, release__max_bad_rows=1), "", Quiet())
    release_held(str(place), RUN, KEYS[0], "looked at")
    release_held(str(place), RUN, KEYS[1], "again", discard=True)
    run(job(place, data, bundle), "", Quiet())
    loose = job(place, data, bundle, contract__columns={"amount": {"dtype": "float64", "min": -50.0}}, run_id="requeued")
    requeue(loose, "", Quiet(), lambda: None)
    return place


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", template, tmp_path / "w"], check=True)
    return tmp_path / "w"


def entries(place: Path) -> list[Path]:
    return sorted((place / "ledger").glob("*.json"))


def flip(path: Path, at: int, change: int = 1) -> Callable[[], None]:
    """Change one byte under every name of the file; returns what puts it back."""
    before = path.read_bytes()
    path.write_bytes(before[:at] + bytes([before[at] ^ change]) + before[at + 1 :])
    return lambda: path.write_bytes(before) and None


def problems(place: Path) -> tuple[str, ...]:
    return verify(str(place)).problems


def test_all_is_intact_and_every_kind_of_entry_is_there(place: Path) -> None:
    found = verify(str(place))
    assert (found.problems, found.notes, found.partitions, found.rows) == ((), (), 2, 2 * 60 - 2)
    kinds = [json.loads(path.read_bytes())["kind"] for path in entries(place)]
    assert sorted(set(kinds)) == ["discarded", "held", "published", "released", "requeued"]
    assert kinds.count("published") == 4
    assert render(found).startswith("intact: 2 partitions")
    assert command(words("verify", [f"workspace={place}"]))[1] == 0


def test_any_changed_byte_of_what_decides_is_found(place: Path) -> None:
    """Ledger, its head, manifests of all versions, held records: a sample of bytes of each, the first and the last among them."""
    rng = Random(1)
    files = [*entries(place), place / HEAD, *(place / "scores/_manifests").rglob("*.json")]
    files += [p for p in (place / "runs").rglob("held/**/*.json") if ".decision" not in p.name]
    assert len(files) >= 12
    for path in files:
        size = path.stat().st_size
        for at in {0, size - 1, *(rng.randrange(size) for _ in range(4))}:
            restore = flip(path, at, rng.randrange(1, 256))
            assert problems(place), f"byte {at} of {path}"
            restore()
    assert not problems(place)


def test_any_changed_byte_of_a_published_file_is_found(place: Path) -> None:
    rng = Random(2)
    store = LocalStore(str(place))
    for key in KEYS:
        manifest = current(store, key)
        for file in (*manifest.files, *manifest.quarantine):
            for name in (file.path, file.staged):
                restore = flip(place / name, rng.randrange((place / name).stat().st_size))
                assert problems(place), name
                restore()
    assert not problems(place)


def test_a_staged_original_that_was_replaced_is_found(place: Path) -> None:
    """Readers of manifests read it; the public name still shows the old bytes."""
    file = current(LocalStore(str(place)), KEYS[0]).files[0]
    path = place / file.staged
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"X")
    assert problems(place) == (f"{file.staged}: its content has changed",)


@pytest.mark.parametrize("last", [1, 3])
@pytest.mark.parametrize("head", ["kept", "rolled back", "removed"])
def test_entries_that_were_cut_off_are_missed(place: Path, last: int, head: str) -> None:
    """Even where the head that is kept apart was forged to match: manifests and run records know it too."""
    for path in entries(place)[-last:]:
        path.unlink()
    if head == "removed":
        (place / HEAD).unlink()
    elif head == "rolled back":
        entry = json.loads(entries(place)[-1].read_bytes())
        (place / HEAD).write_bytes(json.dumps({"hash": entry["hash"], "seq": entry["seq"]}, separators=(",", ":")).encode())
    assert any("ledger" in problem for problem in problems(place))
    assert command(words("verify", [f"workspace={place}"]))[1] == 65


def test_a_manifest_that_is_gone_or_was_added(place: Path, data: Path, bundle: Path) -> None:
    first = place / f"scores/_manifests/{KEYS[0]}/v00001.json"
    kept = first.read_bytes()
    first.unlink()
    assert any("'published day=2026-01-01 v1', and what it is about is gone" in p for p in problems(place))
    first.write_bytes(kept)
    forged = place / f"scores/_manifests/{KEYS[0]}/v00003.json"
    newest = (place / f"scores/_manifests/{KEYS[0]}/v00002.json").read_bytes()
    forged.write_bytes(newest.replace(b'"version":2', b'"version":3'))
    assert any("v00003.json: the ledger does not say that it was published" in p for p in problems(place))


def test_files_that_are_missing_or_strange_in_a_public_folder(place: Path) -> None:
    folder = place / "scores" / KEYS[0]
    name = next(folder.glob("*.parquet"))
    (folder / "part-99999-x.parquet").write_bytes(name.read_bytes())
    assert problems(place) == (f"scores/{KEYS[0]}: missing nothing; strange part-99999-x.parquet",)
    (folder / "part-99999-x.parquet").unlink()
    name.unlink()
    assert problems(place) == (f"scores/{KEYS[0]}: missing {name.name}; strange nothing",)


def crash(place: Path, data: Path, bundle: Path, site: str) -> None:
    fault = {"site": site, "kind": "raise", "once": str(place / "mark")}
    with pytest.raises(ValueError, match=site):
        run(job(place, data, bundle, engine__faults=(fault,)), "", Quiet())


@pytest.mark.parametrize("site", ["publish.before_manifest", "publish.after_manifest", "publish.after_show"])
def test_what_a_crash_leaves_is_a_note_and_the_next_run_ends_it(data: Path, bundle: Path, tmp_path: Path, site: str) -> None:
    place = tmp_path / "w"
    crash(place, data, bundle, site)
    found = verify(str(place))
    assert found.problems == ()
    assert bool(found.notes) == (site != "publish.before_manifest")
    run(job(place, data, bundle), "", Quiet())
    assert (verify(str(place)).problems, verify(str(place)).notes) == ((), ())


def test_an_unsaid_publication_in_the_middle_is_no_crash(data: Path, bundle: Path, tmp_path: Path) -> None:
    """A manifest that nobody announced, though others were announced since, is not what a crash leaves."""
    place: Any = tmp_path / "w"
    run(job(place, data, bundle), "", Quiet())
    name = place / f"scores/_manifests/{KEYS[0]}/v00001.json"
    other = place / "scores/_manifests/day=2026-01-09/v00001.json"
    other.parent.mkdir()
    other.write_bytes(name.read_bytes().replace(KEYS[0].encode(), b"day=2026-01-09"))
    assert any("day=2026-01-09/v00001.json: the ledger does not say" in p for p in problems(place))

"""Die, or meet a failing disk, at every named place, alone or beside another attempt: after the next run all is there once."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import small_job
from obstore.store import MemoryStore

from scoring.errors import BusyError, StoreError
from scoring.sinks.publish import current, published, repair
from scoring.stores import LocalStore
from scoring.stores.objects import ObjectStore


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return LocalStore(str(tmp_path / "w")) if request.param == "local" else ObjectStore("memory://w", MemoryStore())


def begin(root, attempt, site):
    script = os.path.join(os.path.dirname(__file__), "small_job.py")
    folders = os.pathsep.join([os.path.dirname(script), os.getcwd()])
    process = subprocess.Popen(
        [sys.executable, script, root, attempt, site],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": folders},
    )
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("site", small_job.SITES)
@pytest.mark.parametrize("attempts", [1, 2])
def test_killed_anywhere(tmp_path, site, attempts):
    store = LocalStore(str(tmp_path / "w"))
    processes = [begin(store.root, f"dead{n}", site if n == 0 else "nowhere") for n in range(attempts)]
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    # beside another attempt the first may lose every race and get past its site alive
    assert processes[0].returncode in ((-signal.SIGKILL,) if attempts == 1 else (-signal.SIGKILL, 0))
    store.sweep()
    for manifest in published(store):
        repair(store, manifest)
        small_job.check(store)
    small_job.do(store, "again")
    manifest = small_job.check(store)
    assert manifest.version == 1
    assert os.listdir(os.path.join(store.root, "runs/.spool")) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("site", small_job.SITES)
def test_a_failing_disk_anywhere(store, site, code):
    left = [1]

    def strike(here):
        if here == site and left:
            left.clear()
            raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=os.strerror(code)):
        small_job.do(store, "first", strike)
    small_job.do(store, "second")
    assert small_job.check(store).version == 1


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("nth", range(1, 9))
def test_every_put_may_lie(tmp_path, monkeypatch, nth, applied):
    """Seven puts on disk: four quarantine files, three staged files and the manifest make eight."""
    store = LocalStore(str(tmp_path / "w"))
    real, left = store.put, [nth]

    def put(key, data):
        left[0] -= 1
        if left[0] != 0:
            return real(key, data)
        if applied:
            real(key, data)
        raise StoreError("timed out")

    monkeypatch.setattr(store, "put", put)
    with pytest.raises(StoreError, match="timed out"):
        small_job.do(store, "first")
    small_job.do(store, "second")
    assert small_job.check(store).version == 1


def test_both_attempts_get_the_winners_receipt_and_the_loser_leaves_nothing(store):
    """The second attempt has written everything when the first commits."""
    first = []
    second = small_job.stage(
        store, 0, "b", lambda site: first.append(small_job.stage(store, 0, "a")) if site == "stage.before_link" else None
    )
    assert second == first[0]
    assert second.attempt == "a"
    assert [name for name in store.list("runs/r-1/quarantine")] == [file.key for file in second.quarantine]


def test_another_run_that_was_quicker_is_not_overwritten():
    """It publishes between our look and our commit: no turn holds it back in a bucket."""
    store, others = ObjectStore("memory://w", MemoryStore()), []

    def meanwhile(site):
        if site == "publish.before_manifest":
            others.append(small_job.do(store, "b", identity=small_job.other_run(2)))

    with pytest.raises(BusyError, match="by run r-2 meanwhile"):
        small_job.do(store, "a", meanwhile)
    assert current(store, small_job.KEY) == others[0]
    small_job.do(store, "a")
    assert small_job.check(store).version == 2

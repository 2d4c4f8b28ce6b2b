"""The folder store on a real file system: races of processes, faults of the disk, keys and links that would leave, the lock."""

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import BusyError, ConfigError, StoreError
from scoring.stores import LocalStore, checked, open_store, probe

RACER = """
import sys
from scoring.stores import LocalStore
store, me = LocalStore(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
for line in sys.stdin:
    key = "race/" + line.strip()
    print(int(store.put(key, (me * 1000).encode())), flush=True)
"""


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "w"))


def test_four_processes_fifty_rounds_one_winner_each(store):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, store.root, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for n in range(4)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for turn in range(50):
        for racer in racers:
            racer.stdin.write(f"{turn}\n")
            racer.stdin.flush()
        won = [n for n, racer in enumerate(racers) if racer.stdout.readline() == "1\n"]
        assert len(won) == 1
        assert store.get(f"race/{turn}") == str(won[0]).encode() * 1000
    for racer in racers:
        racer.communicate()
    assert os.listdir(os.path.join(store.root, "runs/.spool")) == []


def failing(monkeypatch, name, code, applied):
    """Let an os function fail once, before or after it took effect."""
    real, left = getattr(os, name), [1]

    def broken(*args, **kwargs):
        if not left:
            return real(*args, **kwargs)
        left.clear()
        if applied:
            real(*args, **kwargs)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, name, broken)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("name", ["link", "fsync"])
def test_a_disk_that_fails_leaves_the_whole_object_or_none(store, monkeypatch, name, code):
    failing(monkeypatch, name, code, applied=False)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        store.put("a/b", b"x" * 10_000)
    assert caught.value.errno == code
    assert not store.exists("a/b")
    assert store.put("a/b", b"y") is True
    assert os.listdir(os.path.join(store.root, "runs/.spool")) == []


def test_a_link_that_was_made_but_reported_as_failed_has_won(store, monkeypatch):
    failing(monkeypatch, "link", errno.EIO, applied=True)
    assert store.put("a/b", b"x") is True
    failing(monkeypatch, "link", errno.EEXIST, applied=True)  # a lost NFS reply, sent again
    assert store.put("a/c", b"x") is True


def test_without_hard_links_the_exclusive_rename_does(store, monkeypatch):
    def no_links(*args, **kwargs):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    probe(store)
    assert [store.put("a", b"1"), store.put("a", b"2")] == [True, False]
    own = store.spool("x")
    own.write_bytes(b"3")
    assert store.put("b", own)
    store.copy("b", "c/d")
    store.copy("a", "c/d")
    assert store.get("c/d") == b"3"


def test_a_file_too_large_for_the_disk_is_not_there(tmp_path):
    """A real short write: the kernel refuses at 1 MB, as it does when a disk is full."""
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from scoring.stores import LocalStore
try:
    LocalStore(sys.argv[1]).put("a/b", b"x" * (2 << 20))
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) == errno.EFBIG
    store = LocalStore(str(tmp_path))
    assert list(store.list("a")) == []
    assert os.listdir(tmp_path / "runs/.spool") == []


def test_file_and_folder_are_flushed_before_put_returns(store, monkeypatch):
    """What can be seen of durability without pulling a plug: data before its name, the name before the answer."""
    seen = []
    real_sync, real_link = os.fsync, os.link

    def fsync(handle):
        seen.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_sync(handle)

    def link(*args, **kwargs):
        seen.append("link")
        real_link(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    store.put("a/b", b"x")
    assert [s for s in seen if s != "folder"] == ["file", "link"]
    assert seen[-1] == "folder"
    assert seen.count("folder") >= 2, "the new folder a must be durable in its parent too"


@given(st.text(max_size=20))
def test_a_key_stays_inside_or_is_refused(key):
    try:
        checked(key)
    except StoreError:
        return
    assert os.path.normpath(os.path.join("/root/w", key)).startswith("/root/w")
    assert "\0" not in key


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a\0b"])
def test_evil_keys_are_refused(store, key):
    for call in (store.get, store.exists, store.remove, lambda k: store.put(k, b""), lambda k: list(store.list(k))):
        with pytest.raises(StoreError, match="no key inside"):
            call(key)


@pytest.mark.parametrize("where", ["a", "a/b"])
def test_a_link_out_of_the_workspace_is_refused(store, tmp_path, where):
    outside = tmp_path / "w2"  # begins with the name of the workspace
    outside.mkdir()
    (outside / "c").write_bytes(b"secret")
    link = store.path("x").parent / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    for call in (
        lambda: store.put(f"{where}/new", b"1"),
        lambda: store.get(f"{where}/c"),
        lambda: store.replace(f"{where}/c", b"2"),
    ):
        with pytest.raises(StoreError, match="leaves the workspace"):
            call()
    assert os.listdir(outside) == ["c"]


def test_modes_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        store = LocalStore(str(tmp_path / "w"))
        store.put("a/b", b"x")
        store.replace("c", b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(os.stat(tmp_path / "w" / name).st_mode) for name in ("a", "a/b", "c")]
    assert modes == [0o750, 0o640, 0o640]


HOLDER = """
import sys
from scoring.stores import LocalStore
with LocalStore(sys.argv[1]).lock({"run": "r-1"}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_run_is_told_who_holds_the_lock_and_death_frees_it(store):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match=rf"r-1 \(pid {process.pid} on \S+, since 20"), store.lock({"run": "r-2"}):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with store.lock({"run": "r-2"}):
        pass
    with store.lock({"run": "r-3"}):
        pass


def test_the_sweep_removes_what_dead_writers_left(store):
    store.spool("a").write_bytes(b"x")
    folder = store.spool("b")
    folder.mkdir()
    (folder / "c").touch()
    store.put("kept", b"x")
    store.sweep()
    assert os.listdir(os.path.join(store.root, "runs/.spool")) == []
    assert store.exists("kept")


def test_unknown_places_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="http://"):
        open_store("http://169.254.169.254/x")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        open_store(str(tmp_path / "file" / "w"))
    assert open_store(f"file://{tmp_path}").root == str(tmp_path)

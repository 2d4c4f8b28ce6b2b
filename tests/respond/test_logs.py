"""Logs: a line for what is said, with what it is about, clean and in order; and nothing that befalls a log befalls a run."""

import json
import logging
import os
import threading
import time
from datetime import datetime

import pytest
from obstore.store import MemoryStore

from scoring.errors import ConfigError
from scoring.log import Log, about, why
from scoring.respond.logs import Logs
from scoring.settings import Logs as Settings
from scoring.stores import LocalStore
from scoring.stores.objects import ObjectStore

LOG = Log("pool")
DEFAULT = Settings()
SECRET = "canary-log-77f1"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(folder, say, settings=DEFAULT, **more):
    with Logs(settings, **more) as logs:
        say()
        logs.begin("r", LocalStore(str(folder)))
    return lines(folder / "runs/r/log.jsonl")


def test_a_line_is_an_object_with_what_it_is_about(tmp_path):
    def say():
        with about(run_id="r", partition="date=1"), about(slice_id="s", attempt="a-1", lane=3):
            LOG.warning("slice.failed", cause="memory", rows={"in": 5})

    (line,) = logged(tmp_path, say)
    assert list(line)[:9] == ["timestamp", "level", "event", "logger", "run_id", "partition", "slice_id", "attempt", "lane"]
    assert line["timestamp"].endswith("Z")
    assert abs(time.time() - datetime.fromisoformat(line["timestamp"]).timestamp()) < 60
    assert {k: v for k, v in line.items() if k != "timestamp"} == {
        "level": "warning", "event": "slice.failed",
        "logger": "scoring.pool", "run_id": "r", "partition": "date=1", "slice_id": "s", "attempt": "a-1",
        "lane": 3, "cause": "memory", "rows": {"in": 5},
    }  # fmt: skip


def test_what_is_said_outside_is_about_nothing(tmp_path):
    def say():
        with about(run_id="r"):
            pass
        LOG.info("x")

    assert "run_id" not in logged(tmp_path, say)[0]


@pytest.mark.parametrize(("level", "events"), [("debug", "abcd"), ("info", "bcd"), ("warning", "cd"), ("error", "d")])
def test_levels(tmp_path, level, events):
    def say():
        for name, one in zip("abcd", (LOG.debug, LOG.info, LOG.warning, LOG.error), strict=True):
            one(name)

    assert "".join(line["event"] for line in logged(tmp_path, say, Settings(level=level))) == events


def test_people_get_text_and_machines_json():
    for form in ("text", "json"):
        shown = []
        with Logs(Settings(file=False, stderr=form), shown.append):
            LOG.info("not shown")
            LOG.warning("lane.lost", lane=2)
            LOG.error("run.failed")  # the command says it itself, to people
        text = "\n".join(shown)
        assert "lane.lost" in text
        assert "not shown" not in text
        assert ("run.failed" in text) == (form == "json")
        if form == "json":
            assert json.loads(text.splitlines()[0])["lane"] == 2
        else:
            assert "lane=2" in text
    assert logging.getLogger("scoring").level == logging.NOTSET, "as it was"


@pytest.mark.parametrize("shown", [SECRET, SECRET.replace("-", "%2D") and f"https://x/?token={SECRET}", f"Bearer {SECRET}"])
def test_secrets_are_gone_also_for_handlers_of_others(tmp_path, monkeypatch, caplog, shown):
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    with caplog.at_level(logging.INFO, "scoring"):
        found = logged(tmp_path, lambda: LOG.error("x", message=f"at {shown}", inner={"deep": [shown]}))
    assert SECRET not in json.dumps(found) + caplog.text
    assert "***" in found[0]["message"]
    assert "***" in caplog.text


def test_users_and_signatures_in_addresses_are_gone(tmp_path):
    address = "https://me:hunter2@host/x?X-Amz-Signature=hunter2&x=1"
    (line,) = logged(tmp_path, lambda: LOG.info("x", url=address, said="password=hunter2, token_env=NAME"))
    assert line["url"] == "https://***@host/x?X-Amz-Signature=***&x=1"
    assert line["said"] == "password=***, token_env=NAME"


def test_a_line_is_one_line_and_steers_no_terminal(tmp_path):
    (line,) = logged(tmp_path, lambda: LOG.info("x", message="a\nb\x1b[31m" + "c" * 5_000))
    assert line["message"].startswith("a�b�[31m")
    assert len(line["message"]) == 500


def test_errors_are_told_by_class_and_without_data():
    with pytest.raises(ValueError, match="Alice") as raised:
        int("Alice")
    assert why(raised.value)["error"] == "ValueError"
    assert "Alice" not in str(why(raised.value))
    assert why(ConfigError("x: y"))["message"] == "x: y"


def test_lines_of_before_the_run_has_a_folder_are_kept(tmp_path):
    with Logs(Settings()) as logs:
        LOG.info("early")
        logs.begin("r", LocalStore(str(tmp_path)))
        LOG.info("late")
    with Logs(Settings()) as logs:
        logs.begin("r", LocalStore(str(tmp_path)))
        LOG.info("again")
    assert [line["event"] for line in lines(tmp_path / "runs/r/log.jsonl")] == ["early", "late", "again"], "a resumed run appends"


def test_in_a_bucket_a_log_is_a_row_of_objects():
    store = ObjectStore("memory://logs", MemoryStore())
    with Logs(Settings()) as logs:
        logs.begin("r", store)
        LOG.info("x")
    (key,) = store.list("runs/r")
    assert key.startswith("runs/r/log-")
    assert json.loads(store.get(key))["event"] == "x"


class Broken(LocalStore):
    def path(self, key):
        raise OSError(28, "No space left on device")


def test_a_full_disk_and_a_terminal_that_is_gone_hurt_nobody(tmp_path):
    read, write = os.pipe()
    os.close(read)
    tried = []

    def say(text):
        tried.append(text)
        os.write(write, text.encode())

    with Logs(Settings(stderr_level="info"), say) as logs:
        logs.begin("r", Broken(str(tmp_path)))
        LOG.info("x")
    os.close(write)
    assert tried
    assert not (tmp_path / "runs").exists()


def test_a_disk_that_hangs_holds_nobody(tmp_path):
    hangs = threading.Event()

    class Hanging(LocalStore):
        def path(self, key):
            hangs.wait()
            return super().path(key)

    began = time.monotonic()
    with Logs(Settings(), room=100) as logs:
        logs.begin("r", Hanging(str(tmp_path)))
        for n in range(300):
            LOG.info("x", n=n)
        said = time.monotonic() - began
    assert time.monotonic() - began < said + 3.0
    hangs.set()


def test_lines_that_had_no_room_are_counted(tmp_path):
    with Logs(Settings(), room=100) as logs:
        for n in range(110):
            LOG.info("x", n=n)
        logs.begin("r", LocalStore(str(tmp_path)))
    found = lines(tmp_path / "runs/r/log.jsonl")
    assert (found[0]["event"], found[0]["lines"]) == ("log.dropped", 10)
    assert len(found) == 101

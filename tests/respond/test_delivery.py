"""Messages and receivers: kept before they are sent, sent in order, gone when delivered; no receiver holds another, or anybody."""

import errno
import json
import socket
import threading
import time

import pytest
from receiver import closed, hanging, receiver

from scoring.respond.delivery import Http, Outcome, TextFile, deliver
from scoring.respond.once import FOLDER, Once
from scoring.respond.outbox import Message, Outbox
from scoring.stores import LocalStore

TOKEN = "canary-token-7f3a"


@pytest.fixture
def outbox(tmp_path):
    return Outbox(LocalStore(str(tmp_path / "w")))


def message(n, to="lineage", body=None):
    return Message(to, f"2026-{n:04d}", body or f'{{"n": {n}}}')


def http(url, name="lineage", method="POST"):
    return Http(name, f"{url}/api", method, "TEST_TOKEN")


def told(receivers, fresh, outbox, seconds=5.0):
    """The last word on each message."""
    said: list[Outcome] = []
    deliver(receivers, fresh, outbox, time.monotonic() + seconds, said.append)
    return {(o.to, o.id): o for o in said}


def test_messages_come_in_order_and_leave_the_outbox(outbox):
    with receiver() as there:
        outbox.keep(message(1))
        said = told([http(there.url)], [message(3), message(2)], outbox)
    assert [json.loads(r.body)["n"] for r in there.got] == [1, 2, 3]
    assert {o.state for o in said.values()} == {"delivered"}
    assert outbox.counts() == {}
    assert {(r.method, r.path, r.headers["Content-Type"]) for r in there.got} == {("POST", "/api", "application/json")}


def test_the_same_message_is_kept_once_and_the_later_one_counts(outbox):
    outbox.keep(message(1))
    outbox.keep(message(1, body="later"))
    assert [m.body for m in outbox.waiting("lineage")] == ["later"]


def test_a_foreign_file_in_the_outbox_is_left_alone(outbox, tmp_path):
    outbox.keep(message(1))
    strange = tmp_path / "w/outbox/lineage/0000.json"
    strange.write_text("[]")
    (tmp_path / "w/outbox/lineage/0001.json").write_text('{"to": "x", "id": "y", "body": "z"}')
    with receiver() as there:
        told([http(there.url)], [], outbox)
    assert len(there.got) == 1
    assert strange.exists()


@pytest.mark.parametrize("status", [500, 503, 401, 404])
def test_a_receiver_that_fails_is_asked_once(status, outbox):
    with receiver(status) as there:
        said = told([http(there.url)], [message(1), message(2)], outbox)
    assert len(there.got) == 1
    assert {(o.state, o.why) for o in said.values()} == {("waits", f"answered {status}")}
    assert outbox.counts() == {"lineage": 2}


def test_a_message_that_is_refused_does_not_stop_the_others(outbox):
    with receiver(422) as there:
        told([http(there.url)], [message(1), message(2)], outbox)
    assert len(there.got) == 2
    assert outbox.counts() == {"lineage": 2}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_no_delivery_and_takes_no_token_along(status, outbox, monkeypatch):
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    with receiver() as elsewhere, receiver(status, elsewhere.url) as there:
        said = told([http(there.url)], [message(1)], outbox)
    assert elsewhere.got == []
    assert [o.state for o in said.values()] == ["waits"]
    assert there.got[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_nobody_there(outbox):
    said = told([http(closed())], [message(1)], outbox)
    assert [(o.state, o.why) for o in said.values()] == [("waits", "Connection refused")]


def test_one_that_hangs_holds_neither_the_others_nor_us(outbox, tmp_path):
    began = time.monotonic()
    with hanging() as never, receiver() as there:
        fresh = [message(1), message(1, "pushgateway"), message(1, "textfile", "metrics\n")]
        receivers = [http(never), http(there.url, "pushgateway", "PUT"), TextFile("textfile", str(tmp_path / "x.prom"))]
        said = told(receivers, fresh, outbox, 1.0)
    assert time.monotonic() - began < 3
    assert len(there.got) == 1
    assert (tmp_path / "x.prom").read_text() == "metrics\n"
    assert said["lineage", "2026-0001"].state == "waits"
    assert outbox.counts() == {"lineage": 1}


def test_a_name_that_no_server_resolves_holds_nobody(outbox, monkeypatch):
    """getaddrinfo knows no time limit, and no timeout of a socket ends it."""
    released = threading.Event()

    def stuck(*given, **more):
        released.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    began = time.monotonic()
    said = told([http("http://receiver.invalid")], [message(1)], outbox, 0.5)
    released.set()
    assert time.monotonic() - began < 2
    assert said["lineage", "2026-0001"].state == "waits"


def test_what_can_be_neither_kept_nor_delivered_is_said_to_be_lost(tmp_path):
    class Full(LocalStore):
        def put(self, key, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    full = Outbox(Full(str(tmp_path)))
    said = told([http(closed())], [message(1)], full)
    assert [(o.state, o.why) for o in said.values()] == [("lost", "Connection refused; outbox: No space left on device")]
    with receiver() as there:
        assert {o.state for o in told([http(there.url)], [message(2), message(1)], full).values()} == {"delivered"}
    assert [json.loads(r.body)["n"] for r in there.got] == [1, 2]


def test_a_textfile_that_cannot_be_written_leaves_the_old_one(outbox, tmp_path):
    folder = tmp_path / "gone"
    said = told([TextFile("textfile", str(folder / "x.prom"))], [message(1, "textfile")], outbox)
    assert [(o.state, o.why) for o in said.values()] == [("waits", "No such file or directory")]
    folder.mkdir()
    assert [o.state for o in told([TextFile("textfile", str(folder / "x.prom"))], [], outbox).values()] == ["delivered"]
    assert [p.name for p in folder.iterdir()] == ["x.prom"]


def kept_at(outbox, monkeypatch, made, at):
    monkeypatch.setattr(time, "time", lambda: at)
    outbox.keep(made)


def test_what_waits_too_long_is_given_up_whoever_it_is_for(outbox, monkeypatch):
    for n, days in ((1, 0), (2, 9), (3, 11)):
        kept_at(outbox, monkeypatch, message(n, to="gone" if n == 1 else "lineage"), 1e9 + days * 86_400)
    found = list(outbox.trim(1 << 20, 10.0, 1e9 + 12 * 86_400))
    assert [(one.to, one.id, one.why) for one in found] == [("gone", "2026-0001", "it waited for more than 10 days")]
    assert outbox.counts() == {"lineage": 2}


def test_the_oldest_go_first_until_the_rest_fits(outbox, monkeypatch):
    for n in (3, 1, 2):  # kept in this order
        kept_at(outbox, monkeypatch, message(n, body="x" * 1000), 1e9 - n)
        monkeypatch.undo()
    found = list(outbox.trim(2500, 10.0, 1e9))
    assert [one.id for one in found] == ["2026-0003"]
    assert found[0].why == "more than 2,500 bytes waited"
    assert [m.id for m in outbox.waiting("lineage")] == ["2026-0001", "2026-0002"]
    assert list(outbox.trim(2500, 10.0, 1e9)) == []


def test_a_run_that_nobody_was_told_of_is_given_up_too(outbox, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1e9)
    outbox.mark("r1")
    assert [(one.to, one.id) for one in outbox.trim(1 << 20, 1.0, 1e9 + 90_000)] == [("untold", "r1")]
    assert outbox.untold() == []


def test_files_of_others_are_neither_counted_nor_removed(outbox, tmp_path):
    strange = tmp_path / "w/outbox/lineage/0000.json"
    strange.parent.mkdir(parents=True)
    for text in ("[]", "no JSON", '{"to": "x", "id": "y", "body": "z"}', "3"):
        strange.write_text(text)
        assert list(outbox.trim(1, 0.001, time.time() + 1e6)) == []
    assert strange.exists()


def test_a_message_is_held_until_its_time_and_holds_no_other(outbox):
    early = Message("lineage", "2026-0001", '{"n": 1}', after="2999-01-01T00:00:00+00:00")
    ripe = Message("lineage", "2026-0002", '{"n": 2}', after="2020-01-01T00:00:00+00:00")
    odd = Message("lineage", "2026-0003", '{"n": 3}', after="soon")
    with receiver() as there:
        said = told([http(there.url)], [early, ripe, odd], outbox)
    assert [json.loads(r.body)["n"] for r in there.got] == [2, 3]
    assert (said["lineage", "2026-0001"].state, said["lineage", "2026-0001"].why) == (
        "waits",
        "held until 2999-01-01T00:00:00+00:00",
    )
    assert list(outbox.waiting("lineage")) == [early]


def test_who_took_a_message_is_not_sent_it_again(outbox, tmp_path):
    store = LocalStore(str(tmp_path / "w"))
    with receiver(500) as there:
        once = Once(http(there.url), store)
        assert [o.state for o in told([once], [message(1)], outbox).values()] == ["waits"]
        there.status = 200
        for _ in range(3):
            assert [o.state for o in told([once], [message(1)], outbox).values()] == ["delivered"]
        assert [json.loads(r.body)["n"] for r in there.got] == [1, 1], "what failed is no delivery"
        for n in range(2, 110):
            once.send(message(n), 5.0)
    assert len(list(store.list(FOLDER))) == 100, "notes are swept"


def test_where_nothing_can_be_noted_it_is_delivered_all_the_same(outbox, tmp_path):
    class Full(LocalStore):
        def put(self, key, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with receiver() as there:
        once = Once(http(there.url), Full(str(tmp_path / "f")))
        assert [o.state for o in told([once], [message(1)], outbox).values()] == ["delivered"]
    assert len(there.got) == 1

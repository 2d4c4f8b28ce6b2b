"""Leases and presence: one living holder at a time; whoever is wrong about that publishes nothing twice."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from obstore.store import MemoryStore

from scoring.errors import OvertakenError
from scoring.ledger import presence
from scoring.ledger.leases import Lease, Leases, next_generation
from scoring.ledger.presence import EXPIRY_S, Presence, living, myself, process_space, process_start
from scoring.sinks.publish import Identity, current, publish
from scoring.stores import LocalStore
from scoring.stores.objects import ObjectStore

KEYS = ["date=2026-01-01", "date=2026-01-02"]


@given(
    st.lists(st.builds(Lease, st.integers(1, 9), st.sampled_from(["", "a", "b", "me"])), unique_by=lambda lease: lease.generation)
)
def test_the_decision(found):
    wanted = next_generation(found, "me", {"a"}.__contains__)
    newest = max(found, key=lambda lease: lease.generation, default=None)
    if newest is None:
        assert wanted == 1
    elif newest.holder == "a":
        assert wanted is None
    else:
        assert wanted == newest.generation + (newest.holder != "me")


class Sharing(RuleBasedStateMachine):
    """Workers decide, claim, publish, die, and are thought dead although they live; in any order, each step on its own."""

    workers = Bundle("workers")

    def __init__(self):
        super().__init__()
        self.store = ObjectStore(f"memory://{uuid.uuid4().hex}", MemoryStore())
        self.present, self.slandered = set(), set()
        self.held, self.decided = {}, {}
        self.carried_out = Counter()

    @rule(target=workers, count=st.integers(1, 2))
    def come(self, count):
        names = [f"w{len(self.decided) + n}" for n in range(count)]
        for name in names:
            self.present.add(name)
            self.decided[name] = {key: self.version(key) for key in KEYS}
            self.held[name] = (Leases(self.store, name, lambda: self.present - self.slandered), set())
        return multiple(*names)

    @rule(worker=workers)
    def decide_again(self, worker):
        self.decided[worker] = {key: self.version(key) for key in KEYS}

    @rule(worker=workers, key=st.sampled_from(KEYS))
    def claim(self, worker, key):
        if worker not in self.present:
            return
        leases, mine = self.held[worker]
        others = [w for w in self.present - self.slandered - {worker} if key in self.held[w][1]]
        claimed = leases.claim(key)
        assert not (claimed and others and not self.slandered), f"{worker} and {others} hold {key}"
        assert claimed or any(w != worker for w in self.present), "a lease that nobody living has is refused"
        if claimed:
            mine.add(key)

    @rule(worker=workers, key=st.sampled_from(KEYS))
    def publish(self, worker, key):
        """Also by the dead (they may be slow only), and by those whose lease another has taken."""
        if key not in self.held[worker][1]:
            return
        replaces = self.decided[worker][key]
        try:
            made = publish(self.store, Identity(worker, {}, {}, worker), key, f"in-{replaces}", (), (), replaces=replaces)
        except OvertakenError:
            assert self.version(key) != replaces
            return
        assert made.version == replaces + 1
        self.carried_out[key, made.version, worker] = 1

    @rule(worker=workers, key=st.sampled_from(KEYS))
    def release(self, worker, key):
        leases, mine = self.held[worker]
        leases.release(key)
        mine.discard(key)

    @rule(worker=workers)
    def die(self, worker):
        self.present.discard(worker)

    @rule(worker=workers)
    def is_slandered(self, worker):
        self.slandered.add(worker)

    @invariant()
    def each_decision_is_carried_out_once(self):
        made = Counter((key, version) for key, version, _ in self.carried_out)
        assert all(count == 1 for count in made.values())
        for key in KEYS:
            assert sorted(version for k, version in made if k == key) == list(range(1, self.version(key) + 1))

    def version(self, key):
        standing = current(self.store, key)
        return standing.version if standing else 0


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))


def test_of_those_who_find_a_dead_holder_one_wins(tmp_path):
    store = LocalStore(str(tmp_path))
    assert Leases(store, "dead", set).claim("k")
    others = [Leases(store, name, lambda: {"a", "b", "c"}) for name in "abc"]
    assert [one.claim("k") for one in others] == [True, False, False]
    assert others[0].claim("k"), "one's own is claimed again"
    others[0].release("k")
    assert others[2].claim("k")
    assert len(list(store.list("control/leases"))) == 1


def test_a_lease_that_cannot_be_read_binds_nobody(tmp_path):
    store = LocalStore(str(tmp_path))
    first = Leases(store, "a", lambda: {"a"})
    first.claim("k")
    (key,) = store.list("control/leases")
    (tmp_path / key).write_text("{")
    assert Leases(store, "b", lambda: {"a"}).claim("k")


def test_on_one_machine_the_process_decides_and_elsewhere_the_clock():
    me = myself("backfill", "x", now=1000.0)
    here = process_space()
    assert living(me, 1e9, here, process_start)
    assert not living(replace(me, started="1"), 1000.0, here, process_start), "another process of the same number"
    away = replace(me, space="another machine")
    assert living(away, 1000.0 + EXPIRY_S - 1, here, lambda pid: "")
    assert not living(away, 1000.0 + EXPIRY_S + 1, here, lambda pid: "")


def test_the_killed_are_known_to_be_dead_at_once_even_as_zombies():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    started = process_start(process.pid)
    assert started
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(process.pid) == "", "dead, and not yet waited for"
    process.communicate()
    assert process_start(process.pid) == ""


def test_presence_comes_and_goes_and_the_dead_are_removed(tmp_path):
    store = LocalStore(str(tmp_path))
    one, other = Presence(store, "live", "one"), Presence(store, "backfill", "other")
    one.enter()
    other.enter()
    assert [found.what for found in other.others("live")] == ["one"]
    assert other.others("backfill") == []
    assert one.others()[0].said() == f"other (pid {os.getpid()} on {one.me.host})"
    assert other.live_waits.wait(10), "a backfill hears of live work by itself"
    one.leave()
    end = time.monotonic() + 10
    while other.live_waits.is_set() and time.monotonic() < end:
        pass
    assert not other.live_waits.is_set()
    dead = replace(myself("live", "dead", 0.0), started="1")
    store.replace(dead.name, presence.canonical(presence.asdict(dead)))
    assert other.others() == []
    assert list(store.list(presence.ROOT)) == [other.me.name]
    other.leave()
    assert list(store.list(presence.ROOT)) == []


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"id": 1}'])
def test_what_is_no_holder_is_passed_over(tmp_path, text):
    store = LocalStore(str(tmp_path))
    store.replace(f"{presence.ROOT}/x.json", text)
    assert Presence(store, "live", "one").others() == []

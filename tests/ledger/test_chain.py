"""No byte of the ledger can change, go or move unseen; a run that is resumed says nothing twice; two writers keep one chain."""

import getpass
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from scoring.errors import StoreError
from scoring.ledger.chain import GENESIS, HEAD, Ledger, verify
from scoring.stores import LocalStore
from scoring.stores.objects import ObjectStore

PAYLOADS = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8), max_size=4
)


def new_store():
    return ObjectStore("memory://ledger", MemoryStore())


def filled(n=4):
    store = new_store()
    ledger = Ledger(store)
    for k in range(n):
        assert ledger.append("published", f"date={k}", f"published date={k} v1", {"run_id": "r-1", "rows": k, "name": "ü"})
    return store


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found_where_it_is(data):
    store = filled()
    assert verify(store).ok
    seq = data.draw(st.integers(1, 4))
    line = bytearray(store.get(f"ledger/{seq:08d}.json"))
    place, change = data.draw(st.integers(0, len(line) - 1)), data.draw(st.integers(1, 255))
    line[place] ^= change
    store.replace(f"ledger/{seq:08d}.json", bytes(line))
    assert verify(store).broken == seq


@settings(max_examples=50, deadline=None)
@given(st.lists(PAYLOADS, min_size=1, max_size=6))
def test_whatever_is_said_verifies(payloads):
    store = new_store()
    ledger = Ledger(store, actor="someone")
    for n, payload in enumerate(payloads):
        ledger.append("note", "x", str(n), payload)
    verdict = verify(store)
    assert (verdict.entries, verdict.broken) == (len(payloads), None)
    assert verdict.head == json.loads(store.get(f"ledger/{len(payloads):08d}.json"))["hash"]
    assert [json.loads(store.get(key))["payload"] for key in store.list("ledger")] == payloads


@pytest.mark.parametrize("what", ["lost", "swapped", "copied", "renamed", "rewritten"])
def test_entries_cannot_go_or_move(what):
    store = filled()
    names = list(store.list("ledger"))
    second, third = (store.get(name) for name in names[1:3])
    if what == "lost":
        store.remove(names[1])
    elif what == "swapped":
        store.replace(names[1], third)
        store.replace(names[2], second)
    elif what == "copied":
        store.replace(names[2], second)
    elif what == "renamed":
        store.put("ledger/00000009.json", store.get(names[3]))
        store.remove(names[3])
    else:  # a forger who recomputes the entry's own hash
        Ledger(forged := new_store()).append("published", "date=0", "x", {"rows": 9})
        store.replace(names[0], forged.get(names[0]))
    broken = {"lost": 2, "swapped": 2, "copied": 3, "renamed": 4, "rewritten": 2}[what]
    assert verify(store).broken == broken


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_what_was_cut_off_at_the_end_is_missed_and_never_papered_over(cut):
    store = filled()
    for seq in range(5 - cut, 5):
        store.remove(f"ledger/{seq:08d}.json")
    assert (verify(store).broken, "are gone" in verify(store).why) == (5 - cut, True)
    with pytest.raises(StoreError, match="entries of the ledger that are gone"):
        Ledger(store)


def test_the_head_that_is_kept_apart_cannot_change_or_go_unseen():
    store = filled()
    line = store.get(HEAD)
    for place in range(len(line)):
        for change in (1, 2, 128):
            store.replace(HEAD, line[:place] + bytes([line[place] ^ change]) + line[place + 1 :])
            assert not verify(store).ok
    store.remove(HEAD)
    assert "missing" in verify(store).why


def test_a_crash_between_an_entry_and_the_head_is_no_damage():
    """Of the first entry, there is no head at all; of later ones, it is one behind."""
    store = filled(0)
    for n in range(3):
        before = store.get(HEAD) if n else None
        Ledger(store).append("k", "s", str(n), {})
        store.replace(HEAD, before) if before else store.remove(HEAD)
        assert verify(store).ok
        assert "behind" in verify(store).note
        Ledger(store).append("k", "s", f"{n} again", {})
        assert (verify(store).ok, verify(store).note) == (True, "")


def test_the_entry_says_who_ran_the_process():
    assert json.loads(filled().get("ledger/00000001.json"))["actor"] == getpass.getuser()


def test_an_empty_ledger_is_whole():
    assert (verify(new_store()).entries, verify(new_store()).head) == (0, GENESIS)


def test_nothing_is_said_twice_also_after_a_restart():
    store = filled()
    assert not Ledger(store).append("published", "date=0", "published date=0 v1", {})
    known = [("published", f"date={k}", f"published date={k} v1", {"run_id": "r-1"}) for k in range(6)]
    assert Ledger(store).catch_up(known) == 2
    assert Ledger(store).catch_up(known) == 0
    assert verify(store).entries == 6


def test_two_writers_that_do_not_know_of_each_other():
    store = new_store()
    one, two = Ledger(store), Ledger(store)
    assert [w.append("k", "s", f"{n} {m}", {}) for n in range(5) for m, w in enumerate((one, two))] == [True] * 10
    assert not two.append("k", "s", "4 0", {}), "said by the other meanwhile"
    assert (verify(store).entries, verify(store).broken) == (10, None)


WRITER = """
import sys
from scoring.ledger.chain import Ledger
from scoring.stores import LocalStore
ledger = Ledger(LocalStore(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(25):
    ledger.append("k", "s", f"{sys.argv[2]} {n}", {"run_id": sys.argv[2]})
    ledger.append("k", "s", f"both {n}", {"run_id": sys.argv[2]})
"""


def test_processes_at_once_keep_one_chain_and_lose_nothing(tmp_path):
    store = LocalStore(str(tmp_path / "w"))
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, store.root, f"w{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for n in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    said = [json.loads(store.get(key))["once"] for key in store.list("ledger")]
    assert sorted(set(said)) == sorted([f"w{m} {n}" for m in range(3) for n in range(25)] + [f"both {n}" for n in range(25)])
    assert len(said) == len(set(said))
    assert verify(store).ok


def test_a_broken_ledger_is_not_added_to():
    store = filled()
    store.replace("ledger/00000002.json", b"{")
    with pytest.raises(StoreError, match=r"00000002.json is damaged"):
        Ledger(store)

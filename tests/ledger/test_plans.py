"""The plan of a run comes back as it was kept, or not at all."""

import hashlib
import string

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.ledger import plans as plans_module
from scoring.ledger.plans import Plans
from scoring.settings import Source
from scoring.stores import LocalStore
from scoring.types import File, Fragment, Partition, Slice

SOURCE = Source("parquet", "/data", carry=("id",))
DAY = Partition("day=1", (File("/data/a", 9, "1-9"), File("/data/b", 9, "2-9")))

count = st.integers(0, 2**40)
text = st.text(string.printable + "é\u2028\U0001f600", max_size=20)
fragments = st.builds(Fragment, text, text, st.none() | st.tuples(count, count), count, st.none() | count, count)
cut = st.builds(Slice, st.just(DAY.key), st.tuples(fragments) | st.tuples(fragments, fragments), st.none(), text)


def keep(store, partition, slices, settings=SOURCE):
    plans = Plans(store, "r", settings)
    assert list(plans.planning(partition, iter(slices))) == slices
    plans.flush()


def kept(store, partition, settings=SOURCE):
    return Plans(store, "r", settings).kept(partition)


def work(n, fault=None):
    return Slice(DAY.key, (Fragment(f"/data/{n}", "1-9", (0, 1), 0, 2, 3),), fault)


@given(st.lists(cut, min_size=1))
def test_what_was_kept_comes_back(tmp_path_factory, slices):
    store = LocalStore(str(tmp_path_factory.mktemp("w")))
    keep(store, DAY, slices)
    found = kept(store, DAY)
    assert [found.slice(n) for n in range(len(slices))] == slices
    assert found.ids == [one.id for one in slices] == [found.slice(n).id for n in range(len(slices))]
    told = all(f.rows is not None for one in slices for f in one.fragments)
    assert found.rows == (sum(one.rows for one in slices) if told else None)
    assert found.known_rows == sum(one.rows for one in slices if all(f.rows is not None for f in one.fragments))


@pytest.mark.parametrize(
    ("partition", "settings"),
    [
        (Partition("day=2", DAY.files), SOURCE),
        (Partition(DAY.key, DAY.files[:1]), SOURCE),
        (Partition(DAY.key, (DAY.files[0], File("/data/b", 9, "3-9"))), SOURCE),
        (DAY, Source("parquet", "/data", carry=("id",), slice_rows=7)),
    ],
)
def test_a_plan_is_of_its_files_and_settings(tmp_path, partition, settings):
    store = LocalStore(str(tmp_path))
    keep(store, DAY, [work(1)])
    assert kept(store, partition, settings) is None
    assert kept(store, Partition(DAY.key, DAY.files[::-1])).ids == [work(1).id], "the order of a listing means nothing"


@pytest.mark.parametrize("fault", ["unreadable: no footer", "duplicate of /data/a"])
def test_a_partition_with_a_file_at_fault_is_planned_anew(tmp_path, fault):
    store = LocalStore(str(tmp_path))
    keep(store, DAY, [work(1), work(2, fault)])
    assert kept(store, DAY) is None


def test_a_partition_that_was_not_planned_to_its_end_is_planned_anew(tmp_path):
    store = LocalStore(str(tmp_path))
    plans = Plans(store, "r", SOURCE)
    planning = plans.planning(DAY, iter([work(1), work(2)]))
    next(planning)
    planning.close()
    plans.flush()
    assert kept(store, DAY) is None


def arrow(schema):
    sink = pa.BufferOutputStream()
    pa.ipc.new_file(sink, schema).close()
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "content",
    [
        b"no Arrow",
        arrow(pa.schema({"id": pa.string()})),
        arrow(pa.schema({}, {"plans": "no JSON"})),
        arrow(pa.schema({}, {"plans": "3"})),
    ],
)
def test_an_object_of_another_make_is_passed_over(tmp_path, content):
    store = LocalStore(str(tmp_path))
    keep(store, DAY, [work(1)])
    store.put("runs/r/plan/other.log", hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    assert kept(store, DAY).ids == [work(1).id]


def test_another_version_plans_anew(tmp_path, monkeypatch):
    store = LocalStore(str(tmp_path))
    keep(store, DAY, [work(1)])
    monkeypatch.setattr(plans_module, "__version__", "another")
    assert kept(store, DAY) is None


def test_every_partition_has_its_own_plan_and_gives_it_once(tmp_path):
    store, days = LocalStore(str(tmp_path)), [Partition(f"day={n}", (File(f"/data/{n}", 9, "1-9"),)) for n in range(5)]
    for first in (0, 3):  # two passes, the second of the days that are left
        plans = Plans(store, "r", SOURCE)
        for n in range(first, first + 3) if first == 0 else (3, 4):
            list(plans.planning(days[n], iter([work(n), work(n + 10)])))
        plans.flush()
    plans = Plans(store, "r", SOURCE)
    for n in (4, 0, 2, 1, 3):
        assert plans.kept(days[n]).ids == [Slice(DAY.key, work(m).fragments).id for m in (n, n + 10)]
        assert plans.kept(days[n]) is None
    assert Plans(store, "another", SOURCE).kept(days[0]) is None

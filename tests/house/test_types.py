"""What flows: receipts survive JSON, slices are named by their content alone, counts add up."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.types import (
    Absence,
    BadFile,
    Check,
    Counts,
    File,
    Fragment,
    Partition,
    PartitionRecord,
    Receipt,
    RunRecord,
    Slice,
    StagedFile,
)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(0, 2**40)
counts = st.builds(Counts, numbers, numbers, numbers)
staged = st.builds(StagedFile, words, numbers, numbers, words)
spans = st.none() | st.tuples(st.integers(0, 50), st.integers(51, 99))
fragments = st.builds(Fragment, words, words, spans, numbers, st.none() | numbers, numbers)
slices = st.builds(Slice, words, st.lists(fragments, max_size=4).map(tuple), st.none() | words)
files = st.builds(File, words, numbers, words)


@st.composite
def receipts(draw):
    outcome = draw(counts)
    return Receipt(
        draw(words),
        draw(words),
        draw(words),
        outcome.total,
        outcome,
        draw(st.dictionaries(words, numbers, max_size=3)),
        tuple(
            draw(
                st.lists(st.builds(BadFile, words, st.sampled_from(["plan", "read", "admit", "score"]), words, numbers), max_size=2)
            )
        ),
        tuple(draw(st.lists(staged, max_size=2))),
        draw(st.dictionaries(words, numbers, max_size=3)),
        draw(st.dictionaries(words, st.floats(0, 1e6), max_size=3)),
        draw(words),
        tuple(draw(st.lists(words, max_size=2))),
        draw(st.none() | staged),
        draw(st.dictionaries(words, st.builds(Absence, numbers, words), max_size=2)),
        work=draw(st.dictionaries(words, numbers, max_size=3)),
    )


@given(receipts())
def test_a_receipt_survives_json(receipt):
    assert Receipt.from_json(receipt.to_json()) == receipt
    assert Receipt.from_json(receipt.to_json().encode()).to_json() == receipt.to_json()


@given(receipts())
def test_a_receipt_from_before_there_were_texts_tells_of_no_work(receipt):
    told = json.loads(receipt.to_json())
    del told["work"]
    assert Receipt.from_json(json.dumps(told)) == replace(receipt, work={})


@pytest.mark.parametrize("text", ["", "[]", "{}", '"receipt"', "null", '{"counts": {}, "bad_files": []}'])
def test_what_is_no_receipt_is_refused(text):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Receipt.from_json(text)


@given(counts, st.integers(-5, 5).filter(bool))
def test_a_receipt_that_does_not_add_up_cannot_exist(outcome, off):
    with pytest.raises(AssertionError, match="accounted for"):
        Receipt("s", "p", "a", outcome.total + off, outcome)


@given(counts, counts, counts)
def test_counts_are_a_commutative_monoid(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Counts() == a
    assert (a + b).total == a.total + b.total


@given(slices)
def test_the_same_content_has_the_same_name(work):
    copy = Slice(str(work.partition), tuple(replace(f) for f in work.fragments), work.fault)
    assert copy.id == work.id
    assert len(work.id) == 32
    assert set(work.id) <= set("0123456789abcdef")


@given(slices, numbers, st.none() | numbers, numbers)
def test_what_is_only_an_estimate_does_not_name(work, first, rows, size):
    """Rows and bytes are for planning: another reading of the same footer must find what is staged already."""
    guessed = tuple(replace(f, first_row=first, rows=rows, bytes=size) for f in work.fragments)
    assert replace(work, fragments=guessed).id == work.id


@given(slices, slices)
def test_other_content_has_another_name(one, other):
    def content(work):
        return work.partition, tuple((f.path, f.version, f.groups) for f in work.fragments), work.fault

    assert (one.id == other.id) == (content(one) == content(other))


@given(slices, fragments, words)
def test_each_part_of_the_content_counts(work, extra, word):
    changed = [
        replace(work, partition=work.partition + "x"),
        replace(work, fault=(work.fault or "") + "x"),
        replace(work, fragments=(*work.fragments, extra)),
        *(replace(work, fragments=(replace(f, version=f.version + "x"), *work.fragments[1:])) for f in work.fragments[:1]),
    ]
    assert work.id not in {other.id for other in changed}
    assert len({other.id for other in changed}) == len(changed)


@given(st.lists(files, min_size=1, max_size=5, unique_by=lambda f: f.path), st.randoms(use_true_random=False))
def test_a_partition_is_what_its_files_are_in_any_order(found, random):
    mixed = list(found)
    random.shuffle(mixed)
    before = Partition("k", tuple(found)).input_digest
    assert Partition("other", tuple(mixed)).input_digest == before
    assert Partition("k", (*found[1:],)).input_digest != before
    assert Partition("k", (replace(found[0], version=found[0].version + "x"), *found[1:])).input_digest != before


def test_a_run_record_is_json_with_the_promised_names():
    part = PartitionRecord("date=2026-01-01", "held", {"in": 1}, (Check("n", "s", "fail", "error", "0", "1"),), 0)
    record = RunRecord("r", "held", {"in": 1}, (part,), {"rows_per_second": 1.0}, {}, {}, {}, {})
    told = json.loads(record.to_json())
    promised = {"run_id", "status", "rows", "partitions", "rates", "stages", "routes", "devices", "environment"}
    assert promised <= set(told)
    assert {"key", "status", "rows", "checks"} <= set(told["partitions"][0])
    assert told["partitions"][0]["checks"][0]["status"] == "fail"

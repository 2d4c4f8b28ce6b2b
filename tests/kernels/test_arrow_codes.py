"""Codes of dictionaries and integer categories to slots, against a dictionary look-up in plain Python."""

import pyarrow as pa
import pytest
import torch
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import arrow_codes as kernel
from scoring.kernels.frame.arrow_cases import packed_bits

NONE = torch.empty(0, dtype=torch.int32)
NO_BITS = torch.empty(0, dtype=torch.uint8)


def one(values, valid=None, offset=0, below=0, lookup=NONE):
    bitmap = NO_BITS if valid is None else packed_bits(valid, offset)
    return {"values": [values], "bitmaps": [bitmap], "offsets": [offset], "below": [below], "lookups": [lookup]}


CELLS = st.lists(st.tuples(st.integers(-(2**63), 2**64 - 1) | st.integers(-9, 9), st.booleans()), max_size=60)


@given(
    st.sampled_from(kernel.INTEGERS), CELLS,
    st.integers(0, 19), st.integers(-6, 6), st.integers(1, 9), st.booleans(),
)  # fmt: skip
@settings(max_examples=80)
def test_what_is_outside_or_null_is_unknown(dtype, cells, offset, below, size, nulls):
    """A vocabulary of `size` integers from `below` + 1 on; extreme values wrap around and are unknown all the same."""
    limits = torch.iinfo(dtype)
    numbers = [min(max(value, limits.min), limits.max) for value, _ in cells]
    values, valid = torch.tensor(numbers, dtype=dtype), torch.tensor([v for _, v in cells], dtype=torch.bool)
    lookup = torch.tensor([0, *range(1, size + 1), 0], dtype=torch.int32)
    found = walk.poisoned(kernel.fused, **one(values, valid if nulls else None, offset, below, lookup))[0][0]
    known = {below + slot: slot for slot in range(1, size + 1)}
    kept = [number if dtype != torch.uint64 or number < 2**63 else None for number in numbers]
    want = [known.get(number, 0) if ok or not nulls else 0 for number, (_, ok) in zip(kept, cells, strict=True)]
    assert found.tolist() == want


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=50), st.integers(0, 12), st.data())
@settings(max_examples=30)
def test_a_dictionary_is_renumbered_with_its_slice_and_nulls(words, skip, data):
    array = pa.array(words, pa.string()).dictionary_encode().slice(min(skip, len(words) - 1))
    slots = {word: data.draw(st.integers(0, 5)) for word in "abc"}
    lookup = torch.tensor([slots[word] for word in array.dictionary.to_pylist()] or [0], dtype=torch.int32)
    bitmap, codes = array.indices.buffers()
    values = torch.frombuffer(bytearray(codes), dtype=torch.int32)[array.offset : array.offset + len(array)]
    bits = NO_BITS if bitmap is None else torch.frombuffer(bytearray(bitmap), dtype=torch.uint8)
    asked = {"values": [values], "bitmaps": [bits], "offsets": [array.offset], "below": [0], "lookups": [lookup]}
    for compute in (kernel.fused, kernel.reference):
        assert compute(**asked)[0].tolist() == [slots.get(word, 0) for word in array.to_pylist()]


def test_garbage_under_nulls_never_leaves_the_lookup():
    values = torch.tensor([2**31 - 1, 1, -(2**31)], dtype=torch.int32)
    found = kernel.fused(**one(values, torch.tensor([False, True, False]), 3, 0, torch.tensor([4, 5], dtype=torch.int32)))
    assert found.tolist() == [[0, 5, 0]]


def test_wrong_arguments_are_named():
    good = one(torch.zeros(9, dtype=torch.int32))
    with pytest.raises(TypeError, match=r"argument 'values\[0\]' is torch.float32"):
        kernel.op(**{**good, "values": [torch.zeros(9)]})
    with pytest.raises(ValueError, match=r"argument 'bitmaps\[0\]' has 1 bytes, too few for 9 rows from 0"):
        kernel.op(**{**good, "bitmaps": [torch.zeros(1, dtype=torch.uint8)]})
    with pytest.raises(ValueError, match="expected the same number of each"):
        kernel.op(**{**good, "below": []})

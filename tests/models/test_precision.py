"""What a model computes in: texts may choose, others refuse by name; bfloat16 is near float32, and has a tolerance of its own."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import rows, write
from hypothesis import given, settings
from hypothesis import strategies as st
from test_text import ROUGH, TEXTS, bits, case, numbers, plainly, table
from test_text import write as write_texts

from scoring.errors import ModelError
from scoring.models import precision
from scoring.models.load import load


@pytest.mark.parametrize("kind", ["wide", "mean", "labels"])
def test_bfloat16_means_nearly_the_same(kind, tmp_path):
    folder, asked = write_texts(tmp_path, kind, tolerance=ROUGH), table(TEXTS + ["word " * n for n in range(1, 30)])
    plain, full, half = plainly(kind, folder, asked), load(folder, precision="fp32"), load(folder, precision="bf16")
    found = numbers(half.score(asked))
    assert 1e-4 < np.abs(found - plain).max() < 0.1
    np.testing.assert_array_equal(numbers(full.score(asked)), numbers(load(folder).score(asked)))


def test_a_text_longer_than_a_product(tmp_path):
    """Over a thousand tokens: more rows than are multiplied at once."""
    folder, asked = write_texts(tmp_path, "long", tolerance=ROUGH), table(["the quick brown fox jumps " * 250, "a"])
    found = numbers(load(folder, precision="bf16").score(asked))
    np.testing.assert_allclose(found, plainly("long", folder, asked), atol=0.1)


@pytest.mark.parametrize("kind", ["wide", "labels", "long"])
@settings(max_examples=5, deadline=None)
@given(data=st.data(), threads=st.sampled_from([1, 2, 64]))
def test_neighbours_change_no_bit(kind, data, threads):
    """Of widths where oneDNN would add up products of few rows otherwise, too. Many threads attend otherwise than few."""
    model, batch, whole = case(kind, "bf16")
    chosen = data.draw(st.lists(st.integers(0, batch.num_rows - 1), min_size=1, max_size=60))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = whole if threads < 16 else bits(model, batch)
        np.testing.assert_array_equal(bits(model, batch.take(chosen)), expected[chosen])
    finally:
        torch.set_num_threads(before)


def test_golden_scores_are_held_to_the_tolerance_of_16_bits(tmp_path):
    folder = write_texts(tmp_path, "mean")
    golden = pq.read_table(folder / "golden.parquet")
    vectors = np.stack(golden["expected.embedding"].to_numpy())
    for off, refused in ((1e-3, "fp32"), (5e-2, "bf16")):
        moved = [row.tolist() for row in (vectors + np.float32(off))]
        place = golden.schema.get_field_index("expected.embedding")
        field = golden.schema.field(place)
        pq.write_table(golden.set_column(place, field, pa.array(moved, field.type)), folder / "golden.parquet")
        with pytest.raises(ModelError, match="does not give its golden scores"):
            load(folder, precision=refused)
        if off < 2e-2:
            load(folder, precision="bf16")


def test_tabular_models_compute_in_float32_only(tmp_path):
    folder = write(tmp_path)
    assert load(folder, precision="fp32").score(rows(20)) == load(folder).score(rows(20))
    with pytest.raises(ModelError, match=r"precision is bf16, but the tabular family computes in fp32 only\. Say .*auto\|fp32"):
        load(folder, precision="bf16")


@pytest.mark.parametrize(
    ("line", "found"),
    [("flags\t\t: fpu avx2 amx_bf16x", ""), ("flags\t\t: avx512_bf16 amx_bf16", "amx_bf16"), ("Features\t: asimd bf16", "bf16")],
)
def test_a_cpu_that_does_not_multiply_bfloat16_is_named(line, found, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n\n")
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "cpuinfo")
    precision.bf16_instruction.cache_clear()
    try:
        assert precision.bf16_instruction() == found
        assert [("several times faster" in said) for said in precision.slow_here("bf16")] == ([] if found else [True])
        assert precision.slow_here("auto") == precision.slow_here("fp32") == ()
    finally:
        precision.bf16_instruction.cache_clear()

"""Columns to tensors: imputation, vocabularies, unknown values and null, for every Arrow layout a reader may hand over."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import CITIES, CODES, rows
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import ModelError
from scoring.models.encode import Encoder, Numeric
from scoring.models.load import load
from scoring.models.vocabulary import Vocabulary


def slots(known, array):
    """On both ways to the device: as Arrow has them, and through an arena."""
    encoder = Encoder((), {"c": Vocabulary(known)})
    batch = pa.record_batch({"c": array})
    plain, packed = encoder.rows(batch).slots[0].tolist(), encoder.packed(batch).to(torch.device("cpu")).slots[0].tolist()
    assert plain == packed
    return plain


def number(array, **rule):
    encoder = Encoder((Numeric("x", **rule),), {})
    batch = pa.record_batch({"x": array})
    plain, packed = encoder.rows(batch).numbers[:, 0].numpy(), encoder.packed(batch).to(torch.device("cpu")).numbers[:, 0].numpy()
    np.testing.assert_array_equal(plain, packed)
    return plain


@given(
    known=st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=30)
    | st.lists(st.integers(-50, 50), unique=True, max_size=30),
    asked=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-60, 60), max_size=50),
    skip=st.integers(0, 9),
)
def test_integer_vocabularies_agree_with_a_dictionary(known, asked, skip):
    place = {value: n + 1 for n, value in enumerate(known)}
    asked = [*asked, *known]
    array = pa.array([None] * skip + asked, pa.int64()).slice(skip)
    assert slots(pa.array(known, pa.int64()), array) == [place.get(v, 0) for v in asked]


WORDS = st.text(max_size=3)


@given(known=st.lists(WORDS, unique=True, max_size=20), asked=st.lists(st.none() | WORDS, max_size=40), skip=st.integers(0, 9))
def test_string_vocabularies_agree_with_a_dictionary(known, asked, skip):
    place = {value: n + 1 for n, value in enumerate(known)}
    asked = [*asked, *known]
    array = pa.array([None] * skip + asked, pa.string()).slice(skip)
    expected = [place.get(v, 0) for v in asked]
    for layout in (array, array.dictionary_encode(), array.cast(pa.large_string()), array.cast(pa.string_view())):
        assert slots(pa.array(known, pa.string()), layout) == expected


def test_null_inside_a_dictionary_is_unknown():
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2], pa.int32()), pa.array(["Köln", None, "Rom"]))
    assert slots(CITIES, coded) == [2, 0, 0, 0]


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "uint32"])
def test_narrow_integers_use_the_same_vocabulary(kind):
    assert slots(CODES, pa.array([3, 4, 5, None], kind)) == [2, 3, 0, 0]


def test_a_vocabulary_without_words_knows_nothing():
    assert slots(pa.array([], pa.int64()), pa.array([1, None])) == [0, 0]
    assert slots(pa.array([], pa.string()), pa.array(["a", None])) == [0, 0]


@given(values=st.lists(st.none() | st.floats(-1e6, 1e6, width=32), max_size=40), skip=st.integers(0, 9))
def test_numbers_are_filled_centred_and_scaled(values, skip):
    for kind in (pa.float32(), pa.float64()):
        array = pa.array([None] * skip + values, kind).slice(skip)
        out = number(array, mean=0.5, fill=2.0, scale=4.0)
        wide = [np.float64(2.0 if v is None else v) for v in values]
        np.testing.assert_allclose(out, np.array([(v - 0.5) / 4 for v in wide], np.float32), rtol=1e-6, atol=1e-6)


def test_large_numbers_are_centred_before_they_lose_digits():
    out = number(pa.array([1_700_000_000_001, 1_700_000_000_003]), mean=1_700_000_000_000.0)
    assert out.tolist() == [1.0, 3.0]


def test_numbers_are_clipped_and_nan_is_not_a_bound():
    out = number(pa.array([-5.0, 0.5, float("nan"), None, 9.0], pa.float32()), fill=99.0, low=-1.0, high=2.0)
    np.testing.assert_array_equal(out, np.array([-1.0, 0.5, np.nan, 2.0, 2.0], np.float32))


def test_nan_and_infinity_pass_through_for_the_engine_to_find(bundle):
    model = load(bundle)
    strange = rows(3).set_column(0, "x", pa.array([float("nan"), float("inf"), 1.0], pa.float32()))
    scores = model.score(strange).column("score").to_numpy()
    assert np.isnan(scores[0])
    assert np.isfinite(scores[2])


def test_null_scores_as_the_fill_value_and_unknown_as_null(bundle):
    model = load(bundle)
    base = rows(1).to_pylist()[0]

    def score(**changes):
        return model.score(pa.Table.from_pylist([base | changes], schema=rows(1).schema)).column("score")[0].as_py()

    assert score(x=None) == score(x=0.5)
    assert score(city=None) == score(city="Atlantis") == score(city="bern")
    assert score(city="Bern") != score(city=None)
    assert score(code=5) == score(code=-(2**63)) == score(code=None) != score(code=3)


def test_dictionary_and_plain_strings_give_the_same_scores(bundle):
    model = load(bundle)
    plain = rows(100).combine_chunks().to_batches()[0]
    place = plain.schema.get_field_index("city")
    coded = plain.set_column(place, "city", plain.column(place).dictionary_encode())
    assert (model.forward(model.encode(plain)) == model.forward(model.encode(coded))).all()


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("x", pa.array(["1"]), "'x' is string, expected a number"),
        ("city", pa.array([1]), "'city' is int64, expected string"),
        ("code", pa.array([1.0]), "integer vocabulary came as float64"),
    ],
)
def test_a_wrong_type_is_named(bundle, name, array, words):
    batch = rows(1).to_batches()[0]
    with pytest.raises(ModelError, match=words):
        load(bundle).encode(batch.set_column(batch.schema.get_field_index(name), name, array))


def test_a_missing_column_is_named(bundle):
    with pytest.raises(ModelError, match="'city' is missing"):
        load(bundle).encode(rows(1).drop_columns(["city"]).to_batches()[0])
    with pytest.raises(ModelError, match="missing: city"):
        load(bundle).score(rows(1).drop_columns(["city"]))

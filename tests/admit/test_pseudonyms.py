"""Pseudonyms are what RFC 2104 and base32 say, the same however values are cut and typed, and of no use to another purpose."""

import base64
import hmac
import json
import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.admit.keys import KeyRing, key_ring
from scoring.admit.pseudonyms import Memo, Pseudonyms
from scoring.errors import ConfigError
from scoring.settings import Privacy

KEY = bytes(range(32))
RING = KeyRing({"k1": KEY, "k0": KEY[::-1]}, "k1")
VALUES = st.lists(st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["a", "b", "ä", ""])), max_size=30)


def slow(value, key=KEY, key_id="k1", purpose="fraud", column="card"):
    """What a pseudonym is, by the library, one value at a time."""
    if value is None:
        return None
    domain = json.dumps(["scoring.pseudonym.v1", purpose, column], separators=(",", ":"), ensure_ascii=False).encode()
    found = hmac.digest(hmac.digest(key, domain, "sha256"), value.encode(), "sha256")
    return f"{key_id}:{base64.b32encode(found).decode()[:26]}"


@given(VALUES)
def test_each_is_hmac_sha256_in_base32(values):
    found = Pseudonyms(RING, "k1", "fraud", "card")(pa.array(values, pa.string()))
    assert found.to_pylist() == [slow(v) for v in values]


@pytest.mark.parametrize("key", [b"k" * 32, b"k" * 64, b"k" * 65, b"k" * 200])
def test_keys_of_any_length(key):
    assert Pseudonyms(KeyRing({"k": key}, "k"), "k", "p", "c")(pa.array(["x"]))[0].as_py() == slow("x", key, "k", "p", "c")


@settings(max_examples=60)
@given(VALUES, st.integers(1, 7), st.integers(0, 6), st.booleans())
def test_the_same_however_cut_remembered_and_encoded(values, width, most, encoded):
    array = pa.array(values, pa.string())
    whole = Pseudonyms(RING, "k1", "fraud", "card")(array).to_pylist()
    memo, found = Memo(Pseudonyms(RING, "k1", "fraud", "card"), most), []
    for start in range(0, len(values), width):
        part = array.slice(start, width)
        found += memo(part.dictionary_encode() if encoded else part).to_pylist()
    assert found == whole


@given(st.text(max_size=8), st.sampled_from([("fraud", "cards"), ("credit", "card"), ("", "fraudcard"), ("fraud\0card", "")]))
def test_purposes_and_columns_do_not_join(value, domain):
    one, other = (Pseudonyms(RING, "k1", *d)(pa.array([value]))[0].as_py() for d in (("fraud", "card"), domain))
    assert one != other
    assert Pseudonyms(RING, "k0", "fraud", "card")(pa.array([value]))[0].as_py()[3:] != one[3:]


@pytest.mark.parametrize("values", [[7, None], ["7", None], [7.0, None]])
def test_a_number_is_the_same_person_in_any_type(values):
    assert Pseudonyms(RING, "k1", "fraud", "card")(pa.array(values)).to_pylist() == [slow("7"), None]


def test_only_new_values_are_asked_for():
    asked = []

    def answer(values):
        asked.extend(values.to_pylist())
        return values

    memo = Memo(answer)
    for part in (["a", "b", None, "a"], ["b", "a"], ["c", "a"]):
        assert memo(pa.array(part)).to_pylist() == part
    assert asked == ["a", "b", "c"]


@pytest.mark.parametrize(
    "text", [KEY.hex(), base64.b64encode(KEY).decode(), base64.urlsafe_b64encode(KEY).decode(), f" k1:{KEY.hex()} "]
)
def test_a_key_is_hex_or_base64(text):
    assert key_ring(Privacy(), {"SCORING_PRIVACY_KEY": text}).key("k1") == KEY


def test_older_keys_stand_behind_the_one_in_use():
    ring = key_ring(Privacy(key_id="k2"), {"SCORING_PRIVACY_KEY": f"{KEY.hex()}, k1:{KEY[::-1].hex()}"})
    assert (ring.current, ring.ids, ring.key("k1")) == ("k2", ("k2", "k1"), KEY[::-1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "SCORING_PRIVACY_KEY is not set"),
        ("", "SCORING_PRIVACY_KEY is not set"),
        (KEY[:31].hex(), "31 bytes, at least 32"),
        ("not a key, at all!", "neither hex nor base64"),
        (f"{KEY.hex()},{KEY.hex()}", "key number 2 needs an id"),
        (f"{KEY.hex()},k1:{KEY.hex()}", "key number 2 needs an id of its own"),
        (f"k0:{KEY.hex()}", "holds keys k0, and contract.privacy.key_id is k1"),
    ],
)
def test_there_is_no_other_key_to_fall_back_to(text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        key_ring(Privacy(), {} if text is None else {"SCORING_PRIVACY_KEY": text})
    assert KEY[:31].hex() not in str(refused.value)


def test_a_key_is_neither_shown_nor_pickled():
    assert KEY.hex() not in repr(RING)
    assert repr(RING) == "KeyRing(k1, k0)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(RING)

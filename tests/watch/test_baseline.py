"""A baseline survives its file; anything else that lies there is refused in one line, and nothing of it is executed."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.drift_table import training
from scoring.errors import ModelError
from scoring.watch import baseline as stored

GOOD = training(np.random.default_rng(0), 2_000)
PLAIN = json.loads(GOOD.to_json())


def test_written_and_read(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_bytes(GOOD.to_json())
    assert stored.read(path) == GOOD
    assert stored.read(path).digest == GOOD.digest


def paths(value, above=()):
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*above, key))


PLACES = [p for p in paths(PLAIN) if p]
NONSENSE = st.sampled_from([None, -1, "x", [], {}, [[]], {"a": 1}, 1e999, True, 0.5, "!!python/object", [3, 2, 1], 10**400])


@settings(max_examples=300)
@given(st.sampled_from(PLACES), NONSENSE | st.just("remove"))
def test_nonsense_anywhere_is_refused_or_harmless(tmp_path_factory, place, value):
    """Whatever is changed: either one line of ModelError, or a baseline that is read the same again."""
    data = copy.deepcopy(PLAIN)
    at = data
    for key in place[:-1]:
        at = at[key]
    if value == "remove":
        del at[place[-1]]
    else:
        at[place[-1]] = value
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_text(json.dumps(data))
    refusal, found = "", None
    try:
        found = stored.read(path)
    except ModelError as error:
        refusal = str(error)
    assert (found is None) == refusal.startswith(str(path)) == bool(refusal)
    assert "\n" not in refusal
    if found is not None:
        path.write_bytes(found.to_json())
        assert stored.read(path) == found


@pytest.mark.parametrize("text", ["", "no", "[" * 100_000, "NaN", '{"format": 2}', "[]", "null", '{"format": 1}', "\xff"])
def test_other_files(tmp_path, text):
    path = tmp_path / "b.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"b\.json"):
        stored.read(path)


def test_too_large_or_missing(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        stored.read(tmp_path / "none.json")
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(stored.MAX_BYTES + 1)
    with pytest.raises(ModelError, match="bytes; at most"):
        stored.read(tmp_path / "large.json")

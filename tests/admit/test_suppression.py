"""People on the list are found in whatever type and spelling their id comes, and nobody else is."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.admit.keys import KeyRing
from scoring.admit.suppression import Naming, Suppression
from scoring.errors import ConfigError

RING = KeyRing({"k2": b"2" * 32, "k1": b"1" * 32}, "k2")


def suppression(ids, dtype="int64", key_id="k2"):
    naming = Naming(RING, dtype, True)
    names = naming.names(naming.plain(pa.array(ids, pa.string())), key_id).to_pylist()
    return Suppression(naming, "who", frozenset(names))


def gone(ids, values, **said):
    mask = suppression(ids, **said).rows(pa.record_batch({"who": values}))
    return [] if mask is None else [i for i, hit in enumerate(mask.tolist()) if hit]


@given(st.lists(st.one_of(st.none(), st.integers(-5, 20)), max_size=30), st.sets(st.integers(-5, 20)))
def test_exactly_the_listed_rows(values, listed):
    ids = [str(i) for i in sorted(listed)]
    expected = [n for n, v in enumerate(values) if v in listed]
    shapes = [pa.array(values, pa.int64()), pa.array([None if v is None else str(v) for v in values], pa.string())]
    shapes += [pa.array(values, pa.float64()), shapes[1].dictionary_encode(), pa.array(values, pa.int8())]
    for shape in shapes:
        assert gone(ids, shape) == expected
    assert gone(ids, shapes[0], key_id="k1") == expected


def test_spellings_of_one_number_are_one_person():
    assert gone(["7"], pa.array(["007", "7.0", "7", "+7", "70", "7x", None])) == [0, 1, 2, 3]
    assert gone(["007"], pa.array([7, 70])) == [0]


def test_an_id_that_breaks_the_declared_type_is_found_as_it_stands():
    assert gone(["12a"], pa.array(["12a", "12", "12b"])) == [0]


@pytest.mark.parametrize(
    ("line", "hit"),
    [
        ("1,anna@x.example,3,4", True),
        ('1,"anna@x.example",3', True),
        ('{"who": "anna@x.example", "x": ', True),
        ("1;anna@x.example;", True),
        ("hanna@x.example,1,2", False),
        ("", False),
    ],
)
def test_lines_that_are_no_rows_are_searched(line, hit):
    assert suppression(["anna@x.example"], "string").line(line) is hit


def test_a_list_holds_ids_and_pseudonyms_and_comments():
    naming = Naming(RING, "string", True)
    name = naming.names(pa.array(["bob"]), "k1")[0].as_py()
    found = naming.parse(["# opted out", "anna", "", f" {name} "], "list.txt")
    assert found == {name, naming.names(pa.array(["anna"]), "k2")[0].as_py()}


def test_a_list_under_an_unknown_key_is_refused():
    """Ignoring it would score people who must not be scored."""
    with pytest.raises(ConfigError, match=r"list\.txt holds people under the key 'k9'.* they would be scored"):
        Naming(RING, "string", True).parse(["k9:" + "A" * 26], "list.txt")

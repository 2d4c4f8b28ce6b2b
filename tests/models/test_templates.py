"""What `text:` in model.yaml may say, and which texts come out of rows."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import ModelError
from scoring.models.manifest import parse
from scoring.models.templates import TextInput, distinct, read_text
from scoring.settings import Column

INPUTS = {"text": Column("string"), "title": Column("string")}
ONE = {"text": Column("string")}
VALUES = st.none() | st.sampled_from(["", "a", "b", "nul\0", "😀", "{text}", " ", "a" * 300])
LAYOUTS = ("string", "large_string", "dictionary", "large dictionary")


def read(said: dict[str, Any], inputs: dict[str, Column] = ONE) -> TextInput:
    body = parse(yaml.safe_dump({"text": said}).encode(), "model.yaml")
    found = read_text(body, inputs)
    body.done()
    return found


def test_what_is_read_is_told_again() -> None:
    said = {"templates": ["query: {title}", "{{{text}}}"], "max_length": 512, "overlong": "truncate", "stride": 0, "null": "empty"}
    found = read(said, INPUTS)
    assert found.columns == ("title", "text")
    assert found.describe() == said
    assert read({"templates": ["{text}"], "max_length": 256}) == TextInput(("{text}",), 256)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"templates": []}, r"model.yaml: text: 'templates' must be one template, or two for pairs, not \[\]"),
        ({"templates": ["{text}"] * 3}, "one template, or two for pairs"),
        ({"templates": "{text}"}, "must be a list of texts"),
        ({"templates": ["{nobody}"]}, "uses 'nobody', which is not an input; there is text"),
        ({"templates": ["{text"]}, r"template '\{text' has '\{' at 0 that belongs to no \{column\}; a literal brace is doubled"),
        ({"templates": ["{text} }"]}, r"has '\}' at 7"),
        ({"templates": ["{text}{}"]}, r"has '\{' at 6"),
        ({"templates": ["always the same"]}, "does not use the input 'text'"),
        ({"max_length": 0}, "'max_length' must be an integer from 1"),
        ({"max_length": 1 << 20}, "'max_length' must be an integer from 1 to 131,072"),
        ({"overlong": "drop"}, "'overlong' must be truncate or windows, not 'drop'"),
        ({"overlong": "windows", "stride": 8}, r"'stride' must be below max_length \(8\), not 8"),
        ({"templates": ["a", "{text}"], "overlong": "windows"}, "'overlong' must be truncate for pairs"),
        ({"null": "skip"}, "'null' must be empty or quarantine"),
        ({"null": "quarantine"}, "null is quarantine, but the input 'text' is nullable; declare it nullable: false"),
        ({"strides": 3}, "'strides' is not known here; did you mean 'stride'"),
    ],
)
def test_what_cannot_be_is_one_sentence(said: dict[str, Any], expected: str) -> None:
    with pytest.raises(ModelError, match=expected) as caught:
        read({"templates": ["{text}"], "max_length": 8, **said})
    assert "\n" not in str(caught.value)


def test_a_template_takes_texts_only() -> None:
    with pytest.raises(ModelError, match="uses 'n', which is int64, expected string"):
        read({"templates": ["{n}"], "max_length": 8}, {"n": Column("int64")})


def laid(values: list[str | None], layout: str) -> pa.Array[Any]:
    """A dictionary holds more than the rows have: a value twice, a null (which null rows of a large one are)."""
    array: Any = pa.array(values, pa.large_string() if layout.startswith("large") else pa.string())
    if "dictionary" not in layout:
        return array
    own = array.dictionary_encode()
    known = pa.concat_arrays([pa.array(["never", None, "a"], array.type), own.dictionary])
    nothing = 1 if layout.startswith("large") else None
    indices = [nothing if index is None else index + 3 for index in own.indices.to_pylist()]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), known)


@given(st.data(), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_texts_are_those_of_each_row_alone(data: st.DataObject, one: str, other: str) -> None:
    rows = data.draw(st.lists(st.tuples(VALUES, VALUES), max_size=20))
    templates = data.draw(
        st.sampled_from([("{text}",), ("{text}{title}",), ("q: {{{title}}}", "{text} / {title}"), ("always", "{title}{text}")])
    )
    names = TextInput(templates, 8).columns
    batch = pa.record_batch({"text": laid([a for a, _ in rows], one), "title": laid([b for _, b in rows], other)}).select(names)
    start = data.draw(st.integers(0, len(rows)))
    batch, rows = batch.slice(start, data.draw(st.integers(0, 20))), rows[start:]
    found = distinct(batch, TextInput(templates, 8))
    wanted = [tuple(t.format(text=a or "", title=b or "") for t in templates) for a, b in rows[: batch.num_rows]]
    assert [tuple(own[n] for own in found.texts) for n in found.item] == wanted
    assert list(zip(*found.texts, strict=True)) == list(dict.fromkeys(wanted))  # each once, in order of first appearance


def test_columns_that_are_no_texts_are_named() -> None:
    given = TextInput(("{text}",), 8)
    with pytest.raises(ModelError, match="Input column 'text' is missing; the rows have: n"):
        distinct(pa.record_batch({"n": [1]}), given)
    with pytest.raises(ModelError, match="Input column 'text' is int64, expected string"):
        distinct(pa.record_batch({"text": [1]}), given)
    with pytest.raises(ModelError, match="not UTF-8"):
        distinct(pa.record_batch({"text": pa.array([b"\xff"]).view(pa.string())}), given)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nulls_that_admit_should_have_kept_out_are_refused(layout: str) -> None:
    given = TextInput(("{text}",), 8, null="quarantine")
    assert distinct(pa.record_batch({"text": laid(["a", ""], layout)}), given).texts == (["a", ""],)
    with pytest.raises(ModelError, match="'text' has nulls"):
        distinct(pa.record_batch({"text": laid(["a", None], layout)}), given)

"""How columns become texts, as `text:` in model.yaml says, and which texts of a window are different ones.

A template is text with {column} in it; a prompt or prefix is written into it, and a literal brace is doubled. All is done on arrays
of Arrow; only texts that differ become Python strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.errors import ModelError
from scoring.models.buffers import column
from scoring.models.manifest import Fields
from scoring.settings import Column

LONGEST = 131_072  # tokens of a sequence that a model may ask for
_PIECE = re.compile(r"(?P<brace>\{\{|\}\})|\{(?P<column>[^{}]+)\}|(?P<text>[^{}]+)|(?P<odd>[{}])")
Codes = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Piece:
    """A name of a column, or plain text."""

    text: str
    is_column: bool


@dataclass(frozen=True)
class TextInput:
    """`templates`: one, or two for pairs. `max_length` in tokens, special ones included; what is longer is cut, or becomes several
    sequences that share `stride` tokens with their neighbours. A null is an empty text, or never gets here (`null`).
    """

    templates: tuple[str, ...]
    max_length: int
    overlong: Literal["truncate", "windows"] = "truncate"
    stride: int = 0
    null: Literal["empty", "quarantine"] = "empty"

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that templates name, in the order in which they do."""
        names = [piece.text for template in self.templates for piece in pieces(template) if piece.is_column]
        return tuple(dict.fromkeys(names))

    def describe(self) -> dict[str, Any]:
        """The mapping that `read_text` reads."""
        return {**vars(self), "templates": list(self.templates)}


@dataclass(frozen=True)
class Distinct:
    """The different texts of a window in order of first appearance: `texts` by template, int64 `item` (rows,) of each row."""

    texts: tuple[list[str], ...]
    item: Codes


def pieces(template: str) -> tuple[Piece, ...]:
    """Raises: ValueError: a brace that opens or closes nothing."""
    return tuple(_pieces(template))


def read_text(body: Fields, inputs: Mapping[str, Column]) -> TextInput:
    """Take `text` from model.yaml. Raises: ModelError: what it says cannot be, or does not go with the inputs."""
    fields = body.fields("text")
    templates = fields.texts("templates")
    if len(templates) not in (1, 2):
        fields.wrong("templates", "one template, or two for pairs", list(templates))
    max_length = fields.integer("max_length", 1, LONGEST)
    overlong = _one_of(fields, "overlong", ("truncate", "windows"), "truncate")
    stride = fields.integer("stride", 0, LONGEST, 0)
    null = _one_of(fields, "null", ("empty", "quarantine"), "empty")
    fields.done()
    if stride >= max_length:
        fields.wrong("stride", f"below max_length ({max_length})", stride)
    if overlong == "windows" and len(templates) == 2:
        fields.wrong("overlong", "truncate for pairs", overlong)
    given = TextInput(templates, max_length, cast(Any, overlong), stride, cast(Any, null))
    _check_columns(given, inputs, fields.where)
    return given


def distinct(batch: pa.RecordBatch, given: TextInput) -> Distinct:
    """Render and compare the texts of all rows. Columns may be string, large_string or dictionaries of them, sliced or not.

    Raises: ModelError: a column is missing, has no texts, has nulls that `given.null` rules out, or bytes that are not UTF-8.
    """
    coded = {name: _coded(column(batch, name), name, given.null) for name in given.columns}
    row, members = _combined([codes for codes, _ in coded.values()])
    chosen = {name: _taken(values, own) for (name, (_, values)), own in zip(coded.items(), members, strict=True)}
    rendered = [_dense(_rendered(pieces(template), chosen, len(members[0]))) for template in given.templates]
    item, members = _combined([codes for codes, _ in rendered])
    texts = tuple(_strings(_taken(values, own)) for (_, values), own in zip(rendered, members, strict=True))
    return Distinct(texts, item[row])


def _pieces(template: str) -> Iterator[Piece]:
    for found in _PIECE.finditer(template):
        if found["odd"]:
            raise ValueError(f"has {found['odd']!r} at {found.start()} that belongs to no {{column}}; a literal brace is doubled")
        if found["column"]:
            yield Piece(found["column"], True)
        else:
            yield Piece(found["text"] or found["brace"][0], False)


def _one_of(fields: Fields, key: str, known: tuple[str, ...], default: str) -> str:
    if (found := fields.text(key, default)) not in known:
        fields.wrong(key, " or ".join(known), found)
    return found


def _check_columns(given: TextInput, inputs: Mapping[str, Column], where: str) -> None:
    for template in given.templates:
        try:
            pieces(template)
        except ValueError as error:
            raise ModelError(f"{where}: the template {template!r} {error}.") from None
    for name in given.columns:
        if name not in inputs:
            raise ModelError(f"{where}: a template uses {name!r}, which is not an input; there is {', '.join(inputs)}.")
        if inputs[name].dtype != "string":
            raise ModelError(f"{where}: a template uses {name!r}, which is {inputs[name].dtype}, expected string.")
        if given.null == "quarantine" and inputs[name].nullable:
            raise ModelError(f"{where}: null is quarantine, but the input {name!r} is nullable; declare it nullable: false.")
    if idle := [name for name in inputs if name not in given.columns]:
        raise ModelError(f"{where} does not use the input {idle[0]!r}; an input that changes nothing is a mistake.")


def _coded(values: pa.Array[Any], name: str, null: str) -> tuple[Codes, pa.Array[Any]]:
    """Which of the different values (large_string, none null) each row has."""
    kind = values.type.value_type if isinstance(values, pa.DictionaryArray) else values.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ModelError(f"Input column {name!r} is {values.type}, expected string.")
    if null == "quarantine" and pc.is_null(values).true_count:
        raise ModelError(f"Input column {name!r} has nulls, which this model does not take.")
    if not isinstance(values, pa.DictionaryArray):
        return _dense(values)
    count = len(values.dictionary)
    nothing: Any = pa.array([""], pa.large_string())
    codes, known = _dense(pa.concat_arrays([values.dictionary.cast(pa.large_string()), nothing]))
    indices: Any = values.indices.cast(pa.int64())
    return codes[indices.fill_null(count).to_numpy()], known


def _dense(values: pa.Array[Any]) -> tuple[Codes, pa.Array[Any]]:
    encoded: Any = values.cast(pa.large_string()).fill_null("").dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary


def _taken(values: pa.Array[Any], codes: Codes) -> pa.Array[Any]:
    return values.take(cast(Any, pa.array(codes)))


def _combined(codes: Sequence[Codes]) -> tuple[Codes, list[Codes]]:
    """Which of the different combinations, in order of first appearance, each row has; and by column, the code of each."""
    row: Codes = np.zeros(len(codes[0]), np.int64)
    members: list[Codes] = []
    for code in codes:
        size = int(code.max(initial=0)) + 1  # codes are below 2**31, so that two of them fit
        found: Any = pa.array(row * size + code).dictionary_encode()
        row, keys = found.indices.to_numpy().astype(np.int64), found.dictionary.to_numpy()
        members = [*(member[keys // size] for member in members), keys % size]
    return row, members


def _rendered(template: Sequence[Piece], columns: Mapping[str, pa.Array[Any]], count: int) -> pa.Array[Any]:
    if not any(piece.is_column for piece in template):
        return pa.repeat(pa.scalar("".join(piece.text for piece in template), pa.large_string()), count)
    if len(template) == 1:
        return columns[template[0].text]
    parts = [columns[p.text] if p.is_column else pa.scalar(p.text, pa.large_string()) for p in template]
    return cast("pa.Array[Any]", pc.binary_join_element_wise(*cast(Any, parts), cast(Any, pa.scalar("", pa.large_string()))))


def _strings(values: pa.Array[Any]) -> list[str]:
    try:
        found: list[str] = values.to_numpy(zero_copy_only=False).tolist()  # ten times as fast as to_pylist
    except (UnicodeDecodeError, pa.ArrowException):
        raise ModelError("An input column holds bytes that are not UTF-8; rows that have such are no input of a model.") from None
    return found

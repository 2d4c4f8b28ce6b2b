"""People whose rows are counted and nothing else: erased or opted out. Their pseudonyms are known here, never their ids.

Rows are taken out before the contract judges them, so that a suppressed person's bad row does not land in the quarantine either;
lines that are no rows are searched for an id word by word. Asked once per distinct value; with an empty list nothing is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit.coerce import Array, Mask, convert, mask_of
from scoring.admit.keys import KeyRing
from scoring.admit.pseudonyms import Memo, Pseudonyms, texts
from scoring.errors import ConfigError

PURPOSE = "suppression"  # a domain of its own: a pseudonym on the list is none of those in the output
_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}:[A-Z2-7]{26}")
_FIELD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r"""[^\s,;|"'{}\[\]]+""")


class Naming:
    """A person's name on the list: the subject column's value in its declared type, as text."""

    def __init__(self, ring: KeyRing, dtype: str, coerce: bool) -> None:
        self._by_key = {key_id: Pseudonyms(ring, key_id, PURPOSE, "") for key_id in ring.ids}
        self._kind, self._coerce = cast(pa.DataType, pa.type_for_alias(cast(Any, dtype))), coerce
        self.current = ring.current

    def plain(self, values: Array) -> Array:
        """Values that fit the declared type are read as that type; others stay the text that they are. As string (n,)."""
        done = convert(values, self._kind, self._coerce).values
        as_declared = _strings(done)
        return as_declared if done.null_count == values.null_count else pc.coalesce(as_declared, _strings(values))

    def names(self, plain: Array, key_id: str) -> Array:
        return self._by_key[key_id](plain)

    def parse(self, lines: Iterable[str], where: str) -> frozenset[str]:
        """Pseudonyms of a list of ids or pseudonyms, one a line; "#" begins a comment line.

        Raises:
            ConfigError: a pseudonym made with a key that is not there: the person would not be recognised.
        """
        said = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        known = [line for line in said if _FORM.fullmatch(line)]
        raw = pa.array([line for line in said if not _FORM.fullmatch(line)], pa.string())
        found = frozenset(known) | frozenset(cast("list[str]", self.names(self.plain(raw), self.current).to_pylist()))
        foreign = {key_id_of(name) for name in found} - set(self._by_key)
        if foreign:
            raise ConfigError(
                f"{where} holds people under the key {sorted(foreign)[0]!r}, which the environment lacks: they would be scored. "
                "Add it to the key variable as id:key."
            )
        return found


class Suppression:
    """`column` identifies the person, `names` are pseudonyms. Thread-safe."""

    def __init__(self, naming: Naming, column: str, names: frozenset[str]) -> None:
        self.column, self._naming, self._names = column, naming, names
        self._keys = sorted({key_id_of(name) for name in names})
        self._memo = Memo(self._listed)

    def rows(self, batch: pa.RecordBatch) -> Mask | None:
        """Which rows are to be left out; None for none."""
        values = batch.column(self.column)
        if pa.types.is_run_end_encoded(values.type):
            values = pc.call_function("run_end_decode", [values])
        found = mask_of(self._memo(values))
        return found if found.any() else None

    def line(self, text: str) -> bool:
        """Whether a line that is no row names a listed person as one of its fields or words."""
        words = fields(text)
        return bool(words) and bool(mask_of(self._listed(pa.array(sorted(words), pa.string()))).any())

    def _listed(self, values: Array) -> Array:
        plain = self._naming.plain(values)
        found = np.zeros(len(values), np.bool_)
        for key_id in self._keys:
            names = self._naming.names(plain, key_id).to_pylist()
            found |= np.fromiter((name in self._names for name in names), np.bool_, len(values))
        return pa.array(found)


def fields(line: str) -> set[str]:
    """What may have been a value in a line that is no row: words, quoted texts, and what stands between delimiters."""
    return {*_WORD.findall(line), *_FIELD.findall(line), *(part.strip() for part in re.split("[,;|\t]", line))}


def key_id_of(name: str) -> str:
    return name.rpartition(":")[0]


def _strings(values: Array) -> Array:
    """string (n,), the texts that pseudonyms are made of."""
    if pa.types.is_string(values.type):
        return values
    if not values.null_count:
        return pa.array([t.decode("utf-8", "backslashreplace") for t in texts(values)], pa.string())
    return pa.array([None if v is None else t for v, t in _paired(values)], pa.string())


def _paired(values: Array) -> Iterable[tuple[Any, str | None]]:
    found = iter(texts(values.drop_null()))
    for value in values.to_pylist():
        yield value, None if value is None else next(found).decode("utf-8", "backslashreplace")

"""What becomes of personal columns in all that leaves a run: checked when a job begins, applied to what a window carries out.

The model sees the value as it is, in memory only. Treated columns leave in their declared type (numbers and dates generalised) or
as text (pseudonyms and masks); rows keep their order and nulls stay null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit.coerce import Array
from scoring.admit.keys import KeyRing
from scoring.admit.pseudonyms import Memo, Pseudonyms
from scoring.errors import ConfigError
from scoring.settings import Column, Contract

MASK = "***"  # of every length: how long a value was is not told either
LINKING = ("pseudonymise", "pass", None)  # what is left of a subject must be found again when it is to be erased


class Treatments:
    """The treatments of one contract, for the columns that are carried. Thread-safe."""

    def __init__(self, columns: Mapping[str, Column], carry: Sequence[str], ring: KeyRing | None) -> None:
        self.dropped = tuple(name for name in carry if name in columns and columns[name].treatment == "drop")
        self._ways = {name: way for name in carry if name in columns and (way := _way(name, columns[name], ring)) is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Carried columns whose values leave as others."""
        return tuple(self._ways)

    def apply(self, carried: pa.RecordBatch, good: pa.RecordBatch) -> pa.RecordBatch:
        """`carried` as read, `good` the same rows with the declared columns in declared types."""
        if not self._ways and not self.dropped:
            return carried
        kept = [name for name in carried.schema.names if name not in self.dropped]
        columns = [self._ways[name](good.column(name)) if name in self._ways else carried.column(name) for name in kept]
        if columns:
            return pa.RecordBatch.from_arrays(columns, names=kept)
        return carried.select([])


def refuse(contract: Contract, carry: Sequence[str]) -> None:
    """Hold a contract's tags against each other before any data is read.

    Raises:
        ConfigError: a tagged column without a treatment, a treatment without what it needs, or a subject that could not be erased.
    """
    for wrong in (*_wrong_columns(contract.columns), *_wrong_subject(contract, carry)):
        raise ConfigError(f"contract.{wrong}")


def needs_key(contract: Contract) -> bool:
    return contract.privacy.subject is not None or any(c.treatment == "pseudonymise" for c in contract.columns.values())


def tagged(contract: Contract) -> tuple[str, ...]:
    """Columns that are personal data: tagged, or the one that identifies the person."""
    names = [name for name, column in contract.columns.items() if column.pii is not None or column.treatment is not None]
    return tuple(dict.fromkeys([*names, *([contract.privacy.subject] if contract.privacy.subject else [])]))


def refuse_keys(contract: Contract, keys: Sequence[str]) -> None:
    """Names of folders are not treated, and stand in the ledger.

    Raises:
        ConfigError: a partition's key holds a tagged column.
    """
    said = {name for name, column in contract.columns.items() if column.treatment not in (None, "pass")}
    for key in keys:
        for name in {part.partition("=")[0] for part in key.split("/")} & said:
            raise ConfigError(
                f"contract.columns.{name}: {name}=… names folders of the source, so that its values would stand in names of "
                "files and in the ledger. Say source.hive=false, or treatment: pass."
            )


def described(contract: Contract) -> dict[str, str]:
    """How a person is found later in what this contract let out; empty without a subject."""
    subject = contract.privacy.subject
    if subject is None:
        return {}
    column = contract.columns[subject]
    treated = {"purpose": column.purpose or ""} if column.treatment == "pseudonymise" else {}
    key = {"key_env": contract.privacy.key_env, "key_id": contract.privacy.key_id}
    return {"column": subject, "dtype": column.dtype} | key | treated


def _wrong_columns(columns: Mapping[str, Column]) -> Iterator[str]:
    for name, column in columns.items():
        where, kind = f"columns.{name}", column.treatment
        if column.pii is not None and kind is None:
            yield f"{where} is tagged pii: {column.pii} and has no treatment. Say pseudonymise, mask, generalise, drop or pass."
        if kind == "pseudonymise" and column.purpose is None:
            yield f"{where}: pseudonymise needs a purpose: pseudonyms of different purposes cannot be joined."
        if kind == "generalise" and (column.width is None) == (column.unit is None):
            yield f"{where}: generalise needs a width (numbers) or a unit (dates and times), and not both."
        if kind == "generalise" and not _fits(column):
            yield f"{where}: generalise by {'width' if column.width else 'unit'} does not go with {column.dtype}."
        set_for = {"keep_last": "mask", "width": "generalise", "unit": "generalise"}
        for setting, treatment in set_for.items():
            if getattr(column, setting) and kind != treatment:
                yield f"{where}: {setting} is a setting of {treatment}, not of {kind or 'no treatment'}."


def _fits(column: Column) -> bool:
    """An integer column has integer intervals: 0.5 would make floats of it."""
    number = column.dtype.startswith(("int", "uint", "float", "double", "half"))
    whole = not column.dtype.startswith(("int", "uint")) or float(column.width or 1).is_integer()
    return number and whole if column.width else column.dtype.startswith(("date", "timestamp"))


def _wrong_subject(contract: Contract, carry: Sequence[str]) -> Iterator[str]:
    subject = contract.privacy.subject
    if subject is None:
        if contract.privacy.suppress is not None:
            yield "privacy.suppress names people, and contract.privacy.subject does not say which column does."
        return
    column = contract.columns.get(subject)
    if column is None:
        yield f"privacy.subject: {subject} must be declared in contract.columns."
    elif subject not in carry or column.treatment not in LINKING:
        yield (
            f"privacy.subject: {subject} must be in source.carry with the treatment pseudonymise or pass: rows that cannot be "
            "found cannot be erased."
        )


def _way(name: str, column: Column, ring: KeyRing | None) -> Callable[[Array], Array] | None:
    if column.treatment == "pseudonymise":
        assert ring is not None
        assert column.purpose is not None
        return Memo(Pseudonyms(ring, ring.current, column.purpose, name))
    if column.treatment == "mask":
        return partial(masked, keep_last=column.keep_last)
    if column.treatment == "generalise":
        return partial(generalised, width=column.width, unit=column.unit)
    return None


def masked(values: Array, keep_last: int) -> Array:
    """string (n,): "***" and the last characters of values that are longer than what is kept."""
    plain: Any = _plain(values).cast(pa.string())
    if not keep_last:
        return cast(Array, pc.if_else(plain.is_valid(), MASK, pa.scalar(None, pa.string())))
    end = pc.utf8_slice_codeunits(plain, start=-keep_last)
    shown = pc.if_else(pc.greater(cast(Any, pc.utf8_length(plain)), pa.scalar(keep_last)), end, "")
    return cast(Array, pc.binary_join_element_wise(MASK, shown, ""))


def generalised(values: Array, width: float | None, unit: str | None) -> Array:
    """The lower end of the interval of each value; floats, dates and times in their own type, integers in 64 bits."""
    plain = _plain(values)
    if width is None:
        return pc.floor_temporal(plain, unit=cast(Any, unit)).cast(plain.type)
    if not pa.types.is_integer(plain.type):
        return pc.multiply(pc.floor(pc.divide(plain, width)), width).cast(plain.type)
    wide: Any = plain.cast(pa.uint64() if pa.types.is_unsigned_integer(plain.type) else pa.int64())
    step, one = (pa.scalar(n, wide.type) for n in (int(width), 1))
    quotient = pc.divide(wide, step)
    above = pc.greater(pc.multiply(quotient, step), wide)  # division cuts towards zero, which is upward below it
    return cast(Array, pc.multiply(pc.if_else(above, pc.subtract(quotient, one), quotient), step).cast(wide.type))


def _plain(values: Array) -> Array:
    return values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values

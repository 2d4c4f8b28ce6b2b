"""The contract as a dataframely schema: for users' own Polars code, and the judge of every row rule and pattern in the pass.

The only file that knows dataframely, imported on first use, like Polars, so that a lane whose contract has neither row rules
nor patterns needs none of them. Column rules have the names that reasons have ("amount|range"), row rules "rule:<name>".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow as pa

from scoring.admit.coerce import Array, Mask
from scoring.admit.ranges import Bounds
from scoring.errors import ConfigError

_NUMBERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64")
_PLACE = "\0place"
Kind = tuple[pa.DataType, bool, Bounds]  # Arrow type, nullable, bounds


def schema(columns: Mapping[str, Kind], rules: Mapping[str, str]) -> Any:
    """A subclass of `dataframely.Schema`. `rules` are SQL by name; warnings are not part of it, a row that breaks one is valid.

    Raises: ConfigError: dataframely does not take the names, or Polars does not take the SQL.
    """
    import dataframely as dy

    body: dict[str, Any] = {f"column {n}": _column(dy, name, *kind) for n, (name, kind) in enumerate(columns.items())}
    body |= {f"rule:{name}": dy.rule()(_always(expression(sql, name))) for name, sql in rules.items()}
    try:
        return type("Contract", (dy.Schema,), body)
    except dy.exc.ImplementationError as error:
        raise ConfigError(f"contract: {error}") from None


@lru_cache(maxsize=1024)
def expression(sql: str, name: str) -> Any:
    """A Polars expression, true or null where the row is as it should be. Raises: ConfigError: Polars does not take the SQL."""
    import polars as pl

    try:
        return pl.sql_expr(sql)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"contract.rules.{name}: Polars says {' '.join(str(error).split())}.") from None


def prove(rules: Mapping[str, str], columns: Mapping[str, Kind]) -> None:
    """Evaluate each rule on a few rows of the declared types: it must give one bool a row, the same alone as among others.

    Raises: ConfigError: it does not.
    """
    import polars as pl

    values = {name: _examples(kind) for name, (kind, *_) in columns.items()}
    frame = cast(pl.DataFrame, pl.from_arrow(pa.table(values))) if values else pl.DataFrame()
    for name, sql in rules.items():
        asked = expression(sql, name).alias("is")
        try:
            whole = frame.select(asked)
            alone = pl.concat([frame[n : n + 1].select(asked) for n in range(frame.height)])
        except pl.exceptions.PolarsError as error:
            raise ConfigError(f"contract.rules.{name}: Polars says {str(error).splitlines()[0]}.") from None
        if whole.schema["is"] != pl.Boolean or not whole.equals(alone):
            raise ConfigError(f"contract.rules.{name}: a row rule is true or false of each row by itself; this one is not: {sql}")


def broken(values: Mapping[str, Array], rules: Mapping[str, str]) -> dict[str, Mask]:
    """Which rows break which rules (bool (rows,), none left out whole), by Polars alone: the quick look before `verdicts`."""
    import polars as pl

    frame = cast(pl.DataFrame, pl.from_arrow(pa.table(dict(values))))
    held = frame.select(expression(sql, name).all(ignore_nulls=True).alias(name) for name, sql in rules.items()).row(0, named=True)
    if all(held.values()):
        return {}
    found = frame.select(expression(sql, name).fill_null(True).not_().alias(name) for name, sql in rules.items() if not held[name])
    return {s.name: s.to_numpy() for s in found.iter_columns()}


def judge(columns: Mapping[str, pa.DataType], rules: Mapping[str, str]) -> Any:
    """The schema that `verdicts` asks: these columns with nothing said of them, these rules, and where a row stood."""
    free: dict[str, Kind] = {name: (kind, True, Bounds()) for name, kind in columns.items()}
    return schema(free | {_PLACE: (pa.int64(), True, Bounds())}, rules)


def verdicts(judging: Any, values: Mapping[str, Array]) -> dict[str, Mask]:
    """As `broken`, by dataframely."""
    import polars as pl

    rows = len(next(iter(values.values())))
    table = pa.table({**values, _PLACE: pa.array(np.arange(rows))})
    _, failure = judging.filter(cast(pl.DataFrame, pl.from_arrow(table)))
    details = failure.details()
    found = {}
    for name in failure.counts():
        found[name.removeprefix("rule:")] = mask = np.zeros(rows, np.bool_)
        mask[details.filter(pl.col(name) == "invalid")[_PLACE].to_numpy()] = True
    return found


def matches(values: Array, pattern: str) -> Mask:
    """Whether the whole of each text matches (null does). Linear in the length of the text, whatever the pattern."""
    import polars as pl

    texts = cast(pl.Series, pl.from_arrow(values))
    return texts.str.contains(whole(pattern)).fill_null(True).to_numpy()


def check_pattern(pattern: str, where: str) -> None:
    """Raises: ConfigError: not a regular expression as Rust reads them."""
    import polars as pl

    try:
        for one in (pattern, whole(pattern)):
            pl.Series([""]).str.contains(one)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{where}: {pattern!r} is no regular expression: {' '.join(str(error).split())[:200]}.") from None


def whole(pattern: str) -> str:
    return rf"\A(?:{pattern})\z"


def _always(asked: Any) -> Callable[[Any], Any]:
    return lambda schema: asked


def _column(dy: Any, name: str, kind: pa.DataType, nullable: bool, bounds: Bounds) -> Any:
    """One column of the schema; its checks are written out, so that they mean to the letter what `ranges` means."""
    said: dict[str, Any] = {"alias": name, "nullable": nullable, "check": _checks(kind, bounds) or None}
    if pa.types.is_timestamp(kind):
        return dy.Datetime(time_unit="ms" if kind.unit == "s" else kind.unit, time_zone=kind.tz, **said)
    if pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_string(kind):
        return {pa.bool_(): dy.Bool, pa.string(): dy.String}.get(kind, dy.Date)(**said)
    numbers = {pa.type_for_alias(cast(Any, number.lower())): getattr(dy, number) for number in _NUMBERS}
    free = {"allow_nan": True, "allow_inf": True} if pa.types.is_floating(kind) else {}
    return numbers[kind](**said, **free)


def _checks(kind: pa.DataType, bounds: Bounds) -> dict[str, Callable[[Any], Any]]:
    import polars as pl

    dtype = cast(pl.Series, pl.from_arrow(pa.array([], kind))).dtype
    checks: dict[str, Callable[[Any], Any]] = {}
    low, high, allowed, pattern = bounds.low, bounds.high, bounds.allowed, bounds.pattern
    if pa.types.is_floating(kind):
        checks |= {"nan": lambda x: x.is_not_nan(), "finite": lambda x: x.is_infinite().not_()}
    odd = (lambda x: x.is_finite().not_()) if pa.types.is_floating(kind) else (lambda x: pl.lit(False))
    if low is not None or high is not None:
        least, most = (None if b is None else pl.lit(b.item() if isinstance(b, np.generic) else b, dtype) for b in (low, high))
        checks["range"] = lambda x: odd(x) | ((True if least is None else x >= least) & (True if most is None else x <= most))
    if allowed is not None:
        known = pl.from_arrow(allowed)
        checks["allowed"] = lambda x: x.is_in(known.implode())  # type: ignore[union-attr]
    if pattern is not None:
        checks["pattern"] = lambda x: x.str.contains(whole(pattern))
    return checks


def _examples(kind: pa.DataType) -> Array:
    """A null and two values of any declared type."""
    if pa.types.is_string(kind):
        return pa.array([None, "a", "2026-01-31"], kind)
    ones = pa.array([None, 0, 1], pa.int32() if pa.types.is_date(kind) else pa.int64())
    return ones.cast(pa.bool_() if pa.types.is_boolean(kind) else kind)

"""One contract from several: the bundle's inputs, the contract.yaml beside them, what the user says; later ones override by name.

What a contract says about whole partitions is checked here, before anything is read; what it says about rows, in `rules`.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any

import pyarrow as pa

from scoring.admit.rules import Rules
from scoring.errors import ConfigError
from scoring.settings import Contract

SCHEMA = ("schema:missing", "schema:extra", "schema:widened")
DATASET = ("total", "unique", "min_rows", "max_rows", "freshness", *SCHEMA)
OF_COLUMNS = ("null", "type", "utf8", "range", "nan", "finite", "allowed", "pattern")


def combined(*contracts: Contract) -> Contract:
    """Mappings are merged by name; of the rest, the last that does not say the default counts."""
    names = [one.name for one in fields(Contract)]
    default = {name: getattr(Contract(), name) for name in names}
    said: dict[str, Any] = dict(default)
    for contract in contracts:
        for name in names:
            value = getattr(contract, name)
            if isinstance(value, dict):
                said[name] = {**said[name], **value}
            elif value != default[name]:
                said[name] = value
    return Contract(**said)


def check(contract: Contract, rules: Rules) -> None:
    """Raises: ConfigError: a limit of no known rule, a key of columns that are not declared, or no column to be fresh."""
    names = {rule.name for rule in rules.columns}
    known = {*DATASET, *(f"rule:{name}" for name in contract.rules), *(f"{name}:{what}" for name in names for what in OF_COLUMNS)}
    for name in contract.limits:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(f"contract.limits.{name}: there is no such rule.{f' Did you mean {near[0]!r}?' if near else ''}")
    for name in contract.unique:
        if name not in names:
            raise ConfigError(f"contract.unique: {name!r} is no declared column. Declare it in contract.columns.")
        if name in contract.columns and contract.columns[name].pii is not None:
            raise ConfigError(
                f"contract.unique: {name!r} is personal data, and keys are kept with the run, where no erasure finds them. "
                "Leave it out."
            )
    if time_column(contract) is None and contract.freshness_hours is not None:
        raise ConfigError("contract.freshness_hours needs a column with role: time.")
    for rule in rules.columns:
        timely = pa.types.is_date(rule.type) or pa.types.is_timestamp(rule.type)
        if rule.name in contract.columns and contract.columns[rule.name].role == "time" and not timely:
            raise ConfigError(f"contract.columns.{rule.name}: role time needs a date or a timestamp, not {rule.type}.")


def time_column(contract: Contract) -> str | None:
    """The column by which rows are dated. Raises: ConfigError: there are several."""
    found = [name for name, column in contract.columns.items() if column.role == "time"]
    if len(found) > 1:
        raise ConfigError(f"contract.columns: {', '.join(found)} all have role time; one column dates a row.")
    return found[0] if found else None

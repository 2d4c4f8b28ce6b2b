"""`model.yaml` as plain, checked data. The file is foreign: it may say what a model is, never what is to be run.

Limits (threat table of the design: YAML bombs, tags): 1 MB, no alias, depth 32, no repeated key, no tag beyond the JSON types,
no key that nobody asked for.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from scoring.errors import ModelError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse(text: bytes, where: str) -> Fields:
    """Raises: ModelError: not YAML, or YAML beyond the limits above."""
    return Fields(plain(text, where), where)


def plain(text: bytes, where: str) -> Any:
    """What the YAML says. Raises: as `parse`."""
    if len(text) > MAX_BYTES:
        raise ModelError(f"{where} has {len(text):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        _refuse_bombs(text.decode(), where)
        return yaml.load(text.decode(), Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ModelError(f"{where} is not plain YAML: {' '.join(str(error).split())}") from None


def _refuse_bombs(text: str, where: str) -> None:
    """Look at events only: nothing is built, so nothing can blow up."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ModelError(f"{where} uses an alias (*{event.anchor}); write the value out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ModelError(f"{where} is nested deeper than {MAX_DEPTH}.")


_MISSING = object()


class Fields:
    """A mapping whose keys are taken one by one by type; `done` refuses what nobody took. Every complaint names the full path."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict) or any(not isinstance(key, str) for key in data):
            raise ModelError(f"{where} must be a mapping with text keys, not {_short(data)}.")
        self.where = where
        self._left = dict(data)
        self._known: list[str] = []

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is _MISSING:
            raise ModelError(f"{self.where}: {key!r} is missing.")
        return value

    def wrong(self, key: str, expected: str, found: Any) -> NoReturn:
        raise ModelError(f"{self.where}: {key!r} must be {expected}, not {_short(found)}.")

    def has(self, key: str) -> bool:
        return self._left.get(key) is not None

    def text(self, key: str, default: Any = _MISSING) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or not value:
            self.wrong(key, "a non-empty text (quote numbers)", value)
        return value

    def flag(self, key: str, default: Any = _MISSING) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.wrong(key, "true or false", value)
        return value

    def number(self, key: str, default: Any = _MISSING) -> float:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.wrong(key, "a finite number", value)
        return float(value)

    def integer(self, key: str, low: int, high: int, default: Any = _MISSING) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(key, f"an integer from {low:,} to {high:,}", value)
        return value

    def integers(self, key: str, low: int, high: int, default: Any = _MISSING) -> tuple[int, ...]:
        value = self._take(key, default)
        if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int) or not low <= v <= high for v in value):
            self.wrong(key, f"a list of integers from {low:,} to {high:,}", value)
        return tuple(value)

    def texts(self, key: str, default: Any = _MISSING) -> tuple[str, ...]:
        value = self._take(key, default)
        if not isinstance(value, list) or any(not isinstance(v, str) or not v for v in value):
            self.wrong(key, "a list of texts", value)
        return tuple(value)

    def anything(self, key: str, default: Any = _MISSING) -> Any:
        return self._take(key, default)

    def fields(self, key: str, default: Any = _MISSING) -> Fields:
        return Fields(self._take(key, default), f"{self.where}: {key}")

    def items(self, key: str, default: Any = _MISSING) -> Iterator[Fields]:
        value = self._take(key, default)
        if not isinstance(value, list):
            self.wrong(key, "a list", value)
        yield from (Fields(item, f"{self.where}: {key}[{n}]") for n, item in enumerate(value))

    def done(self) -> None:
        for key in self._left:
            near = difflib.get_close_matches(key, self._known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(self._known))}."
            raise ModelError(f"{self.where}: {key!r} is not known here; {hint}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

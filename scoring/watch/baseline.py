"""`baseline.json`: what the training rows looked like. Made once for a model, read by every run; plain data, strictly checked.

It lies in the bundle beside the three files that are the model, and is no part of the model's digest: a baseline may be made again
without making another model. Like the bundle it is foreign: it is parsed, never executed, and bounded in size.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from scoring.errors import ConfigError, ModelError
from scoring.settings import Column, Watch
from scoring.types import canonical, digest
from scoring.watch.plan import Output, Plan, Watched, bare, countable, discreet
from scoring.watch.summary import Summary

NAME = "baseline.json"
FORMAT = 1
MAX_BYTES = 32 << 20
_MOST_EDGES, _MOST_VALUES = 64, 1_000
_KEYS = {"format", "model", "contract", "keys", "rows_in", "reasons", "columns", "outputs", "segments", "summary"}


@dataclass(frozen=True)
class Baseline:
    """`summary` counts admitted training rows by `plan`. `reasons` counts rows that were not admitted, of `rows_in` rows.

    `model` is the digest of the bundle whose scores were counted, `contract` that of the declared columns, `keys` the first and the
    last partition seen.
    """

    plan: Plan
    summary: Summary
    model: str
    contract: str
    rows_in: int
    reasons: dict[str, int] = field(default_factory=dict)
    keys: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        return digest(self.plain())[:16]

    def plain(self) -> dict[str, Any]:
        columns = {n: {"kind": c.kind, "edges": list(c.edges), "values": list(c.values)} for n, c in self.plan.columns.items()}
        return {
            "format": FORMAT,
            "model": self.model,
            "contract": self.contract,
            "keys": list(self.keys),
            "rows_in": self.rows_in,
            "reasons": self.reasons,
            "columns": columns,
            "outputs": {n: {"edges": list(o.edges), "step": o.step} for n, o in self.plan.outputs.items()},
            "segments": {n: list(values) for n, values in self.plan.segments.items()},
            "summary": dict(self.summary.plain),
        }

    def to_json(self) -> bytes:
        return canonical(self.plain())


def read(path: Path) -> Baseline:
    """Raises: ModelError: not there, too large, or not a baseline of this format; the message says what was expected."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ModelError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read.")
        return parsed(path.read_bytes(), path)
    except OSError as error:
        raise ModelError(
            f"Baseline {path} cannot be read ({error.strerror}). Make it with scoring baseline PATH bundle=…."
        ) from None


def parsed(data: bytes, path: Path) -> Baseline:
    """The text of a baseline; `path` is what errors call it. Raises: ModelError: as `read`."""
    try:
        plain = json.loads(data, parse_constant=lambda word: _wrong(path, f"{word} in it", "finite numbers only"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {' '.join(str(error).split())[:200]}.") from None
    return _Reader(path).baseline(plain)


class _Reader:
    """From plain data to a Baseline; what does not fit is named with its path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def baseline(self, data: Any) -> Baseline:
        found = self._mapping(data, "it")
        if found.get("format") != FORMAT:
            _wrong(self._path, f"format {found.get('format')!r}", f"format {FORMAT}")
        if odd := sorted(_KEYS ^ found.keys()):
            _wrong(self._path, f"{odd[0]!r} {'lacking' if odd[0] in _KEYS else 'in it'}", f"the keys {', '.join(sorted(_KEYS))}")
        columns = {name: self._watched(c, f"columns.{name}") for name, c in self._mapping(found["columns"], "columns").items()}
        outputs = {name: self._output(o, f"outputs.{name}") for name, o in self._mapping(found["outputs"], "outputs").items()}
        segments = {n: self._texts(v, f"segments.{n}") for n, v in self._mapping(found["segments"], "segments").items()}
        plan = Plan(columns, outputs, segments)
        reasons = {n: self._count(v, f"reasons.{n}") for n, v in self._mapping(found["reasons"], "reasons").items()}
        model, contract = (self._text(found[key], key) for key in ("model", "contract"))
        rows_in, keys = self._count(found["rows_in"], "rows_in"), self._texts(found["keys"], "keys")
        return Baseline(plan, self._summary(found["summary"], plan), model, contract, rows_in, reasons, keys)

    def _watched(self, data: Any, where: str) -> Watched:
        column = self._mapping(data, where)
        kind = column.get("kind")
        if kind not in ("number", "category", "nulls") or column.keys() != {"kind", "edges", "values"}:
            self._say(where, column, "kind (number, category or nulls), edges and values")
        return Watched(kind, self._edges(column["edges"], where), self._texts(column["values"], where))

    def _output(self, data: Any, where: str) -> Output:
        output = self._mapping(data, where)
        if output.keys() != {"edges", "step"} or type(output["step"]) is not int or not -200 <= output["step"] <= 200:
            self._say(where, output, "edges and a step from -200 to 200")
        return Output(self._edges(output["edges"], where), output["step"])

    def _summary(self, data: Any, plan: Plan) -> Summary:
        """Counts that fit the plan: a summary that does not would fail in the middle of a run."""
        found = self._mapping(data, "summary")
        if found.get("plan") != plan.digest:
            self._say("summary.plan", found.get("plan"), f"{plan.digest}, the digest of its columns, outputs and segments")
        segments = {f"{name}={value}" for name, values in plan.segments.items() for value in values}
        inner = self._mapping(found.get("segments", {}), "summary.segments")
        if inner.keys() != segments:
            self._say("summary.segments", sorted(inner), f"{sorted(segments)}")
        for where, counts in [("summary", found), *((f"summary.segments.{n}", self._mapping(c, n)) for n, c in inner.items())]:
            self._count(counts.get("rows"), f"{where}.rows")
            self._parts(counts, plan, where)
        return Summary(found)

    def _parts(self, counts: Mapping[str, Any], plan: Plan, where: str) -> None:
        for part, known in (("columns", plan.columns), ("scores", plan.outputs)):
            named = self._mapping(counts.get(part), f"{where}.{part}")
            if named.keys() != known.keys():
                self._say(f"{where}.{part}", sorted(named), f"the names {sorted(known)}")
            for name, values in named.items():
                lengths = {"le": len(known[name].edges), "in": len(getattr(known[name], "values", ()))}
                self._counts(self._mapping(values, name), lengths, f"{where}.{part}.{name}")

    def _counts(self, counts: Mapping[str, Any], lengths: Mapping[str, int], where: str) -> None:
        for key, value in counts.items():
            if key in ("le", "in"):
                if not isinstance(value, list) or len(value) != lengths[key]:
                    self._say(f"{where}.{key}", value, f"{lengths[key]} counts")
                for count in value:
                    self._count(count, f"{where}.{key}")
            elif key in ("cells", "other"):
                for cell, count in self._mapping(value, f"{where}.{key}").items():
                    if not cell.isdecimal() or int(cell) >= 1024:
                        self._say(f"{where}.{key}", cell, "a cell below 1024")
                    self._count(count, f"{where}.{key}.{cell}")
            elif key in ("min", "max", "sum"):
                self._number(value, f"{where}.{key}")
            elif key in ("null", "nan", "inf", "ninf", "rows"):
                self._count(value, f"{where}.{key}")
            else:
                self._say(where, key, "counts of this version")

    def _edges(self, data: Any, where: str) -> tuple[float, ...]:
        edges = tuple(self._number(e, where) for e in data) if isinstance(data, list) else ()
        if not isinstance(data, list) or len(edges) > _MOST_EDGES or any(a >= b for a, b in pairwise(edges)):
            self._say(f"{where}.edges", data, f"at most {_MOST_EDGES} ascending numbers")
        return edges

    def _mapping(self, data: Any, where: str) -> dict[str, Any]:
        if not isinstance(data, dict):
            self._say(where, data, "a mapping")
        return data

    def _texts(self, data: Any, where: str) -> tuple[str, ...]:
        if not isinstance(data, list) or len(data) > _MOST_VALUES or len(set(map(str, data))) != len(data):
            self._say(where, data, f"a list of at most {_MOST_VALUES:,} different texts")
        return tuple(self._text(value, where) for value in data)

    def _text(self, data: Any, where: str) -> str:
        if not isinstance(data, str):
            self._say(where, data, "a text")
        return data

    def _number(self, data: Any, where: str) -> float:
        if type(data) not in (int, float) or not -1e308 < data < 1e308:
            self._say(where, data, "a finite number")
        return float(data)

    def _count(self, data: Any, where: str) -> int:
        if type(data) is not int or data < 0:
            self._say(where, data, "a count")
        return data

    def _say(self, where: str, found: Any, expected: str) -> NoReturn:
        _wrong(self._path, f"{where}: {str(found)[:80]}", expected)


def _wrong(path: Path, found: str, expected: str) -> NoReturn:
    raise ModelError(f"{path} is not a baseline: {found}; expected {expected}. Make it again with scoring baseline PATH bundle=….")


def fitted(
    baseline: Baseline | None, declared: Mapping[str, Column], outputs: Sequence[str], watch: Watch, personal: Sequence[str] = ()
) -> Plan:
    """What is to be counted in a job: the baseline's edges for the columns wanted, nulls alone for what it does not know. Of the
    `personal` columns no value is kept.

    Raises:
        ConfigError: a column or a segment that is asked for is not there, or the baseline counted it as another type.
    """
    if lacking := sorted({*(watch.columns or ())} - declared.keys()):
        raise ConfigError(f"watch.columns: {lacking[0]!r} is not an input of the model. Known: {', '.join(declared)}.")
    wanted = [name for name in declared if watch.columns is None or name in watch.columns]
    if baseline is None:
        return bare(wanted, outputs)
    if lacking := sorted({*watch.segments} - baseline.plan.segments.keys()):
        raise ConfigError(
            f"watch.segments: the baseline has none by {lacking[0]!r}. Make it with scoring baseline … segments={lacking[0]}."
        )
    known = baseline.plan.columns
    for name in wanted:
        if name in known and not countable(known[name], declared[name].dtype):
            found = f"{name!r} is {declared[name].dtype} here, and was counted as a {known[name].kind}"
            raise ConfigError(f"The baseline does not fit: {found}. Make it again with scoring baseline PATH bundle=….")
    columns = {name: known.get(name, Watched()) for name in wanted}
    columns |= {name: discreet(columns[name], declared[name].treatment) for name in personal if name in columns}
    named = [name for name in watch.segments if name in personal]
    if hidden := [name for name in named if discreet(known[name], declared[name].treatment).kind == "nulls"]:
        raise ConfigError(f"watch.segments: {hidden[0]!r} is personal: segments would name its values. Leave it out.")
    scores = {name: baseline.plan.outputs.get(name, Output()) for name in outputs}
    return Plan(columns, scores, {name: baseline.plan.segments[name] for name in watch.segments})


def span(keys: Iterable[str]) -> tuple[str, ...]:
    """The first and the last of the partitions; the only one once."""
    ordered = sorted(set(keys))
    return tuple(dict.fromkeys(ordered[:1] + ordered[-1:]))

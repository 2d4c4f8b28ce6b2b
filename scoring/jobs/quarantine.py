"""The quarantine as a workbench: how many rows broke which rules, which break together, in which files, and some to look at.

Read through the newest manifests, in batches: memory does not grow with the rows. Of a sampled row only the value that broke the
rule is shown, and only if it cannot be anybody's (`shown`); of a column that the contract tags, or where the contract of the run
cannot be read, its shape alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from scoring.jobs.arguments import Given
from scoring.jobs.selection import select
from scoring.jobs.workspace import existing
from scoring.respond.manual import clean
from scoring.sinks.manifest import Manifest
from scoring.stores import Store
from scoring.stores.names import MissingError
from scoring.types import BadFile, Receipt

_BATCH_ROWS = 1 << 17
_COLUMNS = ["_source_file", "_row", "_rows", "_stage", "_reasons"]
_BETWEEN = "\x1f"  # joins reasons; no column name that Arrow readers give has it
_SHOWN = 30
_TAGS = ("pii", "sensitive", "treatment")  # of a column of the contract: a person's data, whatever is said of it
_NOTHING = re.compile(r"(n/?a|null|none|nil|nan|-?inf|[-?.]*)", re.IGNORECASE)
_NUMBER = re.compile(r"[\s+\-.,eE0-9]{1,12}")
_MOST_DIGITS, _LONGEST = 6, 24  # a longer number may be an account, a telephone, a card


@dataclass(frozen=True)
class Sample:
    """A row that broke a rule: `row` is its place in the file, None where the file was lost as a whole; `value` as `shown`."""

    rule: str
    file: str
    row: int | None
    value: str


@dataclass(frozen=True)
class QuarantineRecord:
    """Rows by rule ("stage:reason"), by pairs of rules ("a & b") and by source file; a row with two reasons counts under both.

    Files whose rows nobody could count stand there with 0.
    """

    rows: int
    reasons: dict[str, int]
    files: dict[str, int]
    pairs: dict[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()


def quarantine(workspace: str, partition: str | None = None, run: str | None = None, samples: int = 3) -> QuarantineRecord:
    """`samples` rows of each rule are shown.

    Raises:
        ConfigError: nothing ever ran there, or there is no such partition or run. StoreError: it cannot be read.
    """
    store = existing(workspace)
    return counted(store, select(store, partition, run), samples)


def counted(store: Store, manifests: Iterable[Manifest], samples: int) -> QuarantineRecord:
    """The quarantine files of some manifests. Raises: StoreError, OSError, pa.ArrowException: one cannot be read."""
    count = _Count(samples)
    tagged = _Tagged(store)
    found: list[Sample] = []
    for manifest in manifests:
        for file in manifest.quarantine:
            wanted = count.file(store, file.path)
            found += _samples(store, manifest.run_id, file.path, wanted, tagged)
    order = {rule: n for n, (rule, _) in enumerate(count.reasons.most_common())}
    found.sort(key=lambda s: (order[s.rule], s.file, s.row or 0))
    return QuarantineRecord(count.rows, dict(count.reasons), dict(count.files), dict(count.pairs), tuple(found))


def examples(store: Store, run_id: str, receipts: Iterable[Receipt], samples: int, rules: Collection[str]) -> tuple[Sample, ...]:
    """`samples` rows of each of `rules` from what a run staged, published or not. Only files that a receipt says to hold a rule of
    which there are too few are read. Raises: StoreError, OSError, pa.ArrowException: one cannot be read.
    """
    tagged, found = _Tagged(store), dict[str, list[Sample]]({rule: [] for rule in rules})
    for receipt in receipts:
        if all(len(some) >= samples for some in found.values()):
            break
        if any(rule in found and len(found[rule]) < samples for rule, rows in receipt.reasons.items() if rows or receipt.bad_files):
            for path in (file.key for file in receipt.quarantine if store.exists(file.key)):
                for one in _samples(store, run_id, path, _Count(samples).file(store, path), tagged):
                    if one.rule in found and len(found[one.rule]) < samples:
                        found[one.rule].append(one)
    return tuple(one for rule in rules for one in sorted(found[rule], key=lambda s: (s.file, s.row or 0)))


class _Count:
    """Counts so far. Rules with the same stage and reasons are counted together, and spelled out once."""

    def __init__(self, samples: int) -> None:
        self.rows = 0
        self.reasons, self.files, self.pairs = Counter[str](), Counter[str](), Counter[str]()
        self._left: defaultdict[str, int] = defaultdict(lambda: samples)

    def file(self, store: Store, path: str) -> list[tuple[str, int]]:
        """Count a file. Returns (rule, place in the file) of the rows to show."""
        wanted: list[tuple[str, int]] = []
        with pq.ParquetFile(store.open_file(path)) as parquet:
            start = 0
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=_COLUMNS):
                wanted += [(rule, start + place) for rule, place in self._batch(batch)]
                start += batch.num_rows
        return wanted

    def _batch(self, batch: pa.RecordBatch) -> Iterator[tuple[str, int]]:
        table = pa.table({"file": batch.column("_source_file"), "rows": batch.column("_rows"), "why": _why(batch)})
        self.rows += pc.sum(table["rows"]).as_py() or 0
        for row in table.group_by("file").aggregate([("rows", "sum")]).to_pylist():
            self.files[row["file"]] += row["rows_sum"]
        for row in table.group_by("why").aggregate([("rows", "sum")]).to_pylist():
            rules = row["why"].split(_BETWEEN)
            self.reasons.update(dict.fromkeys(rules, row["rows_sum"]))
            self.pairs.update({f"{a} & {b}": row["rows_sum"] for a, b in combinations(sorted(set(rules)), 2)})
            if any(self._left[rule] > 0 for rule in rules):
                yield from self._some(rules, table["why"], row["why"])

    def _some(self, rules: list[str], why: pa.ChunkedArray[Any], one: str) -> Iterator[tuple[str, int]]:
        """The first rows of a combination of rules, for those that have not been shown often enough."""
        places = np.flatnonzero(pc.equal(why, pa.scalar(one)).to_numpy())
        for rule in rules:
            for place in places[: self._left[rule]].tolist():
                self._left[rule] -= 1
                yield rule, place


def _why(batch: pa.RecordBatch) -> pa.Array[Any]:
    """string (rows,): the rules that each row broke, joined. What a reason says beyond its kind (a reader's or a model's message)
    is left out, so that it can be counted.
    """
    reasons, stages = batch.column("_reasons"), batch.column("_stage")
    lengths = pc.list_value_length(reasons).fill_null(0).to_numpy()
    owner = np.repeat(np.arange(batch.num_rows), lengths)
    flat, stage = pc.list_flatten(reasons), stages.take(pa.array(owner, pa.int64()))
    short = pc.replace_substring_regex(flat, "(?s): .*", "")
    flat = pc.if_else(pc.equal(stage, pa.scalar("score")), short, flat)
    named = pc.binary_join_element_wise(stage, flat, ":")
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    why = cast("pa.Array[Any]", pc.binary_join(pa.ListArray.from_arrays(offsets, named), _BETWEEN))
    lost = np.flatnonzero(batch.column("_row").is_null().to_numpy(zero_copy_only=False))
    return why if not len(lost) else _with_lost(why, batch, lost)


def _with_lost(why: pa.Array[Any], batch: pa.RecordBatch, lost: np.ndarray[Any, Any]) -> pa.Array[Any]:
    """Files that were lost as a whole: few, one row each."""
    words = why.to_pylist()
    for place in lost.tolist():
        row = batch.slice(place, 1).to_pylist()[0]
        words[place] = f"{row['_stage']}:{BadFile(row['_source_file'], row['_stage'], row['_reasons'][0], row['_rows']).kind}"
    return pa.array(words, pa.string())


class _Tagged:
    """Which columns hold a person's data, by the configurations that are kept with the runs. None: nobody knows, so all may."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, set[str] | None] = {}

    def hides(self, column: str, run_id: str) -> bool:
        if run_id not in self._known:
            self._known[run_id] = self._read(run_id)
        tagged = self._known[run_id]
        return tagged is None or column in tagged

    def _read(self, run_id: str) -> set[str] | None:
        try:
            columns = yaml.safe_load(self._store.get(f"runs/{run_id}/config.yaml"))["contract"]["columns"]
            return {str(name) for name, rules in columns.items() if any(rules.get(tag) for tag in _TAGS)}
        except (MissingError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            return None


def _samples(store: Store, run_id: str, path: str, wanted: list[tuple[str, int]], tagged: _Tagged) -> Iterator[Sample]:
    """Only the row groups and columns that hold what is wanted are read."""
    if not wanted:
        return
    with pq.ParquetFile(store.open_file(path)) as parquet:
        names = parquet.schema_arrow.names
        ends = np.cumsum([parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)])
        by_group: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
        for rule, place in wanted:
            group = int(np.searchsorted(ends, place, side="right"))
            by_group[group].append((rule, place - int(ends[group - 1] if group else 0)))
        for group, rules in by_group.items():
            columns = {rule: _column(rule, names) for rule, _ in rules}
            table = parquet.read_row_group(group, [*{c for c in columns.values() if c}, "_source_file", "_row", "_run_id"])
            for rule, place in rules:
                row = table.slice(place, 1).to_pylist()[0]
                column, hidden = columns[rule], False
                if column:
                    hidden = any(tagged.hides(column, one) for one in {row["_run_id"], run_id})
                value = "" if column is None else shown(row[column], hidden)
                yield Sample(rule, row["_source_file"], row["_row"], value)


def _column(rule: str, names: list[str]) -> str | None:
    """The column that a rule is about: "admit:amount:range" is about amount."""
    stage, _, rest = rule.partition(":")
    name = rest.rpartition(":")[0]
    return name if stage == "admit" and name in names else None


def shown(value: Any, hidden: bool = False) -> str:
    """A value that broke a rule, as far as it may be seen.

    Shown as they are: null, truth values, floats, whole numbers of up to six digits, dates, and texts that mean nothing or look
    like a number of up to six digits ("12,5", " 7", "N/A", "1e400"). All else, and all of a `hidden` column, is shown by its shape:
    "a" for a letter, "9" for a digit, at most 24 characters. Of a hidden value that is no text, only its type.
    """
    if value is None:
        return "null"
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value)
        harmless = _NOTHING.fullmatch(text) or (_NUMBER.fullmatch(text) and sum(map(str.isdigit, text)) <= _MOST_DIGITS)
        return repr(value) if harmless and not hidden else f"{type(value).__name__} like {_shape(text)}"
    if hidden or isinstance(value, (bytes, list, dict)):
        return f"a {type(value).__name__}"
    return str(value)


def _shape(text: str) -> str:
    shape = "".join("9" if c.isdigit() else "a" if c.isalpha() else c if c.isprintable() else "?" for c in text[:_LONGEST])
    return repr(shape + ("…" if len(text) > _LONGEST else ""))


def command(given: Given) -> tuple[QuarantineRecord, int]:
    found = quarantine(given.needed("workspace"), given.get("partition"), given.get("run"), given.number("samples", 3))
    return found, 0


def render(found: QuarantineRecord) -> str:
    lines = [f"{found.rows:,} rows in quarantine"]
    for title, counts in (("by rule", found.reasons), ("broken together", found.pairs), ("by file", found.files)):
        lines += [f"{title}:"] if counts else []
        ordered = sorted(counts.items(), key=lambda c: (-c[1], c[0]))
        lines += [f"  {f'{n:,}' if n else 'unknown':>12}  {clean(name)}" for name, n in ordered[:_SHOWN]]
        lines += [f"  and {len(ordered) - _SHOWN:,} more; --json has them all"] if len(ordered) > _SHOWN else []
    lines += ["for example:"] if found.samples else []
    for one in found.samples:
        where = clean(one.file) + ("" if one.row is None else f" row {one.row:,}")
        lines.append(f"  {clean(one.rule)}: {clean(one.value)}{' in ' if one.value else ''}{where}")
    return "\n".join(lines)

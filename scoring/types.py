"""What flows: the records that pass from room to room and from process to process.

All are frozen, small and plain (str, int, float, tuple, dict), so that they pickle fast and write as JSON without help. Rows never
travel in them: a Slice names rows, a Receipt counts them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

Outcome = Literal["scored", "quarantined", "suppressed"]
Route = Literal["gpu", "gpu-smaller-batch", "cpu", "backup-model"]
Stage = Literal["plan", "read", "admit", "score"]
MARKS = ("_source_file", "_row", "_rows", "_stage", "_reasons", "_run_id")  # columns that the quarantine adds to raw ones
_LOSSES = {"read": "unreadable", "admit": "missing-columns"}  # what planning finds says itself: "unreadable: …", "duplicate of …"
Status = Literal["published", "published-with-warnings", "held", "paused", "failed", "refused", "skipped"]


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks: the form that digests are taken of. A record counts as the dict of its fields."""
    return _CANONICAL.encode(value).encode()


def _fields(value: Any) -> dict[str, Any]:
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return vars(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_fields)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a plain value."""
    return hashlib.sha256(canonical(value)).hexdigest()


@dataclass(frozen=True)
class Interval:
    """Half-open [start, end) in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class File:
    """One input file as it was when listed. `version` changes when the content may have (size and mtime_ns, or an ETag); `content`
    is its SHA-256 where files are told apart by that.
    """

    path: str
    size: int
    version: str
    content: str = ""


@dataclass(frozen=True)
class Fragment:
    """Rows of one file: the row groups (record batches) [start, stop), or the whole file when `groups` is None.

    `first_row` is the position in the file of the first row. `rows` is None where only reading tells (CSV, JSON Lines).
    """

    path: str
    version: str
    groups: tuple[int, int] | None
    first_row: int
    rows: int | None
    bytes: int

    @property
    def identity(self) -> tuple[Any, ...]:
        """What says which rows these are."""
        return self.path, self.version, self.groups


@dataclass(frozen=True)
class Slice:
    """The unit of work, retry and resume. All fragments have one physical schema.

    `fault` is set where planning already knows that a file cannot be scored ("unreadable: …", "duplicate of …"): the lane then
    reads nothing and names the file in the quarantine. `absent` holds the columns to carry that the files lack, with the types that
    other files of the partition have them in, as `sources.carried` writes it; "": none.
    """

    partition: str
    fragments: tuple[Fragment, ...]
    fault: str | None = None
    absent: str = ""

    @cached_property
    def id(self) -> str:
        """Digest of what the rows are, never of position, rank or order of arrival (first 32 hex of SHA-256); made once."""
        content = ascii((self.partition, self.fault, [f.identity for f in self.fragments]))  # JSON takes three times as long
        return hashlib.sha256(content.encode("ascii")).hexdigest()[:32]

    @property
    def rows(self) -> int:
        """Rows that the footers promise; 0 where unknown."""
        return sum(f.rows or 0 for f in self.fragments)

    @property
    def bytes(self) -> int:
        return sum(f.bytes for f in self.fragments)


@dataclass(frozen=True)
class Partition:
    """The unit of publication. `key` is the output folder ("date=2026-01-01", nested with "/"), or "all" without Hive keys."""

    key: str
    files: tuple[File, ...]

    @property
    def input_digest(self) -> str:
        """What the partition was made of: changes when a file comes, goes or is rewritten."""
        return digest(sorted([f.path, f.content or f.version] for f in self.files))


@dataclass(frozen=True)
class Output:
    """What a model gives for each row: a float32 number, or, of more than one, a fixed-size list of `store`.

    int8: value = int8 * scale, and the float32 scales (largest magnitude / 127, 1.0 if all are 0) are the column `<name>_scale`.
    `labels`: the number is a place among them, and the column holds strings.
    """

    name: str
    width: int = 1
    store: Literal["float32", "float16", "int8"] = "float32"
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """The one verdict type: validation, budget, drift, approval."""

    name: str
    subject: str
    status: Literal["pass", "warn", "fail", "skip"]
    severity: Literal["warn", "error"]
    expected: str
    actual: str


@dataclass(frozen=True)
class Counts:
    """Rows by outcome. A commutative monoid under +."""

    scored: int = 0
    quarantined: int = 0
    suppressed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.scored + other.scored, self.quarantined + other.quarantined, self.suppressed + other.suppressed)

    @property
    def total(self) -> int:
        return self.scored + self.quarantined + self.suppressed


@dataclass(frozen=True)
class BadFile:
    """A file, or some row groups of it, that could not be scored as a whole. `rows` is 0 where nobody can know them."""

    path: str
    stage: Stage
    reason: str
    rows: int

    @property
    def kind(self) -> str:
        """The reason as a word that can be counted: reasons name paths and readers' messages."""
        return _LOSSES.get(self.stage) or self.reason.split()[0].rstrip(":")


@dataclass(frozen=True)
class Absence:
    """Scored rows in which a column to carry is null because their file lacks it; `file` is one of those files."""

    rows: int
    file: str

    def __add__(self, other: Absence) -> Absence:
        return Absence(self.rows + other.rows, self.file)


@dataclass(frozen=True)
class StagedFile:
    """An immutable file in the workspace. `key` is relative to the workspace root; `stamp` is the store's of a scored file that was
    found, "" where nobody looked.
    """

    key: str
    rows: int
    bytes: int
    sha256: str
    stamp: str = ""


@dataclass(frozen=True)
class Findings:
    """What the contract found in one slice beside rows at fault; merged at the gate.

    `warned` counts rows by rule, `columns` names columns by "extra" and "widened", `newest` is the newest value of the time column
    (microseconds since 1970, UTC), `keys` the sorted keys, `mix` how lost rows differ (`admit/mix.py` says how it is built).
    """

    warned: dict[str, int] = field(default_factory=dict)
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    newest: int | None = None
    keys: StagedFile | None = None
    mix: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Findings:
        """Raises: TypeError, KeyError."""
        columns = {kind: tuple(names) for kind, names in raw["columns"].items()}
        return cls(**raw | {"columns": columns, "keys": StagedFile(**raw["keys"]) if raw["keys"] else None})


@dataclass(frozen=True)
class Receipt:
    """What one attempt at a slice did. It stands in the footer of the staged file, whose existence makes it true.

    `reasons` counts quarantined rows by "stage:rule"; a row with two reasons counts under both. `seconds` is time by stage.
    `absent` names columns to carry that files lacked. `work` counts what models of texts say of their work (see `Encoded.work`).
    """

    slice_id: str
    partition: str
    attempt: str
    rows_in: int
    counts: Counts
    reasons: dict[str, int] = field(default_factory=dict)
    bad_files: tuple[BadFile, ...] = ()
    quarantine: tuple[StagedFile, ...] = ()
    routes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    device: str = ""
    notes: tuple[str, ...] = ()
    scores: StagedFile | None = None  # set by whoever found the file: a file cannot hold its own digest
    absent: dict[str, Absence] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)  # Summary.plain of scoring/watch/, empty where nothing is watched
    found: Findings = Findings()
    people: str = ""  # digest of the list of erased people under which the rows were scored
    work: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows_in != self.counts.total:
            raise AssertionError(
                f"Slice {self.slice_id}: {self.rows_in} rows in, {self.counts.total} accounted for. This is a bug."
            )

    def to_json(self) -> str:
        return canonical(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Receipt:
        """As `from_plain`. Raises: ValueError, too."""
        return cls.from_plain(json.loads(text if isinstance(text, str) else text.decode()))  # json would guess, which takes as long

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Receipt:
        """Fields that have a default may be left out. Raises: ValueError, TypeError or KeyError when it is no receipt."""
        return cls(**{name: _PARTS[name](value) if name in _PARTS else value for name, value in dict(raw).items()})


_PARTS: dict[str, Callable[[Any], Any]] = {
    "counts": lambda raw: Counts(**raw),
    "bad_files": lambda raw: tuple(BadFile(**b) for b in raw),
    "quarantine": lambda raw: tuple(StagedFile(**q) for q in raw),
    "notes": tuple,
    "scores": lambda raw: StagedFile(**raw) if raw else None,
    "absent": lambda raw: {name: Absence(**a) for name, a in raw.items()},
    "found": Findings.from_plain,
}
FailureKind = Literal["input", "disk", "store", "model", "memory", "device-sticky", "device-lost", "bug"]


@dataclass(frozen=True)
class Failure:
    """A slice that a lane could not finish, as a record: exceptions do not cross processes (reliability note, decision 5)."""

    slice_id: str
    attempt: str
    kind: FailureKind
    message: str
    lane_usable: bool = True  # False: the process must be replaced (a sticky CUDA error poisons every later call)


@dataclass(frozen=True)
class PartitionRecord:
    key: str
    status: Status
    rows: dict[str, int]
    checks: tuple[Check, ...] = ()
    version: int = 0


@dataclass(frozen=True)
class Cost:
    """Whom a rule costs: `rows` were lost by it; the share of `value` in `column` among them, and among all rows (an estimate)."""

    rule: str
    rows: int
    column: str
    value: str
    share_lost: float
    share_all: float


@dataclass(frozen=True)
class RunRecord:
    """The account of a run; `record.json`. Everything that is told about a run is rendered from this and the ledger."""

    run_id: str
    status: Status
    rows: dict[str, int]
    partitions: tuple[PartitionRecord, ...]
    rates: dict[str, float]
    stages: dict[str, float]
    routes: dict[str, int]
    devices: dict[str, int]
    environment: dict[str, str]
    reasons: dict[str, int] = field(default_factory=dict)
    bad_files: tuple[BadFile, ...] = ()
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    model: dict[str, str] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    message: str = ""
    warned: dict[str, int] = field(default_factory=dict)  # rows that were scored and break a rule of level warn
    costs: tuple[Cost, ...] = ()
    cause: str = ""  # the failure kind that ended the run, if one did
    ledger: dict[str, Any] = field(default_factory=dict)  # {seq, hash}: the ledger's newest entry when this was written
    work: dict[str, int] = field(default_factory=dict)  # of all receipts
    energy: dict[str, Any] = field(default_factory=dict)  # what EnergyMeter of engine/energy.py read
    estimate: dict[str, float] = field(default_factory=dict)  # {rows_per_second, seconds, off} by the hardware profile, if it knows

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True)

"""One frozen settings class per conf group; `build` turns a plain dict into them, or says in one line what is wrong.

Plain dataclasses, so that lanes and bare GPU machines need no pydantic; pydantic checks them once, on the driver, in `build`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_type_hints

from scoring.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Csv:
    """How to cut text into fields. Values stay text here; the contract decides what they mean."""

    delimiter: str = ","
    quote: str = '"'
    header: bool = True
    names: tuple[str, ...] = ()  # column names where the file has no header line
    null_values: tuple[str, ...] = ("",)
    strip: bool = False  # remove blanks around every field
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Source:
    """Where rows come from. `path` is a file, a folder, or a glob; folders named key=value are Hive partitions."""

    kind: str
    path: str
    carry: tuple[str, ...] = ()  # columns copied to the output untouched
    slice_rows: int = 500_000  # target; a slice is at least one row group
    hive: bool = True
    duplicates: Literal["quarantine", "keep"] = "quarantine"
    csv: Csv = Csv()


@dataclass(frozen=True)
class Model:
    """`bundle` is a folder. `module` is "package.module:Class" for the module family: code is named here, never by the bundle."""

    bundle: str
    module: str | None = None


@dataclass(frozen=True)
class Hardware:
    device: Literal["auto", "cpu", "cuda", "simulated"] = "auto"
    gpus_per_lane: float = 1.0
    cpus_per_lane: int = 1
    memory_per_lane_gb: float = 1.5  # host memory a lane may need; the plan is refused when lanes do not fit
    simulated_rows: int = 0  # the simulated device runs out of memory above this many rows in a batch; 0 = never


@dataclass(frozen=True)
class Batch:
    """Cost is rows for tabular models. `budget` None: probe, climb while it pays, remember."""

    budget: int | None = None
    floor: int = 1
    ceiling: int = 1 << 20


@dataclass(frozen=True)
class Fallback:
    """The ladder: smaller batch, then CPU, then stop with the state kept."""

    kernel: Literal["auto", "reference"] = "auto"
    batch: bool = True
    cpu: Literal["batch", "lane", "never"] = "batch"
    gpu_lost: Literal["cpu", "wait", "pause"] = "cpu"
    gpu_wait_s: float = 600.0
    max_share: float = 1.0  # of a partition's rows that a fallback route may answer before the partition is held


@dataclass(frozen=True)
class Retry:
    attempts: int = 4  # per slice
    budget_share: float = 0.10  # of all slices, plus budget_extra: beyond it the run stops
    budget_extra: int = 20
    call_deadline_s: float = 900.0
    start_deadline_s: float = 180.0
    backoff_s: float = 0.5
    backoff_cap_s: float = 20.0
    grace_s: float = 15.0  # to finish the slice in hand after Ctrl-C or SIGTERM


@dataclass(frozen=True)
class Fault:
    """A fault to inject (tests and drills only). `site` names a place in the code, `slice_nth` counts slices of one lane from 0."""

    site: str
    kind: Literal["kill", "oom", "sticky", "lost", "raise", "disk-full", "hang"]
    slice_nth: int | None = None
    rows_over: int = 0
    once: str | None = None  # path of a marker file: the fault strikes only if it can create it


@dataclass(frozen=True)
class Engine:
    kind: Literal["ray", "inline"] = "ray"
    lanes: int | None = None  # None: one per GPU, or one per CPU share
    in_flight: int = 2  # slices handed to a lane at once
    window_rows: int = 65_536  # rows read, admitted and encoded together
    address: str = "local"
    batch: Batch = Batch()
    fallback: Fallback = Fallback()
    retry: Retry = Retry()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Column:
    """What a value must be. `min` and `max` are inclusive. `dtype` is an Arrow name: float32, int64, string, bool, date32, …"""

    dtype: str
    nullable: bool = True
    min: float | None = None
    max: float | None = None
    allowed: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Contract:
    """Rules on top of the bundle's input schema; a column named here replaces the bundle's."""

    columns: dict[str, Column] = field(default_factory=dict)
    coerce: bool = True  # lossless text-to-number only: "12.5" yes; "12,5", " 7", "N/A", "1e400" never


@dataclass(frozen=True)
class Sink:
    compression: Literal["none", "snappy", "zstd", "lz4"] = "snappy"
    row_group_rows: int = 500_000


@dataclass(frozen=True)
class Release:
    """When a partition may go out. A limit of None does not bind."""

    max_bad_rows: int | None = None
    max_bad_share: float | None = 0.05
    max_bad_files: int | None = None
    on_change: Literal["refuse", "rescore"] = "refuse"


@dataclass(frozen=True)
class Job:
    workspace: str
    source: Source
    model: Model
    run_id: str | None = None
    hardware: Hardware = Hardware()
    engine: Engine = Engine()
    contract: Contract = Contract()
    sink: Sink = Sink()
    release: Release = Release()


def build(cls: type[T], data: dict[str, Any], where: str = "") -> T:
    """Check a plain dict against a settings class.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, or a wrong type, named by its full path.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    _refuse_unknown(cls, data, where)
    try:
        return TypeAdapter(with_config(ConfigDict(extra="forbid"))(cls)).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(p) for p in (*([where] if where else ()), *first["loc"]))
        found = "" if first["type"] == "missing" else f" Found: {first['input']!r}."
        raise ConfigError(f"{path}: {first['msg'].rstrip('.')}.{found}") from None


def _refuse_unknown(cls: type, data: dict[str, Any], where: str) -> None:
    hints = get_type_hints(cls)
    known = {f.name: hints[f.name] for f in fields(cls)}
    for key, value in data.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
            raise ConfigError(f"{path} is not a setting.{hint}")
        if is_dataclass(known[key]) and isinstance(value, dict):
            _refuse_unknown(known[key], value, path)

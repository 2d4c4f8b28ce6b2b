"""One frozen settings class per conf group, and the job that holds them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from scoring.settings.checking import AtLeastNone, AtLeastOne, NotNegative, Positive, Share, Within
from scoring.settings.respond import Respond


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
class Ready:
    """When the files of a partition are all there. What is not ready is left for later; a rule of None binds nothing."""

    success_file: str | None = None  # in every folder of the partition: _SUCCESS
    watermark: str | None = None  # a text file with an ISO 8601 instant: what ends until then is complete
    min_rows: AtLeastNone | None = None  # that the footers of a partition promise
    max_age_hours: NotNegative | None = None  # the newest file may be so much older than the end of its interval, 0: not at all


@dataclass(frozen=True)
class Source:
    """Where rows come from. `path` is a file, a folder, or a glob; folders named key=value are Hive partitions."""

    kind: str
    path: str
    carry: tuple[str, ...] = ()  # columns copied to the output untouched; null where some files of a partition lack one
    slice_rows: AtLeastOne = 500_000  # target; a slice is at least one row group
    hive: bool = True
    duplicates: Literal["quarantine", "keep"] = "quarantine"
    fingerprint: Literal["stat", "content"] = "stat"  # what makes an input file another: its size and time, or its bytes
    ready: Ready = Ready()
    csv: Csv = Csv()


Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Model:
    """`bundle` is a folder. `module` is "package.module:Class" for the module family: code is named here, never by the bundle.
    `bundles` are further folders, among which a backfill finds models by version or by what was published. `precision` is what
    products are computed in; auto: float32, but bfloat16 for texts on a GPU.
    """

    bundle: str
    module: str | None = None
    bundles: tuple[str, ...] = ()
    precision: Precision = "auto"


@dataclass(frozen=True)
class Measured:
    """What `scoring bench` measured and saved with a hardware profile: rows per second of `lanes` lanes together, with the
    quartiles, for the model of digest `model` on `device`.
    """

    rows_per_second: Positive
    low: Positive
    high: Positive
    lanes: AtLeastOne
    start_seconds: NotNegative  # until the lanes are ready
    engine: Literal["ray", "inline"]
    device: str
    model: str
    date: str  # UTC, ISO 8601


@dataclass(frozen=True)
class Hardware:
    device: Literal["auto", "cpu", "cuda", "simulated"] = "auto"
    gpus_per_lane: Positive = 1.0
    cpus_per_lane: AtLeastOne = 1
    memory_per_lane_gb: Positive = 1.5  # host memory a lane may need; the plan is refused when lanes do not fit
    simulated_rows: AtLeastNone = (
        0  # the simulated device runs out of memory above this cost of a batch (rows or tokens); 0 = never
    )
    price_per_hour: NotNegative | None = None  # of a GPU, or of a core where lanes have none; None: the report says no cost
    measured: Measured | None = None  # by `scoring bench --save`: what `plan` estimates with


@dataclass(frozen=True)
class Batch:
    """Cost is rows, or tokens for models of texts. `budget` None: probe, climb while it pays, remember."""

    budget: AtLeastOne | None = None
    floor: AtLeastOne = 1
    ceiling: AtLeastOne = 1 << 20


@dataclass(frozen=True)
class Fallback:
    """The ladder: torch in place of a kernel that fails (`kernel: reference`: from the start), smaller batch, CPU, then stop with
    the state kept.
    """

    kernel: Literal["auto", "reference"] = "auto"
    batch: bool = True
    cpu: Literal["batch", "lane", "never"] = "batch"
    gpu_lost: Literal["cpu", "wait", "pause"] = "cpu"
    gpu_wait_s: NotNegative = 600.0
    max_share: Share = 1.0  # of a partition's rows that a fallback route may answer before the partition is held


@dataclass(frozen=True)
class Retry:
    attempts: AtLeastOne = 4  # per slice
    budget_share: NotNegative = 0.10  # of all slices, plus budget_extra: beyond it the run stops
    budget_extra: AtLeastNone = 20
    call_deadline_s: Positive = 900.0
    start_deadline_s: Positive = 180.0
    backoff_s: NotNegative = 0.5
    backoff_cap_s: NotNegative = 20.0
    grace_s: NotNegative = 15.0  # to finish the slice in hand after Ctrl-C or SIGTERM


@dataclass(frozen=True)
class Fault:
    """A fault to inject (tests and drills only). `site` names a place in the code, `slice_nth` counts slices of one lane from 0;
    smaller batches than `rows_over` (rows, or different texts) are spared.
    """

    site: str
    kind: Literal["kill", "oom", "sticky", "lost", "kernel", "raise", "disk-full", "hang"]
    slice_nth: AtLeastNone | None = None
    rows_over: AtLeastNone = 0
    once: str | None = None  # path of a marker file: the fault strikes only if it can create it


@dataclass(frozen=True)
class Engine:
    kind: Literal["ray", "inline"] = "ray"
    lanes: AtLeastOne | None = None  # None: one per GPU, or one per CPU share
    in_flight: AtLeastOne = 2  # slices handed to a lane at once
    window_rows: AtLeastOne = 65_536  # rows read, admitted and encoded together; fewer where outputs are vectors
    address: str = "local"
    metrics_port: Annotated[int, Within(1, 65535)] | None = None  # of live metrics of a private Ray, for Prometheus
    batch: Batch = Batch()
    fallback: Fallback = Fallback()
    retry: Retry = Retry()
    faults: tuple[Fault, ...] = ()


Level = Literal["error", "warn"]


@dataclass(frozen=True)
class Column:
    """What a value must be. `min` and `max` are inclusive. `dtype` is an Arrow name: float32, int64, string, bool, date32, …

    `pii` says that it is personal data; then `treatment` says what becomes of it in everything that leaves the run. `level` warn
    scores a row that breaks null, range, allowed or pattern, and counts it; what has no value (type, nan) cannot be.
    """

    dtype: str
    nullable: bool = True
    min: float | None = None
    max: float | None = None
    allowed: tuple[Any, ...] | None = None
    pattern: str | None = None  # regular expression (Rust syntax) that the whole text has to match
    role: Literal["id", "feature", "carry", "time"] | None = None
    level: Level = "error"
    pii: Literal["direct", "quasi", "sensitive"] | None = None
    treatment: Literal["pseudonymise", "mask", "generalise", "drop", "pass"] | None = None
    purpose: str | None = None  # pseudonyms of different purposes cannot be joined
    keep_last: AtLeastNone = 0  # mask: characters at the end that stay
    width: Positive | None = None  # generalise a number: to the lower end of its interval of this width
    unit: Literal["year", "month", "day"] | None = None  # generalise a date or time: to the first instant of its year, …
    retention_days: AtLeastOne | None = None  # a partition dated longer ago gets a warning


@dataclass(frozen=True)
class Privacy:
    """Who a row is about, and the key of pseudonyms. The key itself comes from the environment only, at least 32 bytes as hex or
    base64; older keys follow as "id:key", separated by commas, so that pseudonyms made with them are still recognised.
    """

    key_env: str = "SCORING_PRIVACY_KEY"
    key_id: str = "k1"
    subject: str | None = None  # the column that identifies the person
    suppress: str | None = None  # text file, one id or pseudonym a line: people who are not to be scored


@dataclass(frozen=True)
class RowRule:
    """What must hold in every row, across columns: SQL as Polars reads it. NULL passes, as in a CHECK of SQL."""

    sql: str
    level: Level = "error"


@dataclass(frozen=True)
class Limit:
    """Beyond so many rows, or such a share of them: error holds the partition, warn says so. None binds nothing."""

    rows: AtLeastNone | None = None
    share: Share | None = None
    level: Level = "error"


@dataclass(frozen=True)
class Contract:
    """Rules on top of the bundle's own; a column or rule named here replaces the bundle's.

    `limits` by name: "amount:range" or "rule:…" as reasons are written, "total", and the names of the rules on whole partitions:
    "unique", "min_rows", "max_rows", "freshness", "schema:missing", "schema:extra", "schema:widened".
    """

    columns: dict[str, Column] = field(default_factory=dict)
    rules: dict[str, RowRule] = field(default_factory=dict)
    limits: dict[str, Limit] = field(default_factory=dict)
    unique: tuple[str, ...] = ()  # columns that together are a key within the partition
    min_rows: AtLeastNone | None = None  # that were read, of a partition
    max_rows: AtLeastNone | None = None
    freshness_hours: Positive | None = None  # from the newest value of the column of role time to the end of the day, or to now
    coerce: bool = True  # lossless text-to-number only: "12.5" yes; "12,5", " 7", "N/A", "1e400" never
    privacy: Privacy = Privacy()


@dataclass(frozen=True)
class Sink:
    compression: Literal["none", "snappy", "zstd", "lz4"] = "snappy"
    row_group_rows: AtLeastOne = 500_000


WATCHED = ("drift", "score_drift", "null_rate", "quarantine_mix", "history")  # the checks of scoring/watch/


@dataclass(frozen=True)
class Release:
    """When a partition may go out. A limit of None does not bind. `policy` says what a finding of a check, named by the beginning
    of its name, leads to; a check that it does not name decides by its own severity.
    """

    max_bad_rows: AtLeastNone | None = None
    max_bad_share: Share | None = 0.05
    max_bad_files: AtLeastNone | None = None
    on_change: Literal["refuse", "rescore"] = "refuse"
    policy: dict[str, Literal["ignore", "warn", "hold"]] = field(default_factory=lambda: dict.fromkeys(WATCHED, "warn"))


@dataclass(frozen=True)
class Watch:
    """What the data look like, beside the baseline and what was published before. `moved`, PSI: `scoring/watch/drift.py`."""

    enabled: bool = True
    baseline: str | None = None  # a file; None: the bundle's baseline.json, if it has one
    require_baseline: bool = False
    columns: tuple[str, ...] | None = None  # None: all that the model reads
    segments: tuple[str, ...] = ()  # columns of categories: drift is also judged within each of their larger values
    alpha: Share = 0.01  # false alarms: share of partitions without drift that get one
    min_rows: AtLeastOne = 100
    moved: Share = 0.02
    psi_warn: NotNegative = 0.1
    psi_error: NotNegative = 0.25
    nulls: Share = 0.02  # floor for null rates and for the share of each reason in the quarantine
    history: AtLeastNone = 14  # published partitions to look back at; 0 = none
    history_least: Annotated[int, Within(3)] = 7  # fewer than these: skip
    history_z: Positive = 6.0


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
    watch: Watch = Watch()
    respond: Respond = field(default_factory=Respond)

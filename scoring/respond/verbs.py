"""The verbs of the command line and the words each takes; what a verb does stands in the file of its name in `jobs`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """`places` are said without a name, in this order; `words` as name=value or --name value; `switches` as --name.

    A `job` takes Hydra's groups and overrides, beside its words; `again` are verbs that take the settings of a run that was. `file`
    is where it stands in `jobs`, if not under its own name. `several` are words that may be said more than once. A verb that
    `stays` goes on until it is ended.
    """

    said: str
    places: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    job: bool = False
    again: bool = False
    file: str = ""
    several: tuple[str, ...] = ()
    stays: bool = False


VERBS = {
    "run": Verb("score what is not scored yet and publish it", job=True),
    "plan": Verb("say what a run would do, without doing it", job=True),
    "backfill": Verb(
        "score the days or hours of a range that are missing, failed or stale; --dry-run shows a calendar",
        words=("start", "end", "grain", "which", "order", "max_partitions", "max_cost", "timezone", "model"),
        switches=("dry-run",),
        job=True,
    ),
    "bench": Verb(
        "measure configurations beside each other on a sample, and say which to choose",
        words=("rows", "seconds", "repeats", "save", "out"),
        job=True,
    ),
    "doctor": Verb("say what this machine offers and what a run would use", words=("workspace", "store")),
    "verify": Verb("check that what was published is still what was published", words=("workspace",)),
    "quarantine": Verb(
        "show quarantined rows by rule and file, what breaks together, and samples",
        words=("workspace", "partition", "run", "samples"),
    ),
    "report": Verb(
        "make the report of a run again; --compare OTHER RUN sets two runs side by side", ("run",), ("workspace", "compare", "out")
    ),
    "alerts": Verb("show what fires, since when, who takes care of it, and which rules nobody acts on", words=("workspace",)),
    "alerts ack": Verb(
        "acknowledge an alert: it is not sent again while it fires",
        places=("fingerprint",),
        words=("workspace", "reason", "by"),
        file="alerts_ack",
    ),
    "replay": Verb(
        "score a sample of published rows again, and say what differs and why",
        ("run",),
        ("workspace", "sample", "partition", "bundle"),
        again=True,
    ),
    "ui": Verb(
        "show workspaces in a browser, while runs go on: runs, progress, partitions, drift, quarantine, ledger",
        words=("workspace", "host", "port", "token_env", "name"),
        several=("workspace",),
        stays=True,
    ),
    "baseline": Verb(
        "count what the training rows and their scores look like, for drift",
        ("PATH",),
        ("bundle", "source", "out", "module", "segments"),
    ),
    "release-held": Verb(
        "publish a partition that a gate held, or drop it",
        places=("run", "partition"),
        words=("workspace", "reason"),
        switches=("discard",),
    ),
    "requeue": Verb(
        "judge quarantined rows again under a mended contract, and publish what is good now",
        words=("partition", "run", "reason"),
        job=True,
    ),
    "erase": Verb(
        "take a person out of everything, for good; subject=- reads the id from standard input",
        words=("workspace", "subject", "reason", "column", "datasets"),
    ),
    "contract infer": Verb(
        "write a first contract from a sample of data", places=("path",), words=("source", "out", "rows"), file="contract_infer"
    ),
    "contract check": Verb(
        "try a contract on data without scoring", places=("path",), words=("contract", "source"), file="contract_check"
    ),
    "models import-text": Verb(
        "make a text bundle of a Hugging Face or sentence-transformers folder",
        ("path",),
        ("out", "name", "version", "text", "query", "null", "overlong", "max_length", "store", "prompt", "task"),
        file="import_text",
    ),
    "models import-forest": Verb(
        "make a forest bundle of a model that XGBoost, LightGBM or scikit-learn (with skops) saved",
        ("path",),
        ("out", "name", "version", "sample", "expected", "margin", "explain", "contributions", "classes"),
        file="import_forest",
    ),
    "demo-data": Verb("make the data and the model of the demo", words=("out", "rows", "seed"), file="demo"),
}


def named(arguments: list[str]) -> tuple[str, list[str]]:
    """The verb, which may be of two words ("contract check"), and the rest."""
    two = " ".join(arguments[:2])
    if two in VERBS:
        return two, arguments[2:]
    return (arguments[0], arguments[1:]) if arguments else ("", [])


def form(verb: str) -> str:
    """How a verb without Hydra is said: "release-held RUN PARTITION workspace=… [--discard]"."""
    one = VERBS[verb]
    words_said = [f"{w}=…{f' [{w}=…]' if w in one.several else ''}" for w in one.words]
    words = [*map(str.upper, one.places), *words_said, *(f"[--{s}]" for s in one.switches)]
    return " ".join([verb, *words])

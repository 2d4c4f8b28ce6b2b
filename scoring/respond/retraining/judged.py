"""What a run says of each partition: did it drift, is its feed broken. Pure, from checks and findings that stand on record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from scoring.respond.manual import clean
from scoring.respond.story import Story, Told
from scoring.watch.summary import WHOLE
from scoring.watch.tables import window

_DRIFT = ("drift", "score_drift")
_BROKEN_IF_FAILED = ("contract:*", "readable", "bad_rows", "bad_share", "carried_columns", "conservation")
_BROKEN_IF_FOUND = ("bad_files", "not_empty")  # a file that cannot be read is in no distribution: that it warns is enough
_BURST = ("null burst", "empty")
_MOST_REASONS = 20  # of a partition
_REMEMBERED = 500  # partitions


@dataclass(frozen=True)
class Verdict:
    """A partition as one run judged it; `start` and `end` are ISO 8601 in UTC, "" where its key names no day.

    `reasons` are Checks of drift beyond the threshold, `broken` those of a broken feed, `doubts` what may be one: more nulls come
    of a broken feed and of a world that changed. `model` is a digest, `rows` those scored.
    """

    key: str
    run_id: str
    when: str
    start: str
    end: str
    model: str
    rows: int
    drifted: bool
    reasons: tuple[Mapping[str, Any], ...] = ()
    broken: tuple[Mapping[str, Any], ...] = ()
    doubts: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, raw: Any) -> Verdict:
        """From JSON. Raises: TypeError, ValueError, KeyError, AttributeError: it is no verdict."""
        key, run_id, when, start, end, model = (str(raw[name]) for name in ("key", "run_id", "when", "start", "end", "model"))
        reasons, broken, doubts = (tuple(map(dict, raw[name])) for name in ("reasons", "broken", "doubts"))
        return cls(key, run_id, when, start, end, model, int(raw["rows"]), raw["drifted"] is True, reasons, broken, doubts)

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def name(self) -> str:
        """A partition that is judged again takes the place of what was said of it; one that names no day is another each time."""
        return self.key if self.start else f"{self.key} of {self.run_id}"


def judged(story: Story, when: str, threshold: float) -> list[Verdict]:
    """Of the partitions that could be judged, or are broken. Others say nothing."""
    model, run_id = str((story.record["model"] or {}).get("digest", "")), str(story.record["run_id"])
    found = []
    for partition in story.partitions:
        drift = [f for f in partition.findings if f["family"] in _DRIFT and f["slice"] == WHOLE and f["status"] != "skip"]
        broken = list(_broken(partition))
        if partition.status == "skipped" or not (drift or broken):
            continue
        moved = [f for f in drift if f["status"] in ("warn", "fail") and f["value"] >= threshold]
        start, end = (moment.isoformat() if moment else "" for moment in window(partition.key))
        given = (clean(partition.key), run_id, when, start, end, model, int(partition.rows["scored"]), bool(moved))
        doubts = list(_nulls(partition, "warn"))
        found.append(
            Verdict(*given, tuple(_reasons(partition, moved)), tuple(broken[:_MOST_REASONS]), tuple(doubts[:_MOST_REASONS]))
        )
    return found


def merged(before: Sequence[Verdict], now: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """In the order of the days that they name, those of one day and those without by when they were judged."""
    named = {v.name: v for v in (*before, *now)}
    ordered = sorted(named.values(), key=lambda v: (v.start or v.when, v.when, v.key))
    return tuple(ordered[-_REMEMBERED:])


def _reasons(partition: Told, moved: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """A Check for each finding, with what the finding knows beside."""
    for finding in sorted(moved, key=lambda f: -float(f["value"]))[:_MOST_REASONS]:
        said = next((c for c in partition.checks if (c["name"], c["subject"]) == (finding["family"], finding["column"])), None)
        beside = {"moved": float(finding["value"]), "psi": float(finding["psi"]), "cause": str(finding["cause"])}
        yield _plain(partition, said or _of(finding)) | beside


def _of(finding: Mapping[str, Any]) -> dict[str, Any]:
    """The policy may have said nothing of it."""
    words = {"name": finding["family"], "subject": finding["column"], "status": finding["status"], "severity": "warn"}
    return words | {"expected": f"moved < {finding['threshold']:.1%} of rows", "actual": f"{finding['value']:.1%} of rows moved"}


def _broken(partition: Told) -> Iterable[Mapping[str, Any]]:
    """Contract, volume, nulls and files: with a feed that is broken a model would learn the break."""
    for check in partition.checks:
        failed, found = check["status"] == "fail", check["status"] in ("warn", "fail")
        if (failed and _any(_BROKEN_IF_FAILED, check["name"])) or (found and _any(_BROKEN_IF_FOUND, check["name"])):
            yield _plain(partition, check)
    for finding in partition.findings:
        if finding["family"] == "history" and finding["column"] == "volume" and finding["status"] == "warn":  # it never fails
            yield _found(partition, finding)
    yield from _nulls(partition, "fail")


def _nulls(partition: Told, status: str) -> Iterable[Mapping[str, Any]]:
    for finding in partition.findings:
        burst = finding["family"] == "null_rate" and finding["cause"] in _BURST and finding["slice"] == WHOLE
        if burst and finding["status"] == status:
            yield _found(partition, finding)


def _found(partition: Told, finding: Mapping[str, Any]) -> dict[str, Any]:
    words = {"name": finding["family"], "subject": finding["column"], "status": finding["status"], "severity": "warn"}
    return _plain(partition, words | {"expected": f"<= {finding['threshold']:.6g}", "actual": finding["words"]})


def _plain(partition: Told, check: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: clean(str(check[name])) for name in ("name", "subject", "status", "severity", "expected", "actual")}
    return {"partition": clean(partition.key), **kept}


def _any(globs: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)

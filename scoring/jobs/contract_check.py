"""A contract tried on data: every row is admitted or not, as a run would, and nothing is scored or written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from scoring.admit import contracts, rows
from scoring.admit.noted import Noted
from scoring.admit.rules import MissingColumns, Rules, admit, compile_rules
from scoring.errors import ConfigError, SourceError
from scoring.jobs.arguments import Given
from scoring.jobs.sampling import source_of
from scoring.models.manifest import plain
from scoring.parts import part
from scoring.release.contract import contract_checks, together
from scoring.release.gate import checks, decide
from scoring.respond.manual import clean
from scoring.settings import Contract, Release, Source, build
from scoring.sinks.keys import repeated
from scoring.sources import slices
from scoring.sources.discover import discover
from scoring.types import BadFile, Check, Counts, Partition, Receipt, Slice

_SAMPLES, _WINDOW_ROWS = 5, 65_536


@dataclass
class Checked:
    """Rows by rule, and where the first of them stand ("file:row"); verdicts other than pass, by partition."""

    rows: int = 0
    good: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    warned: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


def command(given: Given) -> tuple[Checked, int]:
    """Raises: ConfigError: the contract cannot be. SourceError: nothing is there."""
    source, path = source_of(given), Path(given.needed("contract"))
    if not path.is_file():
        raise ConfigError(f"contract: there is no file {path}.")
    contract = build(Contract, plain(path.read_bytes(), str(path)), str(path))
    rules = compile_rules(contract.columns, contract.coerce, contract.rules)
    contracts.check(contract, rules)
    rows.prove(rules.rows)
    found = Checked()
    for partition in discover(source, part("sources", source.kind).SUFFIXES).partitions:
        _Partition(source, contract, rules, found).check(partition)
    return found, 65 if found.held else 0


class _Partition:
    """One partition on its way."""

    def __init__(self, source: Source, contract: Contract, rules: Rules, found: Checked) -> None:
        self._source, self._contract, self._rules, self._found = source, contract, rules, found
        self._keys: list[np.ndarray[Any, Any]] = []

    def check(self, partition: Partition) -> None:
        receipts = [self._slice(work) for work in slices.plan(partition, self._source)]
        keys = [k[:, None] if k.ndim == 1 else k for k in self._keys if len(k)]
        twice = repeated(np.concatenate(keys)) if keys else 0
        counts = sum((receipt.counts for receipt in receipts), Counts())
        lost = [bad for receipt in receipts for bad in receipt.bad_files]
        asked = together(receipts), twice if self._contract.unique else None, datetime.now(UTC)
        verdicts = [
            *checks(partition.key, counts, lost, 0, Release(), 1.0),
            *contract_checks(partition.key, self._contract, *asked),
        ]
        self._found.checks += [c for c in verdicts if c.status in ("warn", "fail") or c.name.startswith("contract:schema")]
        if decide(verdicts) == "held":
            self._found.held.append(partition.key)

    def _slice(self, work: Slice) -> Receipt:
        noted, reasons, lost = Noted(self._contract), Counter[str](), list[BadFile]()
        good = bad = 0
        if work.fault:
            lost = [BadFile(f.path, "plan", work.fault, f.rows or 0) for f in work.fragments]
        for fragment in () if work.fault else work.fragments:
            try:
                for window in self._windows(fragment):
                    admitted = admit(window.batch, self._rules)
                    noted.add(window.batch, window.positions, window.ignored, admitted, self._rules)
                    good, bad = good + admitted.good.num_rows, bad + len(admitted.bad) + len(window.rejected)
                    told = [*admitted.reasons, *((line.reason,) for line in window.rejected)]
                    places = [*window.positions[admitted.bad].tolist(), *(line.row for line in window.rejected)]
                    reasons.update(self._note(fragment.path, places, told))
            except MissingColumns as error:
                lost.append(BadFile(fragment.path, "admit", str(error), fragment.rows or 0))
            except SourceError as error:
                lost.append(BadFile(fragment.path, "read", str(error), fragment.rows or 0))
        keys = noted.keys.finished()
        self._keys += [] if keys is None else [keys]
        counts = Counts(good, bad + sum(f.rows for f in lost))
        self._sum(counts, reasons, lost, noted)
        admitted_reasons = {f"admit:{name}": n for name, n in reasons.items()}
        facts = {"reasons": admitted_reasons, "bad_files": tuple(lost), "found": noted.findings()}
        return Receipt(work.id, work.partition, "", counts.total, counts, **facts)  # type: ignore[arg-type]

    def _windows(self, fragment: Any) -> Any:
        names = [rule.name for rule in self._rules.columns]
        return part("sources", self._source.kind).read(fragment, names, _WINDOW_ROWS, self._source)

    def _note(self, path: str, places: list[int], reasons: list[tuple[str, ...]]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for place, names in zip(places, reasons, strict=True):
            for name in names:
                counts[name] += 1
                samples = self._found.samples.setdefault(name, [])
                if len(samples) < _SAMPLES:
                    samples.append(f"{path}:{place}")
        return counts

    def _sum(self, counts: Counts, reasons: Counter[str], lost: list[BadFile], noted: Noted) -> None:
        found = self._found
        found.rows, found.good = found.rows + counts.total, found.good + counts.scored
        found.files += [f"{bad.path}: {bad.reason}" for bad in lost]
        for told, more in ((found.reasons, reasons), (found.warned, noted.findings().warned)):
            for name, count in more.items():
                told[name] = told.get(name, 0) + count


def render(found: Checked) -> str:
    lines = [f"{found.rows:,} rows: {found.good:,} good, {found.rows - found.good:,} at fault"]
    for title, counts in (("at fault, by rule:", found.reasons), ("warned, by rule:", found.warned)):
        ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        lines += [title] * bool(ordered)
        for name, count in ordered:
            lines.append(f"  {count:>12,}  {clean(name)}")
            lines += [
                f"  {'':12}    row {clean(place.rpartition(':')[2])} of {clean(place.rpartition(':')[0])}"
                for place in found.samples.get(name, ())
            ]
    lines += [f"file at fault: {clean(file)}" for file in found.files]
    lines += [f"{c.status}: {clean(c.subject)} {c.name}: {clean(c.actual)}, expected {c.expected}" for c in found.checks]
    held = f"{len(found.held)} partition(s) would be held: {', '.join(found.held[:10])}" if found.held else "nothing would be held"
    return "\n".join([*lines, held])

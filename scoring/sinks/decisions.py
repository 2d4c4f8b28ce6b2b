"""What was decided about a published version, as its manifest keeps it: scored again, let out though held, bad rows let in again.

Who decided is the user of the operating system; `decided` and `at` are UTC, ISO 8601.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Restated:
    """The partition was scored again, in place of version `replaces`. `why` names what had changed, nothing if nothing had."""

    at: str
    replaces: int
    why: tuple[str, ...]


@dataclass(frozen=True)
class Override:
    """A gate held this version, and a person published it. `failed` are the checks that held it: "name actual, expected …"."""

    actor: str
    reason: str
    decided: str
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Requeued:
    """Rows of the quarantine were judged again. `rows` = `scored` + `suppressed` + what is still bad.

    `contract` and `contract_before` are digests. `replaced` are the public names of the quarantine files that were read again.
    """

    run_id: str
    version: int
    actor: str
    reason: str
    decided: str
    contract_before: str
    contract: str
    rows: int
    scored: int
    suppressed: int
    replaced: tuple[str, ...]


def restated(raw: dict[str, Any] | None) -> Restated | None:
    """From JSON. Raises: TypeError, KeyError: something else."""
    return None if raw is None else Restated(**{**raw, "why": tuple(raw["why"])})


def override(raw: dict[str, Any] | None) -> Override | None:
    """From JSON. Raises: TypeError, KeyError: something else."""
    return None if raw is None else Override(**{**raw, "failed": tuple(raw["failed"])})


def requeues(raw: list[dict[str, Any]]) -> tuple[Requeued, ...]:
    """From JSON. Raises: TypeError, KeyError: something else."""
    return tuple(Requeued(**{**one, "replaced": tuple(one["replaced"])}) for one in raw)

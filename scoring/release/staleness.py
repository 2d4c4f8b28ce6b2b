"""How a partition stands beside what would be published now: missing, failed, stale and why, or fresh. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Which = Literal["missing", "failed", "stale", "all"]
Reason = Literal["model", "precision", "contract", "config", "code", "input"]
State = Literal["missing", "failed", "stale", "fresh", "gone", "empty"]
WHICH: tuple[Which, ...] = ("missing", "failed", "stale", "all")
_REASONS: dict[str, Reason] = {"model": "model", "contract": "contract", "source": "config"}
_REASONS |= {"precision": "precision", "format": "code", "code": "code"}
_ORDER: tuple[Reason, ...] = ("model", "precision", "contract", "config", "code", "input")


def differs(published: Mapping[str, str], published_input: str, wanted: Mapping[str, str], wanted_input: str) -> tuple[Reason, ...]:
    """Why a published partition is stale; empty: it is not. Identities are named parts, name -> digest."""
    found = {_REASONS.get(name, "code") for name in {*published, *wanted} if published.get(name) != wanted.get(name)}
    if published_input != wanted_input:
        found.add("input")
    return tuple(reason for reason in _ORDER if reason in found)


@dataclass(frozen=True)
class Standing:
    """`version` is the published one, 0 for none; `failed` how the last attempt ended since, "" if it did not fail; `has_input`
    whether there are files to score.
    """

    version: int
    why: tuple[Reason, ...] = ()
    failed: str = ""
    has_input: bool = True

    @property
    def state(self) -> State:
        if not self.has_input:
            return "gone" if self.version else "empty"
        if self.failed:
            return "failed"
        if not self.version:
            return "missing"
        return "stale" if self.why else "fresh"

    def due(self, which: Collection[Which]) -> bool:
        """Whether it belongs to what was asked for. `missing` are all without a publication, whatever the reason, so that saying a
        line again after a failure goes on; `failed` are those whose last attempt failed or was held, published before or not.
        """
        chosen = {
            "missing": not self.version,
            "failed": bool(self.failed),
            "stale": bool(self.version and self.why),
            "all": True,
        }
        return self.has_input and any(chosen[one] for one in which)

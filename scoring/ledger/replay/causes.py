"""What a difference between then and now is due to: what is recorded, what was exchanged and tried again, and what can only be
guessed.

A part is shown to be the cause by evidence of its own (the bytes that were published are others, carried values of the same rows
differ) or by exchange: with this part as it was, and all others as they are, the scores are those of then. It is likely if it is
the only part that is known to have changed, possible if it is one of several or was not recorded, and excluded if its digests agree
or the exchange changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Part = Literal["published file", "data", "model", "contract", "code", "environment", "device"]
State = Literal["same", "changed", "unknown"]
PARTS: tuple[Part, ...] = ("published file", "data", "model", "contract", "code", "environment", "device")


@dataclass(frozen=True)
class Fact:
    """Something that was recorded, beside what is found now."""

    part: Part
    name: str
    then: str
    now: str
    state: State


@dataclass(frozen=True)
class Outcome:
    """Rows of one comparison. `admitted` had a score then or now, and not both."""

    bit_equal: int = 0
    within: int = 0
    different: int = 0
    admitted: int = 0
    missing: int = 0

    @property
    def apart(self) -> int:
        return self.different + self.admitted + self.missing

    @property
    def perfect(self) -> bool:
        return not self.apart and not self.within


@dataclass(frozen=True)
class Swap:
    """The same rows with one part exchanged: `said` names what for what."""

    part: Part
    said: str
    outcome: Outcome


@dataclass(frozen=True)
class Cause:
    part: Part
    verdict: Literal["shown", "likely", "possible", "excluded"]
    why: str


def fact(part: Part, name: str, then: str, now: str) -> Fact:
    """`then` "": was not recorded."""
    return Fact(part, name, then, now, "unknown" if not then else "same" if then == now else "changed")


def causes(facts: Sequence[Fact], found: Outcome, carried: int, swaps: Sequence[Swap]) -> tuple[Cause, ...]:
    """Nothing where nothing differs. `carried` counts rows whose carried columns differ: these were copied, not computed."""
    if found.perfect:
        return ()
    judged = [_judge(part, [f for f in facts if f.part == part], found, carried, swaps) for part in PARTS]
    if explained := next((s for s in swaps if s.outcome.perfect), None):
        return tuple(_beside(cause, explained) for cause in judged)
    possible = [cause for cause in judged if cause.verdict == "possible"]
    changed = {f.part for f in facts if f.state == "changed"}
    alone = len(possible) == 1 and possible[0].part in changed and not any(cause.verdict == "shown" for cause in judged)
    return tuple(_likely(cause) if alone and cause in possible else cause for cause in judged)


def _likely(cause: Cause) -> Cause:
    return replace(cause, verdict="likely", why=f"{cause.why}; nothing else is known to have changed")


def _judge(part: Part, facts: Sequence[Fact], found: Outcome, carried: int, swaps: Sequence[Swap]) -> Cause:
    changed, unknown = (", ".join(f.name for f in facts if f.state == state) for state in ("changed", "unknown"))
    if part == "data" and carried:
        return Cause(part, "shown", f"columns that are copied, not computed, differ in {carried:,} rows")
    if part == "published file" and changed:
        return Cause(part, "shown", f"{changed}: not the bytes that the manifest names; see scoring verify")
    for swap in swaps:
        if swap.part == part and _helped(swap.outcome, found):
            return Cause(part, "shown", f"{swap.said}: {_said(swap.outcome)}")
        if swap.part == part and swap.outcome == found:
            return Cause(part, "excluded", f"{swap.said}: nothing changes")
    if changed:
        return Cause(part, "possible", f"changed: {changed}")
    if unknown or not facts:
        return Cause(part, "possible", f"not recorded: {unknown or 'anything of it'}")
    return Cause(part, "excluded", "the same as recorded")


def _helped(swapped: Outcome, found: Outcome) -> bool:
    """What was apart is so no longer; or, where all was within tolerance, it is bit-equal."""
    return not swapped.apart if found.apart else swapped.perfect


def _beside(cause: Cause, explained: Swap) -> Cause:
    """One exchange explains every bit: no other part has a share in it."""
    if cause.part == explained.part or cause.verdict == "excluded":
        return cause
    return Cause(cause.part, "excluded", f"{explained.said}: {_said(explained.outcome)}, whatever else changed")


def _said(outcome: Outcome) -> str:
    return "every row is bit-equal" if outcome.perfect else "every row is within tolerance"

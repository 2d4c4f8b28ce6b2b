"""What a dispatcher asks for, and how its run ended."""

from dataclasses import dataclass
from typing import Literal

from scoring.pool import Cause, LaneKind
from scoring.types import Receipt, Slice


@dataclass(frozen=True)
class StartLane:
    lane: int
    kind: LaneKind


@dataclass(frozen=True)
class KillLane:
    """Also for lanes that are said to be dead: nobody knows."""

    lane: int


@dataclass(frozen=True)
class Send:
    lane: int
    work: Slice
    attempt: str


@dataclass(frozen=True)
class Look:
    """Ask the store whether this slice is done, then call `looked` or `look_failed`."""

    work: Slice


@dataclass(frozen=True)
class Finished:
    """The slice is done; said once for each slice."""

    work: Slice
    receipt: Receipt


@dataclass(frozen=True)
class GiveUp:
    """The slice will not be done in this run. `attempts` were charged to it."""

    work: Slice
    cause: Cause
    message: str
    attempts: int


@dataclass(frozen=True)
class Note:
    """A decision that a person may want to read about; `event` is its name in the log."""

    text: str
    event: str


Action = StartLane | KillLane | Send | Look | Finished | GiveUp | Note
Ending = Literal["done", "stopped", "paused", "failed"]
Kind = Cause | Literal["signal", "start", "retry-budget", "crash-loop", ""]


@dataclass(frozen=True)
class Outcome:
    """How the run ended.

    `failed` names the slices that were given up, and why. `kind` is what ended the run, or why the first slice was given up: a
    cause, "signal" (asked to stop), "start" (no lane can start), "retry-budget", or "crash-loop" (lanes die and nothing is done).
    """

    ending: Ending
    message: str = ""
    kind: Kind = ""
    failed: tuple[tuple[Slice, str], ...] = ()

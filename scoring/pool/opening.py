"""Build a lane where it will live, and say in plain records what happens there: exceptions do not cross processes."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any, get_args

from scoring.deferred import put_off_pandas
from scoring.errors import ConfigError, ScoringError, StoreError, bug, unseen
from scoring.pool import Lane, LaneFactory, LaneKind
from scoring.types import Failure, FailureKind, Receipt, Slice


@dataclass(frozen=True)
class NotOpened:
    """Why a lane could not be built. `permanent`: so would be the next."""

    kind: FailureKind
    message: str
    permanent: bool


def open_lane(factory: LaneFactory, kind: LaneKind) -> Lane | NotOpened:
    put_off_pandas()
    try:
        return factory(kind)
    except Exception as error:
        return not_opened(error)


def not_opened(error: BaseException) -> NotOpened:
    """Classify by explicit table: what is not known to pass is permanent if it is about the job, and tried again if not.

    An exception may carry its own verdict as `kind`, one of FailureKind.
    """
    kind: Any = getattr(error, "kind", None)
    message = _line(error)
    if kind in get_args(FailureKind):
        return NotOpened(kind, message, kind == "model")
    if isinstance(error, ConfigError):
        return NotOpened("model", message, True)
    if isinstance(error, (MemoryError, StoreError, OSError)):
        return NotOpened("memory" if isinstance(error, MemoryError) else "store", message, False)
    return NotOpened("bug", message, not isinstance(error, (ScoringError, RuntimeError)))


def facts(lane: Lane) -> dict[str, str]:
    """What a lane says of itself, with the process it lives in."""
    pinned = {"cuda_visible_devices": os.environ["CUDA_VISIBLE_DEVICES"]} if "CUDA_VISIBLE_DEVICES" in os.environ else {}
    return pinned | {"pid": str(os.getpid()), "host": platform.node()} | lane.describe()


def process(lane: Lane, work: Slice, attempt: str) -> Receipt | Failure:
    """A lane never raises; if it does, that is a bug of ours and still a record."""
    try:
        return lane.process(work, attempt)
    except Exception as error:
        return Failure(work.id, attempt, "bug", unseen(error))


def _line(error: BaseException) -> str:
    return " ".join((str(error) if isinstance(error, ScoringError) else bug(error)).split())[:500]

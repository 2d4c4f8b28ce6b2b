"""Lanes as Ray actors: one process each, its GPU pinned and its cores counted by Ray. The only file that knows Ray.

max_restarts=0 and max_task_retries=0: the dispatcher replaces lanes, because only it asks the store first. Ray is closed by default:
a cluster of our own, token authentication, private folders, no dashboard, and GPUs hidden from lanes that asked for none.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from scoring.errors import ScoringError, TemporaryError
from scoring.pool import Died, Event, Lane, LaneFactory, LaneKind, Ready, Replied, StartFailed
from scoring.types import Failure, Receipt, Slice

_OBJECT_STORE_BYTES = 80 << 20  # slices and receipts are small; rows never pass through it
_CLOSE_S = 3.0


class LaneActor:
    """A lane in a process of its own. Ctrl-C in the terminal reaches the whole process group: the driver decides, not we."""

    def __init__(self, factory: LaneFactory, kind: LaneKind) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._lane: Lane = factory(kind)

    def describe(self) -> dict[str, str]:
        pinned = {"cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
        return self._lane.describe() | pinned | {"pid": str(os.getpid()), "node": ray.get_runtime_context().get_node_id()}

    def process(self, work: Slice, attempt: str) -> Receipt | Failure:
        return self._lane.process(work, attempt)


@dataclass(frozen=True)
class Share:
    """What a lane of each kind asks Ray for."""

    cpus: float
    gpus: float


class RayPool:
    """`start_s` is how long Ray took to start."""

    def __init__(self, factory: LaneFactory, shares: dict[LaneKind, Share], in_flight: int, address: str = "local") -> None:
        began = time.monotonic()
        self._factory, self._shares, self._in_flight = factory, shares, in_flight
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, tuple[int, str | None]] = {}  # reference -> (lane, attempt; None: the lane's start)
        self._folder = _connect(address, shares)
        self.start_s = time.monotonic() - began

    def start(self, lane: int, kind: LaneKind) -> None:
        share = self._shares[kind]
        actor = ray.remote(LaneActor).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=self._in_flight + 1,
        )
        self._actors[lane] = actor.remote(self._factory, kind)
        self._pending[self._actors[lane].describe.remote()] = (lane, None)

    def send(self, lane: int, work: Slice, attempt: str) -> None:
        self._pending[self._actors[lane].process.remote(work, attempt)] = (lane, attempt)

    def kill(self, lane: int) -> None:
        actor = self._actors.pop(lane, None)
        self._pending = {ref: owner for ref, owner in self._pending.items() if owner[0] != lane}
        if actor is not None:
            ray.kill(actor)

    def wait(self, timeout_s: float) -> list[Event]:
        if not self._pending:
            time.sleep(timeout_s)
            return []
        found, _ = ray.wait(list(self._pending), num_returns=1, timeout=timeout_s)
        if found:
            found, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        return [event for ref in found if (event := self._event(ref)) is not None]

    def close(self) -> None:
        """End the lanes and Ray; nothing is left behind."""
        for lane in list(self._actors):
            self.kill(lane)
        if self._folder is not None:
            ray.shutdown()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _event(self, ref: Any) -> Event | None:
        lane, attempt = self._pending.pop(ref, (0, None))
        if lane not in self._actors:
            return None
        try:
            answer = ray.get(ref, timeout=_CLOSE_S)
        except (RayError, GetTimeoutError, ScoringError, Exception) as error:
            return self._trouble(lane, attempt, error)
        return Ready(lane, answer) if attempt is None else Replied(lane, attempt, answer)

    def _trouble(self, lane: int, attempt: str | None, error: Exception) -> Event:
        """What an error from Ray means: the lane is gone, one way or another. A failed start that raised would raise again."""
        cause = _cause(error)
        if attempt is None:
            raised = isinstance(error, RayTaskError) or bool(getattr(error, "actor_init_failed", False))
            self.kill(lane)
            return StartFailed(lane, cause, permanent=raised)
        if not isinstance(error, (RayActorError, ActorUnavailableError, OutOfMemoryError)):
            cause = f"unexpected {type(error).__name__}: {cause}"
        self.kill(lane)
        return Died(lane, cause)


def _connect(address: str, shares: dict[LaneKind, Share]) -> str | None:
    """Start a private Ray and return its folder, or join the named cluster and return None.

    Raises:
        TemporaryError: Ray does not start or the cluster does not answer.
    """
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"  # without it, lanes that asked for no GPU see them all
    if ray.is_initialized():
        return None
    os.environ.pop("RAY_ADDRESS", None)
    try:
        if address != "local":
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            return None
        return _private()
    except (ConnectionError, RuntimeError, OSError, RayError) as error:
        raise TemporaryError(f"Ray at {address!r} does not answer: {str(error).splitlines()[0]}") from None


def _private() -> str:
    folder = tempfile.mkdtemp(prefix="scoring-")  # mode 0700; Ray makes its own folders world-writable inside it
    before = os.umask(0o077)
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            _temp_dir=folder,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
        )
    finally:
        os.umask(before)
    return folder


def _cause(error: Exception) -> str:
    """The innermost message, on one line."""
    inner = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:500]

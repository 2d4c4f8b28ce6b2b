"""Lanes as Ray actors: one process each, its GPU pinned and its cores counted by Ray. Beside `gauges.py` all that knows Ray.

max_restarts=0 and max_task_retries=0: the dispatcher replaces lanes, because only it asks the store first. Ray is closed by
default: a cluster of our own, token authentication, private folders, no dashboard, and GPUs hidden from lanes that asked for none.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from scoring.errors import TemporaryError
from scoring.log import Log, about
from scoring.pool import Died, Event, Lane, LaneFactory, LaneKind, Ready, Replied, StartFailed, private
from scoring.pool.gauges import Gauges
from scoring.pool.opening import NotOpened, facts, not_opened, open_lane, process
from scoring.types import Failure, Receipt, Slice

_OBJECT_STORE_BYTES = 80 << 20  # slices and receipts are small; rows never pass through it
_REPLY_S = 3.0  # to fetch an answer that is there
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_STEERING = (
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_START_HOOK",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
)
_TOKEN = secrets.token_hex(32)  # of every private Ray of this process: Ray reads it once

_log = Log("pool")


class LaneActor:
    """A lane in a process of its own. Ctrl-C in the terminal reaches the whole process group: the driver decides, not we.

    The factory comes as bytes, because unpickling it may import torch, which looks at the number of threads only then.
    """

    def __init__(self, number: int, kind: LaneKind, threads: int, umask: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.umask(umask)  # Ray was started under a stricter one; staged files are the user's
        os.environ.update({name: str(threads) for name in _THREADS})
        if kind == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._number, self._kind = number, kind
        self._lane: Lane | None = None

    def open(self, factory: bytes) -> dict[str, str] | NotOpened:
        try:
            build = cloudpickle.loads(factory)
        except Exception as error:
            return not_opened(error)
        with about(lane=self._number):
            lane = open_lane(build, self._kind)
        if isinstance(lane, NotOpened):
            return lane
        self._lane = lane
        return facts(lane) | {"node": ray.get_runtime_context().get_node_id()}

    def process(self, work: Slice, attempt: str) -> Receipt | Failure:
        if self._lane is None:
            return Failure(work.id, attempt, "bug", "a slice was sent to a lane that is not open", False)
        with about(lane=self._number):
            return process(self._lane, work, attempt)


@dataclass(frozen=True)
class Share:
    """What a lane of each kind asks Ray for; `cpus` is also its number of threads."""

    cpus: float
    gpus: float


class Session:
    """Ray, started by us and closed to others, or a cluster somebody else runs.

    Raises:
        TemporaryError: Ray does not start, or the cluster does not answer.
    """

    def __init__(
        self, address: str = "local", cpus: int | None = None, gpus: int | None = None, metrics_port: int | None = None
    ) -> None:
        """`cpus` and `gpus`: what a private Ray is told that this machine has; None lets it look. `metrics_port`: where a private
        Ray offers its metrics; None: where it likes.
        """
        self.private = address == "local" and not ray.is_initialized()
        self._ours = not ray.is_initialized()
        self._folder: private.PrivateFolder | None = None
        self._before: dict[str, str | None] = {}
        kept = signal.getsignal(signal.SIGTERM)
        try:
            if self.private:
                self._start(cpus, gpus, metrics_port)
            elif self._ours:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
                self._warn(address)
        except (ConnectionError, RuntimeError, OSError, RayError) as error:
            self.close()
            raise TemporaryError(f"Ray at {address!r} does not answer: {(str(error).splitlines() or [''])[0]}") from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, kept or signal.SIG_DFL)  # Ray takes it to exit at once, whoever had it before

    def _start(self, cpus: int | None, gpus: int | None, metrics_port: int | None) -> None:
        private.clear()
        self._folder = private.PrivateFolder()
        self._environment()
        before = os.umask(0o077)
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                _temp_dir=self._folder.ray,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
                _metrics_export_port=metrics_port,
            )
        finally:
            os.umask(before)

    def _environment(self) -> None:
        """What Ray's processes inherit. With no mode set, a Ray that is started here turns token authentication on by itself."""
        wanted: dict[str, str | None] = dict.fromkeys(_STEERING)
        wanted |= {
            "RAY_AUTH_TOKEN": _TOKEN,
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # without it, lanes that asked for no GPU see them all
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }
        self._before = {name: os.environ.get(name) for name in wanted}
        _set(wanted)

    @staticmethod
    def _warn(address: str) -> None:
        if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
            said = "the Ray cluster asks for no token: whoever reaches its ports can run code there"
            _log.warning("ray.open", address=address, message=said)

    def close(self) -> None:
        """End what was started here: afterwards no process and no folder of it is left."""
        if not self._ours:
            return
        family = self._folder.family() if self._folder else []
        ray.shutdown()
        if self._folder:
            self._folder.close(family)
            _set(self._before)
        self._ours, self._folder = False, None


class RayPool:
    """Starts Ray, or joins the cluster at `address`, unless it is given a session; ends what it started. `start_s` is how long that
    took. In a private Ray cores are not booked: there is nobody else, and the plan has counted them.
    """

    def __init__(
        self,
        factory: LaneFactory,
        shares: dict[LaneKind, Share],
        in_flight: int,
        address: str = "local",
        session: Session | None = None,
        metrics_port: int | None = None,
        pipeline: str = "scoring",
    ) -> None:
        """`pipeline` is what metrics call the job."""
        began = time.monotonic()
        self._factory = cloudpickle.dumps(factory)  # type: ignore[no-untyped-call]
        self._shares, self._in_flight = shares, in_flight
        self._actors: dict[int, Any] = {}
        self._facts: dict[int, dict[str, str]] = {}
        self._pending: dict[Any, tuple[int, Slice | None, str]] = {}  # reference -> lane, slice (None: the start), attempt
        self._own = Session(address, metrics_port=metrics_port) if session is None else None
        self._private = (session or self._own or Session()).private
        self._gauges = Gauges(pipeline)
        self.start_s = time.monotonic() - began

    def start(self, lane: int, kind: LaneKind) -> None:
        """Asynchronous: Ready or StartFailed follows, or nothing at all where there is no room, for Ray waits for ever."""
        share, umask = self._shares[kind], os.umask(0)
        os.umask(umask)
        actor = ray.remote(LaneActor).options(
            num_cpus=0 if self._private else share.cpus,
            num_gpus=share.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=self._in_flight,
            scheduling_strategy="SPREAD",
        )
        self._actors[lane] = actor.remote(lane, kind, max(1, int(share.cpus)), umask)
        self._pending[self._actors[lane].open.remote(self._factory)] = (lane, None, "")

    def send(self, lane: int, work: Slice, attempt: str) -> None:
        self._pending[self._actors[lane].process.remote(work, attempt)] = (lane, work, attempt)
        self._gauges.sent(attempt)

    def kill(self, lane: int) -> None:
        actor = self._actors.pop(lane, None)
        self._facts.pop(lane, None)
        if actor is not None:
            self._gauges.lost({attempt for owner, _, attempt in self._pending.values() if owner == lane})
            self._pending = {ref: owner for ref, owner in self._pending.items() if owner[0] != lane}
            ray.kill(actor)

    def wait(self, timeout_s: float) -> list[Event]:
        found = self._news(timeout_s)
        for event in found:
            if isinstance(event, Replied):
                self._gauges.replied(event.attempt, event.answer)
        self._gauges.show(len(self._facts), len(self._actors) - len(self._facts))
        return found

    def _news(self, timeout_s: float) -> list[Event]:
        if not self._pending:
            time.sleep(timeout_s)
            return []
        found, _ = ray.wait(list(self._pending), num_returns=1, timeout=timeout_s)
        if found and len(self._pending) > 1:
            found, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        return [event for ref in found if (event := self._event(ref)) is not None]

    def describe(self) -> dict[int, dict[str, str]]:
        return dict(self._facts)

    def close(self) -> None:
        """End the lanes, and Ray if it was started here."""
        for lane in list(self._actors):
            self.kill(lane)
        self._gauges.show(0, 0, over=True)
        if self._own is not None:
            self._own.close()

    def _event(self, ref: Any) -> Event | None:
        if ref not in self._pending:
            return None  # its lane was lost a moment ago
        lane, work, attempt = self._pending.pop(ref)
        try:
            answer = ray.get(ref, timeout=_REPLY_S)
        except Exception as error:
            return self._trouble(lane, work, attempt, error)
        if work is not None:
            return Replied(lane, attempt, answer)
        if isinstance(answer, NotOpened):
            self.kill(lane)
            return StartFailed(lane, answer.message, answer.permanent, answer.kind)
        self._facts[lane] = answer
        return Ready(lane, answer)

    def _trouble(self, lane: int, work: Slice | None, attempt: str, error: Exception) -> Event:
        """What an error from Ray means. But for a method that raised, the lane is gone one way or another."""
        if work is not None and isinstance(error, RayTaskError):
            return Replied(lane, attempt, Failure(work.id, attempt, "bug", _cause(error)))
        self._gauges.lost({attempt})
        self.kill(lane)
        if work is None:
            return StartFailed(lane, _cause(error), permanent=isinstance(error, RayTaskError))
        if isinstance(error, OutOfMemoryError):
            return Died(lane, f"host memory: {_cause(error)}", "memory")
        known = isinstance(error, RayActorError)
        return Died(lane, _cause(error) if known else f"unexpected {type(error).__name__}: {_cause(error)}")


def _set(environment: dict[str, str | None]) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _cause(error: Exception) -> str:
    """The line that says most: how the worker ended, or else the last."""
    inner = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    told = [line for line in lines if "exit detail" in line]
    return (told or lines[-1:] or [type(error).__name__])[0][-500:]

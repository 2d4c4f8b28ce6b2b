"""How many lanes, and of which kind: starts, failed starts, replacements, a GPU that is gone. Lanes, never slices."""

from __future__ import annotations

from scoring.pool import StartFailed
from scoring.pool.actions import KillLane, Kind, StartLane
from scoring.pool.agenda import Agenda
from scoring.pool.retry import RetryBudget
from scoring.pool.roster import LaneState, Place, Roster
from scoring.settings import Fallback, Retry
from scoring.types import FailureKind

START_TRIES = 3  # lanes that fail to start in one place before the place is given up
DEATHS = 3  # per lane, without a slice done or given up: lanes die whatever they do


class Staff:
    """Fills the places of a roster and decides what a loss means."""

    def __init__(self, roster: Roster, agenda: Agenda, budget: RetryBudget, retry: Retry, fallback: Fallback) -> None:
        self.cpu_spare = fallback.cpu != "never"  # slices that break devices may be tried on a CPU
        self._roster, self._agenda, self._budget, self._retry, self._fallback = roster, agenda, budget, retry, fallback
        self._any_ready = False
        self._deaths = 0
        self._deaths_allowed = max(DEATHS * roster.places, 2 * retry.attempts)

    def fill(self, open_slices: int, cpu_wanted: bool, now: float) -> None:
        """No more lanes than slices: the last slice does not wait for a model that nobody needs."""
        while self._roster.vacant and self._roster.crew < open_slices:
            self._start(self._roster.vacant.popleft(), now)
        reserve = self._roster.reserve
        if cpu_wanted and reserve and not self._roster.has_cpu():
            self._roster.reserve = None
            self._start(reserve, now)

    def ready(self, number: int) -> None:
        if lane := self._roster.lanes.get(number):
            lane.place.failed_starts, self._any_ready = 0, True
            self._roster.ready(lane)

    def progressed(self) -> None:
        """A slice was finished or given up."""
        self._deaths = 0

    def start_failed(self, event: StartFailed, now: float, last: bool = False) -> None:
        """`last`: no further try. A model that cannot be loaded ends the run; a place that cannot be filled only itself."""
        lane = self._roster.remove(event.lane)
        if lane is None:
            return
        place = lane.place
        place.failed_starts += 1
        if event.kind == "model":
            self._agenda.end("failed", event.cause, "model", now)
        elif event.kind == "device-lost" and place.kind == "gpu":
            self.gpu_lost(place, event.cause, now)
        elif event.permanent or last or place.failed_starts >= START_TRIES:
            self._abandon(place, "start", event.cause, now)
        else:
            self._vacate(place, place.failed_starts, now)

    def replace(self, place: Place, now: float) -> None:
        """A lane that was ready is gone."""
        place.deaths += 1
        self._deaths += 1
        if self._deaths >= self._deaths_allowed:
            said = f"{self._deaths} lanes died and no slice was finished between"
            self._agenda.end("failed", said, "crash-loop", now)
        self._vacate(place, place.deaths - 1, now)

    def gpu_lost(self, place: Place, message: str, now: float) -> None:
        """By policy: go on with a CPU lane, wait for the GPU to come back, or end the run with its state kept."""
        policy = self._fallback.gpu_lost
        if policy == "pause" or (policy == "cpu" and self._fallback.cpu == "never"):
            said = f"The GPU is gone ({message}). Run the same command again when it is back."
            self._agenda.end("paused", said, "device-lost", now)
        elif policy == "cpu":
            place.kind, place.failed_starts = "cpu", 0
            self._agenda.note("lane.to_cpu", f"A GPU is gone, going on with a CPU lane: {message}")
            self._vacate(place, 0, now)
        else:
            self._await_gpu(place, message, now)

    def _await_gpu(self, place: Place, message: str, now: float) -> None:
        place.lost_at = now if place.lost_at is None else place.lost_at
        place.deaths += 1
        if now - place.lost_at >= self._fallback.gpu_wait_s:
            said = f"no GPU came back within {self._fallback.gpu_wait_s:g} s ({message})"
            self._abandon(place, "device-lost", said, now)
        else:
            self._vacate(place, place.deaths, now)

    def _start(self, place: Place, now: float) -> None:
        lane = self._roster.fill(place)
        self._agenda.at(now + self._retry.start_deadline_s, self._start_overdue, lane)
        self._agenda.do(StartLane(lane.number, place.kind))

    def _start_overdue(self, lane: LaneState, now: float) -> None:
        """Most likely there is no room for it on the machine. If none was ever ready, waiting again would be silence."""
        if lane.number in self._roster.lanes and not lane.ready:
            self._agenda.do(KillLane(lane.number))
            said = f"not ready after {self._retry.start_deadline_s:g} s; is there a free {lane.place.kind.upper()}?"
            kind: FailureKind = "device-lost" if lane.place.kind == "gpu" else "bug"
            self.start_failed(StartFailed(lane.number, said, False, kind), now, last=not self._any_ready)

    def _vacate(self, place: Place, failures: int, now: float) -> None:
        """A new lane may start here: at once after a first death, later after more."""
        self._agenda.at(now + self._budget.delay_s(failures) if failures else now, self._vacant, place)

    def _vacant(self, place: Place, now: float) -> None:
        if place.reserve:
            self._roster.reserve = place
        else:
            self._roster.vacant.append(place)

    def _abandon(self, place: Place, kind: Kind, message: str, now: float) -> None:
        if place.reserve:
            self.cpu_spare = False
            return
        self._roster.places -= 1
        self._agenda.note("lane.abandoned", f"Going on with {self._roster.places} lanes: {message}")
        if self._roster.places == 0:
            self._agenda.end("paused" if kind == "device-lost" else "failed", f"No lane can start: {message}", kind, now)

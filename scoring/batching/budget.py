"""How many cost units go to the device at once: found by probing, not set.

Starts small, doubles while the rate improves, steps back and stays when it does not; an out-of-memory lowers the ceiling for good.
Knows neither clock nor device: it is told what a batch cost and how long it took. The budget never changes a score, only the speed.
"""

from dataclasses import dataclass, field
from statistics import median

SAMPLES = 3  # full batches measured per size: one is noise, five delay the climb
GAIN = 1.03  # a doubled batch must be 3 % faster to be worth its memory


@dataclass
class Budget:
    """`size` is the budget now. Units are the model's cost units: rows, or tokens of texts."""

    floor: int
    ceiling: int
    size: int
    settled: bool = False
    _rates: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = max(self.floor, min(self.size, self.ceiling))

    def observe(self, cost: int, seconds: float, full: bool) -> None:
        """Learn from one batch. Only full ones count, into which nothing more would go: a tail says nothing about its budget."""
        if self.settled or not full or seconds <= 0:
            return
        rates = self._rates.setdefault(self.size, [])
        rates.append(cost / seconds)
        if len(rates) >= SAMPLES:
            self._climb()

    def out_of_memory(self, cost: int) -> bool:
        """A batch of `cost` did not fit. Returns whether a smaller one may be tried."""
        if cost <= self.floor:
            return False
        self.ceiling = max(self.floor, cost // 2)
        self.size = min(self.size, self.ceiling)
        return True

    def _climb(self) -> None:
        now, before = median(self._rates[self.size]), self._rates.get(self.size // 2)
        if before and now < GAIN * median(before):
            self.size, self.settled = self.size // 2, True
        elif self.size * 2 > self.ceiling:
            self.settled = True
        else:
            self.size *= 2

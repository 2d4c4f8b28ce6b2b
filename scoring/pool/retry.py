"""When to try again, and when to stop trying: a rule for each cause, a budget for the whole run, full-jitter backoff.

Source of the backoff: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter).
"""

from dataclasses import dataclass
from random import Random
from typing import Literal

from scoring.pool import Cause
from scoring.settings import Retry


@dataclass(frozen=True)
class Rule:
    """What a cause costs a slice. `tries` None: as many as the settings allow.

    When they are spent, the slice is given up and named, or the run ends: a full disk is no fault of the slice that met it.
    """

    tries: int | None
    spent: Literal["give-up", "end"]


RULES: dict[Cause, Rule] = {
    "input": Rule(1, "give-up"),  # changed or gone: it will not come back
    "model": Rule(1, "end"),
    "bug": Rule(2, "end"),
    "disk": Rule(None, "end"),
    "store": Rule(None, "end"),
    "memory": Rule(None, "give-up"),
    "device-sticky": Rule(None, "give-up"),
    "device-lost": Rule(None, "give-up"),  # never charged: the device is gone, whatever the slice was
    "lane-died": Rule(None, "give-up"),
    "lane-hung": Rule(None, "give-up"),
}


@dataclass
class RetryBudget:
    """The run's own limit: a plague of failures ends the run, however patient each slice is."""

    policy: Retry
    rng: Random
    spent: int = 0

    def spend(self, slices: int) -> bool:
        """Charge one retry; False when the budget is gone. `slices` are those known so far."""
        self.spent += 1
        return self.spent <= self.allowed(slices)

    def allowed(self, slices: int) -> float:
        return self.policy.budget_share * slices + self.policy.budget_extra

    def delay_s(self, failures: int) -> float:
        """How long to wait after the n-th failure (n >= 1): uniform in [0, min(cap, backoff * 2^(n-1))]."""
        return self.rng.uniform(0.0, min(self.policy.backoff_cap_s, self.policy.backoff_s * 2.0 ** min(failures - 1, 60)))

    def tries(self, cause: Cause) -> int:
        """Failures of this cause that a slice may have before it is spent."""
        return min(RULES[cause].tries or self.policy.attempts, self.policy.attempts)

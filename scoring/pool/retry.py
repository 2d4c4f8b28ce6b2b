"""When to try again, and when to stop trying: attempts of a slice, a budget for the whole run, full-jitter backoff.

Source of the backoff: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full jitter).
"""

from dataclasses import dataclass
from random import Random

from scoring.settings import Retry


@dataclass
class RetryBudget:
    """The run's own limit: a plague of failures stops the run, however patient each slice is."""

    policy: Retry
    rng: Random
    spent: int = 0

    def spend(self, slices: int) -> bool:
        """Charge one failure; False when the budget is gone."""
        self.spent += 1
        return self.spent <= self.policy.budget_share * slices + self.policy.budget_extra

    def delay_s(self, attempts: int) -> float:
        """How long to wait before attempt number `attempts` + 1."""
        return self.rng.uniform(0, min(self.policy.backoff_cap_s, self.policy.backoff_s * 2 ** (attempts - 1)))

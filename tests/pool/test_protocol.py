"""The real dispatcher and commit protocol hold in 20,000 simulated schedules; wrong ones are caught."""

import pytest
from world import Broken, Protocol, World

SCHEDULES = 20_000

WRONG = {
    "results are renamed over each other": Protocol(put="rename-over"),
    "exists, then rename": Protocol(put="check-then-rename"),
    "names of their own, and a marker": Protocol(put="unique-names"),
    "a crash publishes what was written so far": Protocol(put="truncated-on-crash"),
    "an error means that nothing was staged": Protocol(look="never-there"),
    "an error means that it was staged": Protocol(look="always-there"),
    "the store is asked and the answer is lost": Protocol(look="no-answer"),
    "the reply is trusted": Protocol(reply_first=True),
    "nobody watches the lanes": Protocol(blind=True),
    "attempts without end": Protocol(patient=True),
    "two lanes at once, the last one wins": Protocol(overload=True),
    "a receipt counts each time it comes": Protocol(twice=True),
}


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 4))])
def test_the_real_protocol_holds(part):
    for seed in range(part, SCHEDULES, 4):
        World(seed, Protocol()).run()


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_protocol_is_caught(wrong):
    for seed in range(SCHEDULES):
        try:
            World(seed, wrong).run()
        except Broken:
            return
    pytest.fail(f"{wrong} survived {SCHEDULES:,} schedules")

"""Times of contenders that take turns: on a GPU by Triton's do_bench (events, L2 flushed before each run), else by wall clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Work = Callable[[], Any]
ROUNDS = 3
SLOW_S = 0.1  # beyond it one run a round is enough
WARM_MS, REPEAT_MS = 5, 25  # of do_bench, each round


def turns(contenders: dict[str, Work], cuda: bool, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Name -> `seconds` (median), `p20`, `p80`, `n`."""
    slow = {name: once(work, cuda, warm=True) > SLOW_S for name, work in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            times[name] += [once(work, cuda)] if slow[name] or not cuda else _many(work)
    return {name: summary(found) for name, found in times.items()}


def one(work: Work, cuda: bool, rounds: int = 1) -> dict[str, float]:
    return turns({"it": work}, cuda, rounds)["it"]


def summary(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    at = [ordered[round(share * (len(ordered) - 1))] for share in (0.2, 0.8)]
    return {"seconds": statistics.median(ordered), "p20": at[0], "p80": at[1], "n": len(ordered)}


def _many(work: Work) -> list[float]:
    from triton.testing import do_bench

    return [ms / 1e3 for ms in do_bench(work, warmup=WARM_MS, rep=REPEAT_MS, return_mode="all")]


def once(work: Work, cuda: bool, warm: bool = False) -> float:
    if warm:
        work()  # compiles, allocates
    _wait(cuda)
    began = time.perf_counter()
    work()
    _wait(cuda)
    return time.perf_counter() - began


def _wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()

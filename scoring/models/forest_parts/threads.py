"""Loops that hold no GIL, on as many threads as torch may use here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def spread(work: Callable[[int, int], object], count: int, least: int) -> None:
    """`work(start, stop)` for parts of range(count), none but the last of fewer than `least`; all are done when it returns."""
    threads = max(1, min(torch.get_num_threads(), count // least))
    if threads == 1:
        if count:
            work(0, count)
        return
    step = -(-count // threads // least) * least
    parts = [(start, min(start + step, count)) for start in range(0, count, step)]
    list(_pool(threads).map(lambda part: work(*part), parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="forest")

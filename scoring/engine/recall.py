"""Batch budgets found before, remembered in the workspace per (model, device): the next lane starts where the last settled.

Advisory: a lost or foreign file costs a new climb, nothing else.
"""

from __future__ import annotations

import json
from typing import Literal

from scoring.batching.budget import Budget
from scoring.settings import Batch
from scoring.stores import Store
from scoring.types import digest

FIRST_BUDGET = 4_096  # cost units tried first where nothing is remembered
CPU_TOKENS = 16_384  # at once on a CPU, whose caches gain nothing from more


def opened(store: Store, model: str, device: str, batch: Batch, window_rows: int, unit: Literal["rows", "tokens"]) -> Budget:
    """The budget to begin with: as configured, as remembered, or a small one that climbs.

    On a CPU models compute in blocks of their own size, so that nothing is gained by a smaller batch than the window: 4,096 rows
    cost a tenth more than 65,536. Of texts, whose tokens nobody knows beforehand, a CPU takes a fixed number of tokens.
    """
    if batch.budget is not None:
        return Budget(batch.floor, batch.budget, batch.budget, settled=True)
    if device == "cpu":
        most = window_rows if unit == "rows" else CPU_TOKENS
        return Budget(batch.floor, min(most, batch.ceiling), most, settled=True)
    known = _known(store, _key(model, device))
    return Budget(batch.floor, batch.ceiling, known or FIRST_BUDGET, settled=known is not None)


def remember(store: Store, model: str, device: str, size: int) -> None:
    """Keep what a climb found."""
    store.replace(_key(model, device), json.dumps({"budget": size}).encode())


def _key(model: str, device: str) -> str:
    return f"runs/budgets/{digest([model, device])[:32]}.json"


def _known(store: Store, key: str) -> int | None:
    try:
        found = json.loads(store.get(key))["budget"] if store.exists(key) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found > 0 else None

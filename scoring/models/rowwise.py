"""Where an item is a row, in the order of rows, and costs one unit: what encodings of tables have in common."""

from __future__ import annotations

from scoring.watch.tally import Counted


class RowWise:
    """The rest of `Encoded` for what has `rows`, `narrow` and `to`; nothing is counted, and there is no work to tell of."""

    order: None = None

    @property
    def rows(self) -> int:
        raise NotImplementedError

    def fit(self, start: int, budget: int) -> int:
        return max(1, min(budget, self.rows - start))

    def cost(self, start: int, count: int) -> int:
        return count

    def counted(self) -> dict[str, Counted]:
        return {}

    def work(self) -> dict[str, int]:
        return {}

"""Find the rows that make a model raise, scoring all others on the way.

Give it the size of a range that failed as a whole; it asks for sub-ranges until every row is either scored or a single failing
row. When the left half of a failing range passes, the right half must hold the failure and is split without being tried as a
whole. For k bad rows among B: at most 2k(ceil(log2 B) + 1) calls.
"""

Range = tuple[int, int]  # start, rows


class Bisection:
    """Sans-IO: `next()` names the range to try, `passed()` or `failed(reason)` tells what came of it."""

    def __init__(self, rows: int, give_up: int = 64) -> None:
        """`give_up`: when that many single rows failed and no row ever passed, the model is at fault, not the rows."""
        self.bad: dict[int, str] = {}
        self._give_up = give_up
        self._any_passed = False
        self._todo: list[tuple[Range, Range | None]] = []  # a range to try, and its untried right sibling
        self._current: tuple[Range, Range | None] | None = None
        self._split((0, rows))

    @property
    def hopeless(self) -> bool:
        return not self._any_passed and len(self.bad) >= self._give_up

    def next(self) -> Range | None:
        """The range to try now, or None when every row has its answer."""
        if not self._todo:
            return None
        self._current = self._todo.pop()
        return self._current[0]

    def passed(self) -> None:
        _, sibling = self._taken()
        self._any_passed = True
        if sibling:
            self._split(sibling)

    def failed(self, reason: str) -> None:
        tried, sibling = self._taken()
        if sibling:
            self._todo.append((sibling, None))
        if tried[1] == 1:
            self.bad[tried[0]] = reason
        else:
            self._split(tried)

    def _split(self, failing: Range) -> None:
        start, rows = failing
        half = rows // 2
        self._todo.append(((start, half), (start + half, rows - half)) if rows > 1 else (failing, None))

    def _taken(self) -> tuple[Range, Range | None]:
        if self._current is None:
            raise AssertionError("An answer came without a question. This is a bug.")
        taken, self._current = self._current, None
        return taken

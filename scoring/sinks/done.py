"""The receipts of a run, many to an object, so that a run that goes on need not open a million staged files.

    runs/<run id>/done/<when>-<token>.log       SHA-256 of all that follows; then a line for each slice:
                                                id, stamp of its staged file, partition, receipt as JSON

Advice, like the notes beside single slices: the staged file is what makes a slice done, and a receipt from here counts only while
that file has the stamp that it had then. What is missing or damaged here costs time: a lane looks at the footer and answers.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from scoring.stores import Store, advice
from scoring.types import Findings, Receipt, canonical

_ALWAYS, _NOTHING = ("slice_id", "partition", "attempt", "rows_in", "counts"), Findings()
MOST, LATEST_S = 1_000, 30.0  # receipts in one object; how long one may wait to be written


class DoneLog:
    """Receipts of the slices of one run, as they come. Raises nothing: what is not written is looked for in the footers."""

    def __init__(self, store: Store, run_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` in seconds."""
        self._store, self._folder, self._clock = store, _folder(run_id), clock
        self._lines: list[bytes] = []
        self._since = 0.0

    def add(self, receipt: Receipt) -> None:
        if receipt.scores is None or not receipt.scores.stamp:
            return  # nobody could tell later whether the file is still the same
        if not self._lines:
            self._since = self._clock()
        self._lines.append(f"{receipt.slice_id} {receipt.scores.stamp} {receipt.partition} ".encode() + _brief(receipt))

    def flush_due(self) -> None:
        """Write what is to be written by now; costs nothing otherwise."""
        if self._lines and (len(self._lines) >= MOST or self._clock() - self._since >= LATEST_S):
            self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            advice.write(self._store, self._folder, b"\n".join(lines))


class Recalled:
    """Slices of a run that are done, by what was logged of them. `staged` are the stamps of what is staged now, by slice id; only
    receipts of `partitions` are kept in memory, as text: until a slice is asked for, it costs no more than that.
    """

    def __init__(self, store: Store, run_id: str, staged: Mapping[str, str], partitions: Collection[str]) -> None:
        """Raises: StoreError: the log cannot be listed."""
        wanted = {key.encode() for key in partitions}
        self._texts: dict[str, bytes] = {}
        for line in _lines(store, run_id) if staged else ():
            slice_id, stamp, partition, text = line.split(b" ", 3)
            if partition in wanted and staged.get(name := slice_id.decode()) == stamp.decode():
                self._texts[name] = text

    def __len__(self) -> int:
        return len(self._texts)

    def close(self) -> None:
        """Let the garbage collector look again at what it was spared."""
        gc.unfreeze()

    def take(self, slice_ids: Sequence[str], partition: str) -> list[Receipt | None]:
        """The receipts of slices of one partition, None where there is none; each is handed out once."""
        texts = {name: text for name in slice_ids if (text := self._texts.pop(name, None)) is not None}
        found: dict[str, Receipt] = {}
        if not texts:
            return [None for _ in slice_ids]
        with _spared(), suppress(ValueError, TypeError, KeyError, AssertionError):
            # Read as one text, so that all share the names of fields: less time, and half of the memory.
            for name, raw in zip(texts, json.loads(b"[%s]" % b",".join(texts.values())), strict=True):
                receipt = Receipt.from_plain(raw)
                if receipt.slice_id == name and receipt.partition == partition and receipt.scores is not None:
                    found[name] = receipt
        return [found.get(name) for name in slice_ids]


@contextmanager
def _spared() -> Iterator[None]:
    """What is made in here is kept from the collector of garbage: it holds no cycles, it stays, and being looked at again and again
    takes a fifth of the time of going on. In all threads; the collector is back at once for all that is made later.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def forget_log(store: Store, run_id: str) -> None:
    """Remove it: its receipts say what must not be said any more. Raises: StoreError, OSError."""
    for key in store.list(_folder(run_id)):
        store.remove(key)


def _lines(store: Store, run_id: str) -> Iterator[bytes]:
    for text in advice.whole(store, _folder(run_id)):
        yield from text.split(b"\n")


def _brief(receipt: Receipt) -> bytes:
    """Without what is empty, which is half of an ordinary receipt, and half of the time to read it."""
    said = {name: value for name, value in vars(receipt).items() if name in _ALWAYS or (value and value != _NOTHING)}
    return canonical(said)


def _folder(run_id: str) -> str:
    return f"runs/{run_id}/done"

"""Files of a workspace, kept in memory for as long as they are what they were. Damage is a finding, not an exception.

What `put` created never changes and is read once; what may be replaced is read again when its stamp differs. A listing is kept for
some times as long as it took, so that a slow store is not asked all the time.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from scoring.errors import StoreError
from scoring.respond.manual import clean
from scoring.stores import Store
from scoring.stores.names import MissingError

T = TypeVar("T")
R = TypeVar("R")
Made = Callable[[Any], T]  # of parsed JSON

BROKEN = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)
_MOST_KEPT = 60_000
_LEAST_S, _TIMES = 1.0, 10.0  # how long a listing is kept: at least, and how many times what it took
_HANDS = 16  # reads at once: a bucket answers after some 30 ms, whatever is asked
_LARGEST = 2**63


@dataclass(frozen=True)
class Damaged:
    """A file that is not what it should be, and why."""

    name: str
    why: str


class Shelf:
    """May be used by many threads. Raises: StoreError, OSError: a listing cannot be had (the store does not answer)."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, Any], tuple[str, Any]] = OrderedDict()
        self._listed: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}
        self._hands = ThreadPoolExecutor(_HANDS, "shelf")

    def lasting(self, name: str, made: Made[T]) -> T | Damaged | None:
        """Of a file that is created once and never changed; None where there is none."""
        kept = self._get((name, made))
        return kept[1] if kept is not None else self._read(name, made, "")

    def changing(self, name: str, made: Made[T]) -> T | Damaged | None:
        """Of a file that may be replaced."""
        try:
            stamp = self.store.stamp(name)
        except (StoreError, OSError) as error:
            return Damaged(name, _line(error))
        if stamp is None:
            return None
        kept = self._get((name, made))
        if kept is not None and kept[0] == stamp:
            return kept[1]  # type: ignore[no-any-return]
        return self._read(name, made, stamp)

    def many(self, read: Callable[[str, Made[Any]], Any], names: Iterable[str], made: Made[Any]) -> list[Any]:
        """`read` is `lasting` or `changing`; in the order of the names."""
        return self.each(lambda name: read(name, made), names)

    def each(self, do: Callable[[Any], R], asked: Iterable[Any]) -> list[R]:
        """Side by side where the store is a bucket. In the order of what is asked; `do` may not come here again."""
        return list(self._hands.map(do, asked)) if "://" in self.store.root else [do(one) for one in asked]

    def names(self, folder: str) -> tuple[str, ...]:
        """Keys below a folder, sorted."""
        return self._listing("names", folder, lambda: tuple(self.store.list(folder)))

    def folders(self, folder: str) -> tuple[str, ...]:
        return self._listing("folders", folder, lambda: self.store.folders(folder))

    def _listing(self, kind: str, folder: str, list_it: Callable[[], Sequence[str]]) -> tuple[str, ...]:
        with self._lock:
            until, found = self._listed.get((kind, folder), (0.0, ()))
        began = time.monotonic()
        if began < until:
            return found
        found = tuple(list_it())
        ended = time.monotonic()
        with self._lock:
            if len(self._listed) > _MOST_KEPT:
                self._listed.clear()
            self._listed[kind, folder] = (ended + max(_LEAST_S, _TIMES * (ended - began)), found)
        return found

    def _read(self, name: str, made: Made[T], stamp: str) -> T | Damaged | None:
        try:
            found = made(json.loads(self.store.get(name)))
        except MissingError:
            return None
        except (StoreError, OSError, *BROKEN) as error:
            return Damaged(name, _line(error))  # not kept: it may still be in the making
        with self._lock:
            self._kept[name, made] = (stamp, found)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    def _get(self, place: tuple[str, Any]) -> tuple[str, Any] | None:
        with self._lock:
            if (found := self._kept.get(place)) is not None:
                self._kept.move_to_end(place)
            return found


def whole(value: Any) -> int:
    """Raises: ValueError, TypeError, OverflowError: not a whole number of a sane size."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST < value < _LARGEST:
        raise ValueError(f"a number was expected, not {type(value).__name__}")
    return int(value)


def real(value: Any) -> float:
    """Raises: as `whole`; NaN is none either."""
    whole(value)
    return float(value)


def text(value: Any) -> str:
    """Raises: ValueError: not a string."""
    if not isinstance(value, str):
        raise ValueError(f"a text was expected, not {type(value).__name__}")
    return value


def table(value: Any) -> dict[str, Any]:
    """Raises: ValueError: not an object."""
    if not isinstance(value, dict):
        raise ValueError(f"an object was expected, not {type(value).__name__}")
    return value


def _line(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"cut off or no JSON: {error.msg} at character {error.pos:,}"
    if isinstance(error, KeyError):
        return f"{error.args[0]!s} is missing" if error.args else "something is missing"
    return clean(" ".join(str(error).split()), 200) or type(error).__name__

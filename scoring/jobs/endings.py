"""How an ended run becomes the exit code of its command; the codes are those of errors.py."""

from __future__ import annotations

from collections.abc import Iterable

_STATUSES = {"held": 65, "paused": 75, "failed": 70}
_CAUSES = {"input": 75, "disk": 75, "memory": 75, "store": 69, "start": 78}
_WORST_FIRST = (70, 78, 69, 65, 75, 0)


def code(status: str, cause: str = "") -> int:
    """Of a run by its record: what is published, or was left alone, is 0; a cause says more than a status."""
    return _CAUSES.get(cause, _STATUSES[status]) if status in _STATUSES else 0


def worst(codes: Iterable[int]) -> int:
    """What a person has to look at comes before what the same line, said again later, may settle."""
    found = set(codes)
    return next((one for one in _WORST_FIRST if one in found), 0)

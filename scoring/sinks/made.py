"""What a staged file was made of and with, in its own footer: the slice, row groups and versions of input files, and the
environment of the lane. Not in the receipt, which travels: a slice may have hundreds of fragments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from scoring.types import Fragment, Slice, canonical

MADE = "scoring.made"


@dataclass(frozen=True)
class Made:
    """`environment` is what the lane said of itself: versions, code, kernels, threads."""

    work: Slice
    environment: dict[str, str]


def text(work: Slice, environment: Mapping[str, str]) -> str:
    """For the footer."""
    return canonical({"slice": asdict(work), "environment": dict(environment)}).decode()


def parsed(footer: Mapping[bytes, bytes]) -> Made | None:
    """None: a file from before this was noted. Raises: ValueError, TypeError, KeyError: it is not what `text` wrote."""
    if MADE.encode() not in footer:
        return None
    raw: dict[str, Any] = json.loads(footer[MADE.encode()])
    fragments = tuple(_fragment(Fragment(**one)) for one in raw["slice"]["fragments"])
    return Made(Slice(**{**raw["slice"], "fragments": fragments}), dict(raw["environment"]))


def _fragment(raw: Fragment) -> Fragment:
    return raw if raw.groups is None else replace(raw, groups=(raw.groups[0], raw.groups[1]))

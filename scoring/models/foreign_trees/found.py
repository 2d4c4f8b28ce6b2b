"""What every reader gives: trees as treelite holds them, and what treelite does not keep."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from scoring.errors import ModelError, told
from scoring.models.forest_parts.shape import Link

MOST_FEATURES = 1 << 19
Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Predicted:
    """What the source library says of rows: float64 (rows, margins) each, or None; `places` int64 (rows,) of its class."""

    margins: Numbers | None = None
    scores: Numbers | None = None
    places: Numbers | None = None


Predict = Callable[[pa.Table], Predicted]


@dataclass(frozen=True)
class Found:
    """`model` is treelite's. `categories` by feature number: values by code, or None, where codes are the values.

    `known_only`: the library raises for a value outside `categories`, so that rows with one are quarantined. `nullable`: it takes
    rows that lack a feature. `cover`: the field of treelite that counts training rows. `predict` opens the source library, or says
    by None that it is not installed or does not read this file.
    """

    model: Any
    source: str
    names: tuple[str, ...]
    rounded: bool
    link: Link
    cover: Literal["data_count", "sum_hess"]
    predict: Callable[[], Predict | None]
    alpha: float = 1.0
    classes: tuple[str, ...] = ()
    categories: dict[int, pa.Array[Any] | None] = field(default_factory=dict)
    known_only: bool = False
    nullable: bool = True
    smallest: float = 0.0
    must_agree: bool = False
    notes: tuple[str, ...] = ()


def library(name: str, package: str, what: str) -> Any:
    """A module that is needed. Raises: ModelError: it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise ModelError(f"{what} needs {name.partition('.')[0]}, which is not installed; say pip install {package}") from None


def installed(name: str) -> Any | None:
    """A module that is not needed, or None."""
    try:
        return import_module(name)
    except ImportError:
        return None


def refused(where: str, error: BaseException) -> ModelError:
    """What treelite does not take, without the place in its sources that it names first."""
    return ModelError(
        f"{where} is refused by treelite: {re.sub(r'^.*?[.](cc|h):[0-9]+: (Error: )?', '', told(error)).rstrip('.!')}."
    )


def named(where: str, names: list[Any], features: int) -> tuple[str, ...]:
    """Names of the features, f0, f1, … where the file has none. Raises: ModelError: they cannot be columns."""
    if not 1 <= features <= MOST_FEATURES:
        raise ModelError(f"{where}: it has {features:,} features, expected 1 to {MOST_FEATURES:,}.")
    names = names or [f"f{place}" for place in range(features)]
    if len(names) != features:
        raise ModelError(f"{where}: it names {len(names):,} features, but has {features:,}.")
    if odd := [name for name in names if not isinstance(name, str) or not name or not name.isprintable()]:
        raise ModelError(f"{where}: {odd[0]!r} is a feature, which cannot be the name of a column.")
    if len(set(names)) < features:
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(f"{where}: two features are named {twice!r}; columns need names of their own.")
    return tuple(names)


def check_children(where: str, left: Numbers, right: Numbers) -> None:
    """That each node has one parent at most, and the first one none: nothing that walks the tree can run in a circle.

    `left` and `right` hold the numbers of nodes, -1 at leaves. Raises: ModelError.
    """
    nodes = len(left)
    if not nodes or left.shape != right.shape or bool(((left < 0) != (right < 0)).any()):
        raise ModelError(f"{where}: a node has one child, expected two or none.")
    children = np.concatenate([left, right])
    children = children[children >= 0]
    if children.size and (int(children.max()) >= nodes or int(children.min()) < 1):
        raise ModelError(f"{where}: a child is no node of 1 to {nodes - 1:,}.")
    if len(np.unique(children)) < len(children):
        raise ModelError(f"{where}: a node has two parents, so that this is no tree.")

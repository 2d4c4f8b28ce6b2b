"""XGBoost's binary format before 3.1, which has no mark: read by its layout from end to end, and only then given to treelite."""

from __future__ import annotations

import struct
from typing import Any, NoReturn

import numpy as np

from scoring.errors import ModelError
from scoring.models.foreign_trees.found import Found, check_children, library, named, refused
from scoring.models.foreign_trees.xgboost import LINKS

_NODE = np.dtype([("parent", "<i4"), ("left", "<i4"), ("right", "<i4"), ("feature", "<u4"), ("value", "<f4")])
_STATS = 16  # bytes of a node
_LEARNER, _BOOSTER, _TREE = 136, 160, 148  # bytes of the three headers
_LONGEST = 4_096  # characters of a name


class _Bytes:
    """`known` once it has named its booster: until then it may be anything."""

    def __init__(self, where: str, data: bytes) -> None:
        self.where, self.data, self.at, self.known = where, data, 0, False

    def wrong(self, what: str) -> NoReturn:
        if self.known:
            raise ModelError(f"{self.where} is a damaged binary model of XGBoost: {what}.")
        raise ModelError(
            f"{self.where} is in no format that is known: XGBoost (JSON, UBJSON, binary), LightGBM (text) and scikit-learn (skops) "
            f"are read."
        )

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            self.wrong(f"it ends too early, at byte {len(self.data):,}")
        self.at += count
        return self.data[self.at - count : self.at]

    def integers(self, count: int, size: int) -> tuple[int, ...]:
        """The first numbers of a header of `size` bytes."""
        return struct.unpack_from(f"<{count}i", self.take(size))

    def text(self) -> str:
        (length,) = struct.unpack("<Q", self.take(8))
        if length > _LONGEST:
            self.wrong(f"a name has {length:,} characters")
        return self.take(length).decode("ascii", "replace")


def read_legacy(path: str, data: bytes) -> Found:
    """Raises: ModelError: no such file, or one that is not supported."""
    file = _Bytes(path, data.removeprefix(b"binf"))
    _, features, classes, attributes = file.integers(4, _LEARNER)
    objective, booster = file.text(), file.text()
    if not objective.isprintable() or booster not in ("gbtree", "dart", "gblinear"):
        file.wrong("it names no booster")
    file.known = True
    if booster != "gbtree" or objective not in LINKS:
        raise ModelError(
            f"{path}: booster {booster!r} with objective {objective[:80]!r} is not supported in the binary format; load it with "
            f"XGBoost 1.0 to 3.0 and save it with save_model('model.json')."
        )
    trees, roots, *_ = file.integers(2, _BOOSTER)
    if roots != 1:
        raise ModelError(
            f"{path} was written by XGBoost 0.4 or with several roots a tree ({roots} are stated), which later versions do not "
            f"read either; load it with XGBoost 0.90 and save it again."
        )
    if not 1 <= trees <= len(data) // _TREE:
        file.wrong(f"it has {trees:,} trees")
    for place in range(trees):
        _check_tree(file, place, features)
    groups = np.frombuffer(file.take(4 * trees), "<i4")
    if not bool(((groups >= 0) & (groups < max(1, classes))).all()):
        file.wrong("a tree is of no class")
    if not attributes and file.data[file.at :]:
        file.wrong(f"{len(file.data) - file.at:,} bytes stand behind its end")
    named_classes = tuple(map(str, range(max(1, classes)))) if LINKS[objective] == "softmax" else ()
    return Found(
        _loaded(path),
        f"xgboost (binary), {objective}",
        named(path, [], features),
        True,
        LINKS[objective],
        "sum_hess",
        lambda: None,  # versions that read this format misread others
        classes=named_classes,
    )


def _check_tree(file: _Bytes, place: int, features: int) -> None:
    roots, count, _, _, _, width = file.integers(6, _TREE)
    if roots != 1 or not 1 <= count <= len(file.data) // _NODE.itemsize or width not in (0, 1):
        file.wrong(f"tree {place:,} has {roots:,} roots, {count:,} nodes and leaves of {width:,} numbers")
    nodes = np.frombuffer(file.take(count * _NODE.itemsize), _NODE)
    file.take(count * _STATS)
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    check_children(f"{file.where}: tree {place:,}", left, np.where(left < 0, -1, right))
    asked = nodes["feature"][left >= 0] & 0x7FFFFFFF  # the highest bit is the default side
    if asked.size and int(asked.max()) >= features:
        file.wrong(f"tree {place:,} asks for a feature beyond {features:,}")


def _loaded(path: str) -> Any:
    treelite = library("treelite.frontend", "'scoring[forest]'", "importing a forest")
    try:
        return treelite.load_xgboost_model_legacy_binary(path)
    except Exception as error:
        raise refused(path, error) from None

"""LightGBM's text, line by line: what predictions are made of is checked and written anew, and nothing else gets to a loader.

Loaders walk these numbers without looking: one that is missing ends the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from scoring.errors import ModelError
from scoring.models.foreign_trees.found import MOST_FEATURES, Numbers, check_children

_CATEGORICAL, _MISSING, _MISSING_ZERO = 1, 12, 4  # bits of decision_type
_TREE = re.compile(r"^Tree=", re.MULTILINE)
_WHOLE, _NUMBER = frozenset("0123456789- "), frozenset("0123456789+-.eE nainf")
_INFO = re.compile(r"none|\[[-+.\deinfa]+:[-+.\deinfa]+\]|-?\d+(:-?\d+)*")
_OBJECTIVE = re.compile(r"[a-z_0-9]*( [a-z_]+(:[-+.\de]+)?)*")


@dataclass(frozen=True)
class Keys:
    """Lines `key=value`; a line without a sign of equality is a key without a value."""

    where: str
    of: dict[str, str]

    def wrong(self, what: str) -> NoReturn:
        raise ModelError(f"{self.where}: {what}.")

    def integer(self, key: str, low: int, high: int) -> int:
        found = self.of.get(key, "")
        if not re.fullmatch(r"-?\d{1,12}", found) or not low <= int(found) <= high:
            self.wrong(f"{key!r} is {found[:40]!r}, expected a whole number from {low:,} to {high:,}")
        return int(found)

    def numbers(self, key: str, count: int, whole: bool = False) -> Numbers:
        """float64, or int64 where they are `whole`."""
        text = self.of.get(key, "")
        try:
            if not (_WHOLE if whole else _NUMBER).issuperset(text):
                raise ValueError
            found = np.array(text.split(), np.int64 if whole else np.float64)
        except (ValueError, OverflowError):
            self.wrong(f"{key!r} holds what is no {'whole ' if whole else ''}number")
        if found.shape != (count,):
            self.wrong(f"{key!r} has {found.size:,} numbers, expected {count:,}")
        return found


@dataclass(frozen=True)
class Text:
    """`head` and, as they were checked, the lines of each tree; `asked`: features that are split by categories."""

    head: Keys
    features: int
    groups: int
    trees: tuple[dict[str, str], ...]
    asked: frozenset[int]

    def written(self) -> str:
        """A model of what was checked alone."""
        return "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"tree\nversion={self.head.of.get('version', 'v2')}\nnum_class={self.head.of.get('num_class', self.groups)}\n"
        yield f"num_tree_per_iteration={self.groups}\nlabel_index=0\nmax_feature_idx={self.features - 1}\n"
        yield from (
            f"{key}={self.head.of[key]}\n" for key in ("objective", "feature_names", "feature_infos") if key in self.head.of
        )
        yield "average_output\n\n" if "average_output" in self.head.of else "\n"
        for place, tree in enumerate(self.trees):
            yield f"Tree={place}\n"
            yield from (f"{key}={value}\n" for key, value in tree.items())
            yield "shrinkage=1\n\n\n"
        yield "end of trees\n\npandas_categorical:null\n"


def read_text(path: str, text: str) -> Text:
    """Raises: ModelError: lines that are missing, or say what cannot be or is not supported."""
    begins = [found.start() for found in _TREE.finditer(text)]
    head = _keys(path, text[: begins[0]] if begins else text)
    ends = text.find("\nend of trees")
    if not begins or 0 <= ends < begins[-1]:
        head.wrong("it has no trees")
    features = head.integer("max_feature_idx", 0, MOST_FEATURES - 1) + 1
    groups = head.integer("num_tree_per_iteration", 1, 100_000)
    _check_head(head, features, groups)
    stated = head.of.get("tree_sizes", "").split()
    if len(begins) % groups or (stated and len(stated) != len(begins)):
        head.wrong(f"it has {len(begins):,} trees of {groups:,} a round, and says {len(stated):,}; the file is cut off or altered")
    last = ends if ends >= 0 else text.find("\nfeature_importances:", begins[-1])  # of v2
    spans = zip(begins, [*begins[1:], last if last >= 0 else len(text)], strict=True)
    trees, asked = [], set[int]()
    for place, (start, end) in enumerate(spans):
        tree, own = _tree(_keys(f"{path}: tree {place:,}", text[start:end]), features)
        trees.append(tree)
        asked |= own
    return Text(head, features, groups, tuple(trees), frozenset(asked))


def _keys(where: str, text: str) -> Keys:
    lines = (line.partition("=") for line in text.split("\n") if line)
    return Keys(where, {key: value for key, _, value in lines})


def _check_head(head: Keys, features: int, groups: int) -> None:
    infos = head.of.get("feature_infos", "").split()
    if len(infos) != features or not all(map(_INFO.fullmatch, infos)):
        head.wrong(f"'feature_infos' must be one range or list of categories for each of {features:,} features")
    if not _OBJECTIVE.fullmatch(head.of.get("objective", "")):
        head.wrong(f"the objective {head.of['objective'][:80]!r} is not as LightGBM writes it")
    if not re.fullmatch(r"v\d", head.of.get("version", "v2")):
        head.wrong(f"'version' is {head.of['version'][:40]!r}, expected v2, v3 or v4")
    if head.integer("num_class", 1, 100_000) not in (1, groups):
        head.wrong(f"'num_class' does not fit {groups:,} trees a round")


def _tree(tree: Keys, features: int) -> tuple[dict[str, str], set[int]]:
    """Its lines, and the features that it asks for categories of."""
    leaves = tree.integer("num_leaves", 1, 1 << 30)
    nodes = leaves - 1
    tree.numbers("leaf_value", leaves)
    if tree.of.get("is_linear", "0") != "0":
        tree.wrong("its leaves are linear models (linear_tree), which are not supported; train without linear_tree")
    if not nodes:
        return {"num_leaves": "1", "num_cat": "0", "leaf_value": tree.of["leaf_value"]}, set()
    feature, kinds = (tree.numbers(key, nodes, whole=True) for key in ("split_feature", "decision_type"))
    threshold = tree.numbers("threshold", nodes)
    left, right = (tree.numbers(key, nodes, whole=True) for key in ("left_child", "right_child"))
    if feature.min() < 0 or feature.max() >= features:
        tree.wrong(f"it asks for a feature beyond {features:,}")
    if bool((kinds & _MISSING == _MISSING_ZERO).any()):
        tree.wrong(
            "zeros are missing values in it (zero_as_missing), which is not supported; train without it, or with NaN where a value "
            "is missing"
        )
    if kinds.min() < 0 or kinds.max() > 15 or bool((kinds & _MISSING == _MISSING).any()):
        tree.wrong("'decision_type' holds what is not known")
    both = np.concatenate([left, right])
    if both.max() >= nodes or (~both).max() >= leaves:
        tree.wrong(f"its children are not those of {nodes:,} nodes and {leaves:,} leaves")
    ends = np.full(leaves, -1)  # leaves as nodes behind the others, so that both are held to one parent
    check_children(
        tree.where,
        np.concatenate([np.where(left < 0, nodes + ~left, left), ends]),
        np.concatenate([np.where(right < 0, nodes + ~right, right), ends]),
    )
    sets = kinds & _CATEGORICAL > 0
    by_set = _check_sets(tree, threshold[sets])
    kept = ["num_leaves", "num_cat", "split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value"]
    return {key: tree.of[key] for key in (*kept, *by_set, *_counts(tree, nodes))}, set(feature[sets].tolist())


def _check_sets(tree: Keys, places: Numbers) -> tuple[str, ...]:
    """The lines that sets of categories are in."""
    count = tree.integer("num_cat", 0, 1 << 30)
    if not count and not places.size:
        return ()
    starts = tree.numbers("cat_boundaries", count + 1, whole=True)
    if places.size and not (places.min() >= 0 and places.max() < count and (places == np.trunc(places)).all()):
        tree.wrong(f"a set of categories is beyond {count:,}")
    if starts[0] != 0 or bool((np.diff(starts) < 0).any()):
        tree.wrong("'cat_boundaries' must begin with 0 and not fall")
    words = tree.numbers("cat_threshold", int(starts[-1]), whole=True)
    if bool(((words < 0) | (words >= 1 << 32)).any()):
        tree.wrong("'cat_threshold' holds what is no word of 32 bits")
    return ("cat_boundaries", "cat_threshold")


def _counts(tree: Keys, nodes: int) -> tuple[str, ...]:
    """The lines that count training rows, if the file has them."""
    both = {"internal_count": nodes, "leaf_count": nodes + 1}
    if not both.keys() <= tree.of.keys():
        return ()
    for key, count in both.items():
        if bool((tree.numbers(key, count, whole=True) < 0).any()):
            tree.wrong(f"{key!r} is negative")
    return tuple(both)

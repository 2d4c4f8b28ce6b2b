"""LightGBM's text: its head and all its trees are checked, then treelite reads it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from scoring.errors import ModelError, told
from scoring.models.foreign_trees.found import Found, Predict, Predicted, check_children, installed, library, named
from scoring.models.foreign_trees.predict import matrix
from scoring.models.forest_parts.shape import Link

LINKS: dict[str, Link] = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "log1p_exp",
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exponential"),
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg"), "identity"),
    "multiclass": "softmax",
    "multiclassova": "one_vs_all",
    "": "identity",  # an objective of the user's own
    "custom": "identity",
}
_ZERO = float(np.float32(1e-35))  # magnitudes up to this one are 0 there
_CATEGORICAL, _MISSING, _MISSING_ZERO = 1, 12, 4  # bits of decision_type
_TREE = re.compile(r"^Tree=", re.MULTILINE)


@dataclass(frozen=True)
class _Keys:
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

    def numbers(self, key: str, count: int) -> np.ndarray[Any, Any]:
        try:
            found = np.array(self.of.get(key, "").split(), np.float64)
        except ValueError:
            self.wrong(f"{key!r} holds what is no number")
        if found.shape != (count,):
            self.wrong(f"{key!r} has {found.size:,} numbers, expected {count:,}")
        return found


def read_lightgbm(path: str, data: bytes) -> Found:
    """Raises: ModelError: no model of LightGBM, or one that is not supported."""
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ModelError(f"{path} begins as a model of LightGBM, but is no text.") from None
    begins = [found.start() for found in _TREE.finditer(text)]
    head = _keys(path, text[: begins[0]] if begins else text)
    ends = text.find("\nend of trees")
    if not begins or (ends >= 0 and ends < begins[-1]):
        head.wrong("it has no trees")
    features = head.integer("max_feature_idx", 0, 1 << 30) + 1
    groups = head.integer("num_tree_per_iteration", 1, 100_000)
    stated = head.of.get("tree_sizes", "").split()
    if len(begins) % groups or (stated and len(stated) != len(begins)):
        head.wrong(f"it has {len(begins):,} trees of {groups:,} a round, and says {len(stated):,}; the file is cut off or altered")
    last = ends if ends >= 0 else text.find("\nfeature_importances:", begins[-1])
    last = last if last >= 0 else len(text)
    asked: set[int] = set()
    for place, (start, end) in enumerate(zip(begins, [*begins[1:], last], strict=True)):
        asked |= _check_tree(_keys(f"{path}: tree {place:,}", text[start:end]), features)
    link, alpha, objective = _objective(head, groups)
    return Found(
        _loaded(path),
        f"lightgbm {head.of.get('version', 'v2')}, {objective or 'an objective of its own'}",
        named(path, head.of.get("feature_names", "").split(" ") if head.of.get("feature_names") else [], features),
        False,
        link,
        "data_count",
        lambda: _predict(text, groups, "average_output" in head.of, link, categories),
        alpha=alpha,
        classes=tuple(map(str, range(groups))) if link in ("softmax", "one_vs_all") else (),
        categories=(categories := _categories(head, text, asked, features)),
        smallest=_ZERO,
        notes=(("margins are means over trees, where LightGBM's raw_score gives sums",) if "average_output" in head.of else ()),
    )


def _keys(where: str, text: str) -> _Keys:
    lines = (line.partition("=") for line in text.split("\n") if line)
    return _Keys(where, {key: value for key, _, value in lines})


def _objective(head: _Keys, groups: int) -> tuple[Link, float, str]:
    name, *rest = head.of.get("objective", "").split() or [""]
    if name not in LINKS:
        head.wrong(f"the objective {name[:80]!r} is not supported; known are {', '.join(sorted(filter(None, LINKS)))}")
    link, words = LINKS[name], dict(one.partition(":")[::2] for one in rest)
    if (link in ("softmax", "one_vs_all")) != (groups > 1) and name not in ("", "custom"):
        head.wrong(f"the objective {name} does not fit {groups:,} trees a round")
    if name == "regression" and "sqrt" in words:
        return "signed_square", 1.0, f"{name} sqrt"
    alpha = words.get("sigmoid", "1") if link in ("sigmoid", "one_vs_all") else "1"
    if not re.fullmatch(r"[0-9.eE+-]{1,40}", alpha):
        head.wrong(f"'sigmoid' is {alpha[:40]!r}, expected a number")
    return link, float(alpha), name


def _check_tree(tree: _Keys, features: int) -> set[int]:
    """The features that it asks for categories of."""
    leaves = tree.integer("num_leaves", 1, 1 << 30)
    nodes = leaves - 1
    tree.numbers("leaf_value", leaves)
    if tree.of.get("is_linear", "0") != "0":
        tree.wrong("its leaves are linear models (linear_tree), which are not supported; train without linear_tree")
    if not nodes:
        return set()
    feature, kinds = tree.numbers("split_feature", nodes).astype(np.int64), tree.numbers("decision_type", nodes).astype(np.int64)
    threshold = tree.numbers("threshold", nodes)
    left, right = (tree.numbers(key, nodes).astype(np.int64) for key in ("left_child", "right_child"))
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
    _check_sets(tree, threshold[sets])
    return set(feature[sets].tolist())


def _check_sets(tree: _Keys, places: np.ndarray[Any, Any]) -> None:
    count = tree.integer("num_cat", 0, 1 << 30)
    if not count and not places.size:
        return
    starts = tree.numbers("cat_boundaries", count + 1).astype(np.int64)
    if places.size and not (places.min() >= 0 and places.max() < count):
        tree.wrong(f"a set of categories is beyond {count:,}")
    if starts[0] != 0 or bool((np.diff(starts) < 0).any()):
        tree.wrong("'cat_boundaries' must begin with 0 and not fall")
    words = tree.numbers("cat_threshold", int(starts[-1]))
    if bool(((words < 0) | (words >= 1 << 32)).any()):
        tree.wrong("'cat_threshold' holds what is no word of 32 bits")


def _categories(head: _Keys, text: str, asked: set[int], features: int) -> dict[int, pa.Array[Any] | None]:
    """Features that are categorical in splits or in the head; with their values where pandas had some."""
    infos = head.of.get("feature_infos", "").split()
    said = {place for place, info in enumerate(infos) if info != "none" and not info.startswith("[")}
    if len(infos) not in (0, features) or not asked <= (said or asked):
        head.wrong("'feature_infos' does not fit the features that are split by categories")
    listed = re.search(r"^\[categorical_feature: ([\d,]+)\]$", text, re.MULTILINE)
    places = sorted(said | asked | ({int(one) for one in listed[1].split(",") if one} if listed else set()))
    if places and places[-1] >= features:
        head.wrong(f"'categorical_feature' names a feature beyond {features:,}")
    kept = re.search(r"^pandas_categorical:(.*)$", text, re.MULTILINE)
    try:
        known = json.loads(kept[1]) if kept else None
    except ValueError:
        head.wrong("'pandas_categorical' is not JSON")
    if not known:
        return dict.fromkeys(places)
    if not isinstance(known, list) or len(known) != len(places):
        head.wrong(
            f"'pandas_categorical' has values of {len(known):,} columns, but {len(places):,} features are categorical, so that it "
            f"is not known which; ordered categories of pandas are not supported"
        )
    return {place: _values(head, values) for place, values in zip(places, known, strict=True)}


def _values(head: _Keys, values: Any) -> pa.Array[Any]:
    if isinstance(values, list) and values and all(isinstance(one, str) for one in values):
        return pa.array(values, pa.string())
    if isinstance(values, list) and all(type(one) is int for one in values):
        return pa.array(values, pa.int64())
    head.wrong("'pandas_categorical' holds other values than texts or whole numbers, which are supported")


def _loaded(path: str) -> Any:
    treelite = library("treelite.frontend", "'scoring[forest]'", "importing a forest")
    try:
        return treelite.load_lightgbm_model(path)
    except Exception as error:
        raise ModelError(f"{path} is refused by treelite: {told(error)}.") from None


def _predict(text: str, groups: int, means: bool, link: Link, categories: dict[int, pa.Array[Any] | None]) -> Predict | None:
    if (lightgbm := installed("lightgbm")) is None:
        return None
    try:
        plain = re.sub(r"^pandas_categorical:.*$", "pandas_categorical:null", text, flags=re.MULTILINE)  # codes are given
        plain = re.sub(r"^parameters:$.*?^end of parameters$", "", plain, flags=re.MULTILINE | re.DOTALL)  # of training
        opened = lightgbm.Booster(model_str=plain)
    except Exception:  # another version than the one that wrote it
        return None

    def predict(table: pa.Table) -> Predicted:
        rows = matrix(table, categories)
        margins = opened.predict(rows, raw_score=True).reshape(len(rows), -1)
        scores = opened.predict(rows).reshape(len(rows), -1)
        return Predicted(margins / (opened.num_trees() / groups) if means else margins, scores)

    return predict

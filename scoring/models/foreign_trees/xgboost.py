"""XGBoost's JSON and UBJSON, 1.0 to 3.2: checked, early stopping applied, categories taken out, then given to treelite."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from scoring.errors import ModelError
from scoring.models.foreign_trees.found import Found, check_children, library, named, refused
from scoring.models.foreign_trees.predict import booster
from scoring.models.foreign_trees.ubjson import read_ubjson
from scoring.models.forest_parts.shape import Link

NEWEST = (3, 2)  # that was checked
_MOST_NODES = 1 << 30
_OF_NODES = ("left_children", "right_children", "parents", "split_indices", "split_conditions", "default_left", "sum_hessian")
_NO_CATS: dict[str, Any] = {"enc": [], "feature_segments": [], "sorted_idx": []}
LINKS: dict[str, Link] = {
    **dict.fromkeys(("binary:logistic", "reg:logistic"), "sigmoid"),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"), "exponential"),
    **dict.fromkeys(("multi:softmax", "multi:softprob"), "softmax"),
    "binary:hinge": "hinge",
    **dict.fromkeys(
        (
            "binary:logitraw", "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
            "reg:quantileerror", "rank:pairwise", "rank:ndcg", "rank:map", "reg:linear",
        ),
        "identity",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class _File:
    """What the file says, as plain values; `model` is where its trees stand."""

    where: str
    root: dict[str, Any]

    def wrong(self, what: str) -> NoReturn:
        raise ModelError(f"{self.where}: {what}.")

    def part(self, of: dict[str, Any], key: str) -> dict[str, Any]:
        if not isinstance(found := of.get(key), dict):
            self.wrong(f"{key!r} is missing or no object, so that this is no model of XGBoost's save_model")
        return found

    def number(self, of: dict[str, Any], key: str, default: int) -> int:
        """Written as a text of digits."""
        try:
            return int(of.get(key, default))
        except (TypeError, ValueError):
            self.wrong(f"{key!r} is {str(of.get(key))[:40]!r}, expected a whole number")

    @property
    def learner(self) -> dict[str, Any]:
        return self.part(self.root, "learner")

    @property
    def booster(self) -> dict[str, Any]:
        return self.part(self.learner, "gradient_booster")

    @property
    def model(self) -> dict[str, Any]:
        inner = self.part(self.booster, "gbtree") if self.booster.get("name") == "dart" else self.booster
        return self.part(inner, "model")

    @property
    def version(self) -> tuple[int, ...]:
        found = self.root.get("version")
        if not isinstance(found, list) or len(found) != 3 or not all(type(one) is int and 0 <= one < 1_000 for one in found):
            self.wrong("'version' is missing; files of XGBoost 1.0 and newer have it")
        return tuple(found)

    @property
    def params(self) -> dict[str, Any]:
        return self.part(self.learner, "learner_model_param")


def read_json(path: str, data: bytes, binary: bool) -> Found:
    """Raises: ModelError: no model of XGBoost, or one that is not supported."""
    try:
        root = read_ubjson(data) if binary else json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise ModelError(f"{path} is not {'UBJSON' if binary else 'JSON'}: {reason}.") from None
    _refuse_others(path, root)
    file = _File(path, root)
    objective = file.part(file.learner, "objective").get("name")
    if objective not in LINKS:
        file.wrong(f"the objective {str(objective)[:80]!r} is not supported; known are {', '.join(sorted(LINKS))}")
    features = file.number(file.params, "num_feature", 0)
    names = named(path, _list(file, file.learner, "feature_names"), features)
    kinds = [str(kind) for kind in _list(file, file.learner, "feature_types")]
    if len(kinds) not in (0, features):
        file.wrong(f"'feature_types' has {len(kinds):,} entries for {features:,} features")
    _check_booster(file, features)
    notes, kept = _cut(file)
    asked = {place for place, kind in enumerate(kinds) if kind == "c"} | _split_by_sets(file)
    categories = {place: None for place in asked} | _categories(file)
    file.model.pop("cats", None) if file.version < (3, 1) else file.model.update(cats=_NO_CATS)
    text = json.dumps(root)
    version, classes = ".".join(map(str, file.version)), max(1, file.number(file.params, "num_class", 0))
    return Found(
        _loaded(path, text),
        f"xgboost {version}, {objective}",
        names,
        True,
        LINKS[objective],
        "sum_hess",
        lambda: booster(text.encode(), file.version, kept, names, sorted(asked), categories, objective),
        classes=tuple(map(str, range(classes))) if LINKS[objective] == "softmax" else (),
        categories=categories,
        known_only=any(known is not None for known in categories.values()),
        must_agree=file.version[:2] > NEWEST,
        notes=notes,
    )


def _refuse_others(path: str, root: Any) -> None:
    save = "save it with save_model"
    if isinstance(root, dict) and "tree_info" in root and "learner" not in root:
        raise ModelError(f"{path} is a JSON dump of LightGBM (dump_model), which is not a model; {save}('model.txt').")
    if isinstance(root, dict) and ("oblivious_trees" in root or "features_info" in root):
        raise ModelError(f"{path} is a CatBoost model, which is not supported.")
    if not isinstance(root, dict) or "learner" not in root:
        raise ModelError(f"{path} is JSON, but no model of XGBoost: 'learner' is missing; {save}('model.json').")


def _list(file: _File, of: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(found := of.get(key, []), list):
        file.wrong(f"{key!r} is no list")
    return found


def _check_booster(file: _File, features: int) -> None:
    """That the booster is of trees, DART exactly where it has weights, and all trees are trees."""
    kind, model = file.booster.get("name"), None
    if kind not in ("gbtree", "dart"):
        file.wrong(f"the booster is {str(kind)[:40]!r}; gbtree and dart are supported, as they are of trees")
    model = file.model
    trees, info = _list(file, model, "trees"), _list(file, model, "tree_info")
    weights = file.booster.get("weight_drop")
    if (kind == "dart") != (weights is not None):
        file.wrong("a dart booster must have 'weight_drop', and only it; the weight of its trees is not known")
    if weights is not None and (not isinstance(weights, list) or len(weights) != len(trees) or not _numeric(weights)):
        file.wrong(f"'weight_drop' must have one number for each of {len(trees):,} trees")
    stated = file.number(file.part(model, "gbtree_model_param"), "num_trees", len(trees))
    groups = max(1, file.number(file.params, "num_class", 0), file.number(file.params, "num_target", 1))
    if not trees or len(info) != len(trees) or stated != len(trees):
        file.wrong(f"it has {len(trees):,} trees and {len(info):,} entries of 'tree_info', and says {stated:,}")
    if any(type(one) is not int or not 0 <= one < groups for one in info):
        file.wrong(f"'tree_info' must name one of {groups:,} outputs for each tree")
    for place, tree in enumerate(trees):
        if not isinstance(tree, dict):
            file.wrong(f"tree {place:,} is no object")
        _check_tree(_File(f"{file.where}: tree {place:,}", tree), tree, features, groups)


def _numeric(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) in (int, float) for one in values)


def _check_tree(file: _File, tree: dict[str, Any], features: int, groups: int) -> None:
    param = file.part(tree, "tree_param")
    nodes, width = file.number(param, "num_nodes", 0), max(1, file.number(param, "size_leaf_vector", 0))
    if not 1 <= nodes < _MOST_NODES or width not in (1, groups):
        file.wrong(f"it has {nodes:,} nodes and leaves of {width:,} numbers")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for key in _OF_NODES:
        found = tree.get(key)
        try:
            arrays[key] = np.array(found if isinstance(found, list) else [], np.float64)
        except (TypeError, ValueError, OverflowError):
            file.wrong(f"{key!r} holds what is no number")
        if arrays[key].shape != (nodes,):
            file.wrong(f"{key!r} must have one number for each of {nodes:,} nodes")
    left, right = arrays["left_children"], arrays["right_children"]
    inner = left >= 0
    check_children(file.where, np.where(inner, left, -1), np.where(inner, right, -1))
    above = arrays["parents"]
    if any((above[side[inner].astype(np.int64)] != np.flatnonzero(inner)).any() for side in (left, right)):
        file.wrong("'parents' does not fit its children")
    asked = arrays["split_indices"][inner]
    if asked.size and not (asked.min() >= 0 and asked.max() < features):
        file.wrong(f"it asks for a feature beyond {features:,}")
    _check_sets(file, tree, nodes)


def _check_sets(file: _File, tree: dict[str, Any], nodes: int) -> None:
    """Categories: which nodes ask for a set, where it begins and how long it is."""
    by_node, starts, sizes = (_list(file, tree, f"categories_{key}") for key in ("nodes", "segments", "sizes"))
    held, kinds = _list(file, tree, "categories"), tree.get("split_type", [0] * nodes)
    whole = all(type(one) is int and one >= 0 for part in (by_node, starts, sizes, held) for one in part)
    if not whole or not len(by_node) == len(starts) == len(sizes) or any(one >= nodes for one in by_node):
        file.wrong("its categories do not fit its nodes")
    if any(start + size > len(held) for start, size in zip(starts, sizes, strict=True)) or any(one >= 1 << 24 for one in held):
        file.wrong("a set of categories is beyond those that are there")
    if not isinstance(kinds, list) or len(kinds) != nodes or not all(one in (0, 1) for one in kinds):
        file.wrong(f"'split_type' must be 0 or 1 for each of {nodes:,} nodes")
    asks = [node for node, kind in enumerate(kinds) if kind and tree["left_children"][node] >= 0]
    if not set(asks) <= set(by_node):
        file.wrong("a node asks for a set of categories that is not there")


def _cut(file: _File) -> tuple[tuple[str, ...], int]:
    """Keep the trees that XGBoost's scikit-learn wrapper predicts with, if it wrote the file. Gives notes, and rounds (0: all)."""
    attributes, model = file.learner.get("attributes") or {}, file.model
    best = attributes.get("best_iteration") if isinstance(attributes, dict) else None
    if best is None:
        return (), 0
    rounds, trees = file.number(attributes, "best_iteration", 0) + 1, len(model["trees"])
    if "scikit_learn" not in attributes:
        return (f"training stopped early at round {rounds:,}; all {trees:,} trees are used, as Booster.predict does",), 0
    starts = model.get("iteration_indptr")
    groups = 1 if len(set(model["tree_info"])) <= 1 else max(model["tree_info"]) + 1
    each = groups * max(1, file.number(file.part(model, "gbtree_model_param"), "num_parallel_tree", 1))
    if starts is None:
        starts = list(range(0, trees + 1, each))
    if not isinstance(starts, list) or not 0 < rounds < len(starts) or not _numeric(starts) or not 0 < starts[rounds] <= trees:
        file.wrong(f"'best_iteration' is {rounds - 1:,}, which is no round of its trees")
    kept = int(starts[rounds])
    model["trees"], model["tree_info"] = model["trees"][:kept], model["tree_info"][:kept]
    model["gbtree_model_param"]["num_trees"] = str(kept)
    if "iteration_indptr" in model:
        model["iteration_indptr"] = starts[: rounds + 1]
    if "weight_drop" in file.booster:
        file.booster["weight_drop"] = file.booster["weight_drop"][:kept]
    return (f"training stopped early: {kept:,} of {trees:,} trees are used, as XGBoost's scikit-learn wrapper does",), rounds


def _split_by_sets(file: _File) -> set[int]:
    return {tree["split_indices"][node] for tree in file.model["trees"] for node in tree.get("categories_nodes", ())}


def _categories(file: _File) -> dict[int, pa.Array[Any] | None]:
    """Values by code of features that had some, as files of 3.1 and newer keep them."""
    cats = file.model.get("cats")
    if not isinstance(cats, dict):
        return {}
    found: dict[int, pa.Array[Any] | None] = {}
    for place, one in enumerate(_list(file, cats, "enc")):
        if not isinstance(one, dict) or not isinstance(values := one.get("values"), list):
            file.wrong("'cats' is not as it is known")
        if values:
            found[place] = _strings(file, one["offsets"], values) if "offsets" in one else _integers(file, values)
    return found


def _strings(file: _File, offsets: Any, values: list[Any]) -> pa.Array[Any]:
    try:
        text = bytes(one & 0xFF for one in values)
        if offsets != sorted(offsets) or offsets[0] != 0 or offsets[-1] != len(text):
            raise ValueError
        return pa.array([text[a:b].decode() for a, b in pairwise(offsets)], pa.string())
    except (TypeError, ValueError, IndexError):
        file.wrong("the names of categories in 'cats' cannot be read")


def _integers(file: _File, values: list[Any]) -> pa.Array[Any]:
    if not all(type(one) is int for one in values):
        file.wrong("its categories are numbers with fractions; texts and whole numbers are supported")
    return pa.array(values, pa.int64())


def _loaded(path: str, text: str) -> Any:
    treelite = library("treelite.frontend", "'scoring[forest]'", "importing a forest")
    try:
        return treelite.from_xgboost_json(text)
    except Exception as error:  # treelite raises its own error, and through ctypes others
        raise refused(path, error) from None

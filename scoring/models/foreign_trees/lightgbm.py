"""LightGBM's text: objectives, categories, and treelite on what was checked."""

from __future__ import annotations

import json
import re
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.errors import ModelError
from scoring.models.foreign_trees.found import Found, Predict, Predicted, installed, library, named, refused
from scoring.models.foreign_trees.lightgbm_text import Keys, Text, read_text
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


def read_lightgbm(path: str, data: bytes) -> Found:
    """Raises: ModelError: no model of LightGBM, or one that is not supported."""
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ModelError(f"{path} begins as a model of LightGBM, but is no text.") from None
    read = read_text(path, text)
    head, groups = read.head, read.groups
    names = named(path, head.of["feature_names"].split(" ") if head.of.get("feature_names") else [], read.features)
    link, alpha, objective = _objective(head, groups)
    categories, checked = _categories(read, text), read.written()
    return Found(
        _loaded(path, checked),
        f"lightgbm {head.of.get('version', 'v2')}, {objective or 'an objective of its own'}",
        names,
        False,
        link,
        "data_count",
        lambda: _predict(checked, groups, "average_output" in head.of, categories),
        alpha=alpha,
        classes=tuple(map(str, range(groups))) if link in ("softmax", "one_vs_all") else (),
        categories=categories,
        smallest=_ZERO,
        notes=(("margins are means over trees, where LightGBM's raw_score gives sums",) if "average_output" in head.of else ()),
    )


def _objective(head: Keys, groups: int) -> tuple[Link, float, str]:
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


def _categories(read: Text, text: str) -> dict[int, pa.Array[Any] | None]:
    """Features that are categorical in splits or in the head; with their values where pandas had some."""
    head, asked, features = read.head, read.asked, read.features
    infos = head.of.get("feature_infos", "").split()
    said = {place for place, info in enumerate(infos) if info != "none" and not info.startswith("[")}
    if not asked <= (said or asked):
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


def _values(head: Keys, values: Any) -> pa.Array[Any]:
    if isinstance(values, list) and values and all(isinstance(one, str) for one in values):
        return pa.array(values, pa.string())
    if isinstance(values, list) and all(type(one) is int for one in values):
        return pa.array(values, pa.int64())
    head.wrong("'pandas_categorical' holds other values than texts or whole numbers, which are supported")


def _loaded(path: str, checked: str) -> Any:
    treelite = library("treelite.frontend", "'scoring[forest]'", "importing a forest")
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write(checked)
            file.flush()
            return treelite.load_lightgbm_model(file.name)
    except Exception as error:
        raise refused(path, error) from None


def _predict(checked: str, groups: int, means: bool, categories: dict[int, pa.Array[Any] | None]) -> Predict | None:
    if (lightgbm := installed("lightgbm")) is None:
        return None
    try:
        opened = lightgbm.Booster(model_str=checked)  # without values of categories: codes are given
    except Exception:  # another version than the one that wrote it
        return None

    def predict(table: pa.Table) -> Predicted:
        rows = matrix(table, categories)
        margins = opened.predict(rows, raw_score=True).reshape(len(rows), -1)
        scores = opened.predict(rows).reshape(len(rows), -1)
        return Predicted(margins / (opened.num_trees() / groups) if means else margins, scores)

    return predict

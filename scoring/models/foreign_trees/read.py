"""A file of a forest, checked from end to end, as what a forest bundle holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from scoring.errors import ConfigError, ModelError
from scoring.models.foreign_trees.found import Found, Predict
from scoring.models.foreign_trees.legacy import read_legacy
from scoring.models.foreign_trees.lightgbm import read_lightgbm
from scoring.models.foreign_trees.sklearn import read_sklearn
from scoring.models.foreign_trees.sniff import read_file, sniff
from scoring.models.foreign_trees.trees import convert
from scoring.models.foreign_trees.xgboost import read_json
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.shape import MOST_REASONS, Feature, ForestShape, check_shape
from scoring.settings import Column

_WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool")
_NUMBERS = ("float32", "float64", *_WHOLE)


@dataclass(frozen=True)
class Asked:
    """What is to be output beside scores; `classes` renames those of the file, in its order."""

    margin: bool = False
    reasons: int = 0
    contributions: bool = False
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """`predict`: the source library on rows of the inputs, None where it is not installed or does not read the file."""

    source: str
    inputs: dict[str, Column]
    shape: ForestShape
    trees: Any
    cover: Cover | None
    predict: Predict | None
    notes: tuple[str, ...] = field(default=())


def read_forest(path: str, asked: Asked, types: dict[str, str] | None = None) -> Imported:
    """Read what XGBoost, LightGBM or scikit-learn saved. `types`: Arrow names of the types that columns have in a sample.

    Raises:
        ModelError: the file holds no forest that is supported, in one sentence. ConfigError: what was asked cannot be.
    """
    found = _found(path)
    forest = convert(path, found)
    shape = _shape(path, found, forest.margins, asked)
    if shape.explained and forest.cover is None:
        raise ModelError(
            f"{path} does not say how many training rows came to its nodes, so that scores cannot be explained; import it "
            f"without explain=… and contributions=…."
        )
    predict = found.predict()
    if found.must_agree and predict is None:
        raise ModelError(
            f"{path} was written by {found.source.split(',')[0]}, newer than what is known here; install that version of the "
            f"library, and its predictions will be compared."
        )
    return Imported(found.source, _inputs(found, types or {}), shape, forest.trees, forest.cover, predict, found.notes)


def _found(path: str) -> Found:
    data = read_file(path)
    kind = sniff(path, data)
    if kind == "lightgbm":
        return read_lightgbm(path, data)
    if kind == "skops":
        return read_sklearn(path, data)
    return read_legacy(path, data) if kind == "xgboost-legacy" else read_json(path, data, kind == "xgboost-ubjson")


def _shape(path: str, found: Found, margins: int, asked: Asked) -> ForestShape:
    if not 0 <= asked.reasons <= MOST_REASONS:
        raise ConfigError(f"explain={asked.reasons} cannot be: 0 to {MOST_REASONS} reasons are given.")
    classes = found.classes
    if asked.classes and len(asked.classes) != len(classes):
        raise ConfigError(f"classes=… names {len(asked.classes)}, but {path} has {len(classes)} classes.")
    if classes and len(classes) != margins:
        raise ModelError(f"{path}: {margins:,} sums of trees do not fit {len(classes):,} classes.")
    shape = ForestShape(
        tuple(Feature(name, place in found.categories, found.categories.get(place)) for place, name in enumerate(found.names)),
        found.rounded,
        found.link,
        margins,
        found.smallest,
        found.alpha,
        asked.classes or classes,
        asked.margin,
        asked.reasons,
        asked.contributions,
    )
    check_shape(shape, path)
    return shape


def _inputs(found: Found, types: dict[str, str]) -> dict[str, Column]:
    """Numbers as the library compares them, or as the sample has them; categories as the file keeps them."""
    inputs: dict[str, Column] = {}
    for place, name in enumerate(found.names):
        known, said = found.categories.get(place), types.get(name, "")
        if place not in found.categories:
            column = Column(said if said in _NUMBERS else "float32" if found.rounded else "float64")
        elif known is None or not pa.types.is_string(known.type):
            column = Column(said if said in _WHOLE and said != "bool" else "int64")
        else:
            column = Column("string")
        if known is not None and found.known_only:
            column = replace(column, allowed=tuple(known.to_pylist()))
        inputs[name] = replace(column, nullable=found.nullable)
    return inputs

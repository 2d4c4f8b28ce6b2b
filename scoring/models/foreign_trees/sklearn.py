"""scikit-learn's ensembles of trees, saved by skops: only types that such a model is made of are built, and arrays are checked
before treelite walks them without looking.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from scoring.errors import ModelError, told
from scoring.models.foreign_trees.found import Found, Numbers, Predict, Predicted, check_children, library, named, refused
from scoring.models.foreign_trees.predict import matrix
from scoring.models.forest_parts.shape import Link

_TREE = "sklearn.tree._tree.Tree"
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_ENCODER = {
    "functools.partial",
    "sklearn.utils.validation.check_array",
}  # a partial of this one function: how HGB encodes categories
FORESTS = ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor")
BOOSTED = ("GradientBoostingClassifier", "GradientBoostingRegressor")
HISTOGRAMS = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
KINDS = (*FORESTS, *BOOSTED, *HISTOGRAMS, "IsolationForest")


def read_sklearn(path: str, data: bytes) -> Found:
    """Raises: ModelError: no estimator of these, one of another version, or with parts that are not known."""
    for name in ("sklearn.ensemble", "skops.io", "treelite.sklearn"):
        library(name, "skops" if name == "skops.io" else "'scoring[forest]' scikit-learn", "importing a model of scikit-learn")
    estimator = _opened(path, data)
    kind = type(estimator).__name__
    if kind not in KINDS or not type(estimator).__module__.startswith("sklearn.ensemble."):
        raise ModelError(f"{path} holds a {kind}, which is not supported; {', '.join(KINDS)} are.")
    try:
        return _read(path, estimator, kind)
    except (AttributeError, TypeError, ValueError, IndexError, KeyError, OverflowError, AssertionError) as error:
        raise ModelError(
            f"{path}: the {kind} is not fitted, or not as scikit-learn {_version()} makes it: {told(error)}."
        ) from None


def _opened(path: str, data: bytes) -> Any:
    skops = library("skops.io", "skops", "importing a model of scikit-learn")
    try:
        asked = set(skops.get_untrusted_types(data=data))
        trusted = {_TREE} if asked <= {_TREE} else {_HISTOGRAM} | (_ENCODER if asked >= _ENCODER else set())
        if unknown := sorted(asked - trusted):
            raise ModelError(
                f"{path} holds {', '.join(unknown)[:200]}, which no supported model is made of; nothing of it was built."
            )
        return skops.loads(data, trusted=sorted(asked))
    except ModelError:
        raise
    except Exception as error:  # skops builds what the archive says: whatever may be wrong with that
        raise ModelError(f"{path} cannot be read by skops with scikit-learn {_version()}: {told(error)}.") from None


def _version() -> str:
    return str(library("sklearn", "scikit-learn", "importing a model of scikit-learn").__version__)


def _read(path: str, estimator: Any, kind: str) -> Found:
    features = int(estimator.n_features_in_)
    names = named(path, [str(name) for name in getattr(estimator, "feature_names_in_", ())], features)
    categories: dict[int, pa.Array[Any] | None] = {}
    link, alpha, classes = _link(path, estimator, kind)
    if kind in HISTOGRAMS:
        categories = _categories(path, estimator)
        _check_histograms(path, estimator, features, len(classes) or 1)
    else:
        _check_trees(path, estimator, kind, features)
    return Found(
        _loaded(path, estimator, kind),
        f"scikit-learn {_version()}, {kind}",
        names,
        kind not in HISTOGRAMS,
        link,
        "data_count" if kind in HISTOGRAMS else "sum_hess",
        lambda: _predict(estimator, kind, categories, names if hasattr(estimator, "feature_names_in_") else ()),
        alpha=alpha,
        classes=classes,
        categories=categories,
        nullable=bool(estimator.__sklearn_tags__().input_tags.allow_nan),
        notes=("scores are -score_samples: the higher, the more anomalous",) if kind == "IsolationForest" else (),
    )


def _link(path: str, estimator: Any, kind: str) -> tuple[Link, float, tuple[str, ...]]:
    if getattr(estimator, "n_outputs_", 1) != 1 and kind in FORESTS and kind.endswith("Classifier"):
        _wrong(path, f"the {kind} has {estimator.n_outputs_} outputs; classifiers of one are supported")
    if kind == "IsolationForest":
        return (
            "anomaly",
            float(library("treelite.sklearn.isolation_forest", "treelite", "").expected_depth(estimator.max_samples_)),
            (),
        )
    if kind.endswith("Regressor"):
        return ("exponential" if kind in HISTOGRAMS and estimator.loss in ("poisson", "gamma") else "identity"), 1.0, ()
    classes = tuple(map(str, estimator.classes_.tolist()))
    if kind in FORESTS:
        return "probabilities", 1.0, classes
    if len(classes) > 2:
        return "softmax", 1.0, classes
    return "sigmoid", (2.0 if estimator.loss == "exponential" else 1.0), ()  # treelite does not know the loss


def _wrong(path: str, what: str) -> NoReturn:
    raise ModelError(f"{path}: {what}.")


def _check_trees(path: str, estimator: Any, kind: str, features: int) -> None:
    """Shapes and ranges of all arrays of all trees."""
    rows, groups = estimator.estimators_, 1
    if kind in BOOSTED:
        groups = 1 if kind.endswith("Regressor") or estimator.n_classes_ == 2 else int(estimator.n_classes_)
        if np.shape(rows) != (len(rows), groups):
            _wrong(path, f"its trees are {np.shape(rows)}, expected {groups} in each round")
        if estimator.init_ != "zero" and type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
            _wrong(
                path, f"it begins with a {type(estimator.init_).__name__} (init), which is not supported; init=None and 'zero' are"
            )
    width = int(np.max(estimator.n_classes_)) if kind in FORESTS and kind.endswith("Classifier") else 1
    outputs = int(estimator.n_outputs_) if kind in FORESTS else 1
    for place, one in enumerate(np.ravel(np.array(rows, object)) if kind in BOOSTED else rows):
        tree, where = one.tree_, f"{path}: tree {place:,}"
        nodes = int(tree.node_count)
        if tree.value.shape != (nodes, outputs, width):
            _wrong(where, f"its leaves are {tree.value.shape}, expected {(nodes, outputs, width)}")
        inner = tree.children_left >= 0
        check_children(where, tree.children_left.astype(np.int64), tree.children_right.astype(np.int64))
        own = estimator.estimators_features_[place] if kind == "IsolationForest" else np.arange(features)
        asked = tree.feature[inner]
        if asked.size and not (asked.min() >= 0 and asked.max() < len(own) and min(own) >= 0 and max(own) < features):
            _wrong(where, f"it asks for a feature beyond {features:,}")
        if kind == "IsolationForest" and int(tree.max_depth) > 200:
            _wrong(where, f"it has {tree.max_depth:,} levels, expected 200 at most")


def _check_histograms(path: str, estimator: Any, features: int, groups: int) -> None:
    record = library("sklearn.ensemble._hist_gradient_boosting.common", "scikit-learn", "").PREDICTOR_RECORD_DTYPE
    if len(estimator._predictors) != estimator.n_iter_ or any(len(one) != groups for one in estimator._predictors):
        _wrong(path, f"it has {len(estimator._predictors):,} rounds of trees, expected {estimator.n_iter_:,} of {groups:,}")
    for place, one in enumerate(tree for each in estimator._predictors for tree in each):
        nodes, sets, where = one.nodes, one.raw_left_cat_bitsets, f"{path}: tree {place:,}"
        if nodes.dtype != record or nodes.ndim != 1 or sets.dtype != np.uint32 or sets.shape != (len(sets), 8):
            _wrong(where, "its arrays are not as scikit-learn makes them")
        inner = nodes["is_leaf"] == 0
        left, right = (np.where(inner, nodes[key].astype(np.int64), -1) for key in ("left", "right"))
        check_children(where, left, right)
        asked = nodes[inner]
        if asked.size and (int(asked["feature_idx"].min()) < 0 or int(asked["feature_idx"].max()) >= features):
            _wrong(where, f"it asks for a feature beyond {features:,}")
        by_set = asked[asked["is_categorical"] != 0]
        if by_set.size and int(by_set["bitset_idx"].max()) >= len(sets):
            _wrong(where, "it asks for a set of categories that is not there")


def _categories(path: str, estimator: Any) -> dict[int, pa.Array[Any] | None]:
    """The values that the estimator's own encoder numbers, by feature."""
    preprocessor = getattr(estimator, "_preprocessor", None)
    if preprocessor is None:
        if estimator.is_categorical_ is not None:
            _wrong(path, "it was fitted by scikit-learn before 1.4; fit it again")
        return {}
    encoder = preprocessor.transformers_[0][1]
    places = np.flatnonzero(estimator.is_categorical_).tolist()
    return {place: _values(path, values.tolist()) for place, values in zip(places, encoder.categories_, strict=True)}


def _values(path: str, values: list[Any]) -> pa.Array[Any]:
    known = [one for one in values if one is not None and one == one]
    if known != values[: len(known)]:
        _wrong(path, "a missing value is among its categories, and not the last of them")
    if all(isinstance(one, str) for one in known):
        return pa.array(known, pa.string())
    if not all(float(one).is_integer() for one in known):
        _wrong(path, "its categories are numbers with fractions; texts and whole numbers are supported")
    return pa.array([int(one) for one in known], pa.int64())


def _loaded(path: str, estimator: Any, kind: str) -> Any:
    treelite = library("treelite.sklearn", "'scoring[forest]'", "importing a forest")
    given = copy.copy(estimator)
    if kind in HISTOGRAMS and getattr(estimator, "_preprocessor", None) is not None:
        encoded = [np.arange(len(one)) for one in estimator._preprocessor.transformers_[0][1].categories_]  # codes are ours to make
        _, numerical, *rest = estimator._preprocessor.transformers_
        given._preprocessor = SimpleNamespace(
            transformers_=[("encoder", SimpleNamespace(categories_=encoded), []), numerical, *rest]
        )
    elif kind not in HISTOGRAMS:
        given.n_estimators = len(given.estimators_)  # of training that stopped early, treelite would read beyond the end
    try:
        return treelite.import_model(given)
    except Exception as error:
        raise refused(f"{path}: the {kind}", error) from None


def _predict(estimator: Any, kind: str, categories: dict[int, pa.Array[Any] | None], names: tuple[str, ...]) -> Predict:
    def predict(table: pa.Table) -> Predicted:
        rows: Any = _frame(table, categories, names)
        if kind == "IsolationForest":
            return Predicted(scores=_two(-estimator.score_samples(rows)))
        if kind.endswith("Regressor"):
            found = _two(estimator.predict(rows))
            return Predicted(None if kind in HISTOGRAMS and estimator.loss in ("poisson", "gamma") else found, found)
        scores = estimator.predict_proba(rows)
        if kind in FORESTS:
            return Predicted(scores, scores)
        return Predicted(_two(estimator.decision_function(rows)), scores if scores.shape[1] > 2 else scores[:, 1:])

    return predict


def _two(found: Numbers) -> Numbers:
    return found.reshape(len(found), -1).astype(np.float64)


def _frame(table: pa.Table, categories: dict[int, pa.Array[Any] | None], names: tuple[str, ...]) -> Any:
    """A matrix, or columns of objects where categories are not numbers: the estimator's own encoder gives them codes."""
    columns = list(matrix(table, {}).T) if not categories else []
    if not columns:
        for place, column in enumerate(table.columns):
            values = column.to_pylist()
            text = place in categories and pa.types.is_string(column.type)
            columns.append(np.array(values if text else [np.nan if one is None else one for one in values], object))
    rows = np.column_stack(columns)
    if rows.dtype == object and not any(pa.types.is_string(column.type) for column in table.columns):
        rows = rows.astype(np.float64)
    if not names and rows.dtype != object:
        return rows
    pandas = library("pandas", "pandas", "predicting with scikit-learn")
    frame = pandas.DataFrame({name: column for name, column in zip(names or table.column_names, rows.T, strict=True)})
    numeric = [name for place, name in enumerate(frame.columns) if not pa.types.is_string(table.column(place).type)]
    return frame.astype(dict.fromkeys(numeric, np.float64))

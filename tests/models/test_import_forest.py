"""Forests trained here, in seconds, with what libraries can do to them: each scores as its library does, or is refused by name."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pytest

from scoring.errors import ModelError
from scoring.models.foreign_trees import rows
from scoring.models.foreign_trees.agree import check_library
from scoring.models.foreign_trees.read import Asked, read_forest
from scoring.models.forest_parts import plain

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
skops = pytest.importorskip("skops.io")
pytest.importorskip("treelite")
pandas = pytest.importorskip("pandas")
threadpoolctl = pytest.importorskip("threadpoolctl")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sklearn import ensemble

RANDOM = np.random.default_rng(1)
ROWS = 600
X = RANDOM.standard_normal((ROWS, 5))
X[RANDOM.random(X.shape) < 0.1] = np.nan
X[RANDOM.random(X.shape) < 0.05] = 0.0
WHOLE = np.nan_to_num(X)
CODES = X.copy()
CODES[:, 0] = RANDOM.integers(0, 40, ROWS)
NUMBER = WHOLE[:, 1] * 2 + WHOLE[:, 2] ** 2 + np.where(np.isnan(X[:, 3]), 1, -1) + (CODES[:, 0] % 3) + 0.3 * X[:, 4].clip(-1, 1)
NUMBER = np.nan_to_num(NUMBER)
YES = (np.median(NUMBER) < NUMBER).astype(int)
KIND = np.digitize(NUMBER, np.quantile(NUMBER, [0.33, 0.66]))
POSITIVE = NUMBER - NUMBER.min() + 0.1
WORDS = pandas.DataFrame({"c": pandas.Categorical(np.array(list("abqz"))[RANDOM.integers(0, 4, ROWS)]), "x": X[:, 1]})
WORDS["n"] = pandas.Categorical(np.array([5, 7, -2])[RANDOM.integers(0, 3, ROWS)])
BY_WORD = ((WORDS.c == "z") | (WORDS.n == 7) | (WORDS.x > 0.5)).astype(int)


@pytest.fixture(autouse=True)
def _quiet():
    """One thread: on a busy machine, threads of OpenMP wait for each other."""
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
        warnings.simplefilter("ignore")
        yield


def tried(path, asked=None):
    """What was read, rows drawn from its thresholds, and our margins and scores of them."""
    found = read_forest(str(path), asked or Asked())
    table = rows.drawn(found.shape, found.trees, found.inputs)
    scores = plain.outputs(found.shape, found.trees, None, table)
    assert check_library(str(path), found, table).compared
    return found, table, plain.margins(found.shape, found.trees, table), scores[:, : found.shape.margins]


def matrix(table):
    return np.column_stack([np.asarray(column.cast(pa.float64()).to_numpy(), np.float64) for column in table.columns])


def same(ours, theirs, tolerance=1e-6):
    theirs = np.asarray(theirs, np.float64).reshape(len(ours), -1)
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))).max() <= tolerance


LIGHTGBM = {
    "binary": ({"objective": "binary"}, X, YES),
    "binary, a slope": ({"objective": "binary", "sigmoid": 0.7}, X, YES),
    "unbalanced": ({"objective": "binary", "is_unbalance": True}, X, YES),
    "square root": ({"objective": "regression", "reg_sqrt": True}, X, POSITIVE),
    **{
        name: ({"objective": name}, X, POSITIVE)
        for name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie")
    },
    "cross_entropy": ({"objective": "cross_entropy"}, X, YES * 0.8 + 0.1),
    "cross_entropy_lambda": ({"objective": "cross_entropy_lambda"}, X, YES * 0.8 + 0.1),
    "multiclass": ({"objective": "multiclass", "num_class": 3}, X, KIND),
    "multiclassova": ({"objective": "multiclassova", "num_class": 3, "sigmoid": 1.5}, X, KIND),
    "lambdarank": ({"objective": "lambdarank"}, X, KIND),
    "rank_xendcg": ({"objective": "rank_xendcg"}, X, KIND),
    "no missing values in training": ({"objective": "binary"}, WHOLE, YES),
    "use_missing=false": ({"objective": "binary", "use_missing": False}, X, YES),
    "dart": ({"objective": "binary", "boosting": "dart", "drop_rate": 0.3}, X, YES),
    "trees of one leaf": ({"objective": "regression"}, X, np.ones(ROWS)),
    "an objective of its own": ({"objective": lambda p, d: (p - d.get_label(), np.ones(len(p)))}, X, POSITIVE),
    "random forest": ({"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}, X, YES),
    "random forest of classes": (
        {"objective": "multiclass", "num_class": 3, "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
        X,
        KIND,
    ),
    "categories": ({"objective": "binary", "min_data_per_group": 2}, CODES, YES),
}


@pytest.mark.parametrize("case", LIGHTGBM)
def test_lightgbm(case, tmp_path):
    params, given, target = LIGHTGBM[case]
    groups = {"group": [20] * 30} if "rank" in case else {"categorical_feature": [0]} if case == "categories" else {}
    params = {"verbose": -1, "num_leaves": 12, "min_data_in_leaf": 5, "seed": 1} | params
    booster = lightgbm.train(params, lightgbm.Dataset(given, target, **groups), 9)
    booster.save_model(tmp_path / "model.txt")
    found, table, margins, scores = tried(tmp_path / "model.txt")
    means = 9 if params.get("boosting") == "rf" else 1
    same(margins, booster.predict(matrix(table), raw_score=True) / means, 1e-12)
    same(scores, booster.predict(matrix(table)), 1e-12)
    assert list(found.inputs) == [f"Column_{n}" for n in range(5)]
    assert {c.dtype for c in found.inputs.values()} == ({"int64", "float64"} if case == "categories" else {"float64"})


XGBOOST = {
    **{name: ({"objective": name}, YES) for name in ("binary:logistic", "reg:logistic", "binary:logitraw", "binary:hinge")},
    **{
        name: ({"objective": name}, POSITIVE)
        for name in (
            "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "count:poisson", "reg:gamma",
            "reg:tweedie", "survival:cox", "survival:aft",
        )
    },
    "quantiles": ({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}, POSITIVE),
    **{name: ({"objective": name, "num_class": 3}, KIND) for name in ("multi:softmax", "multi:softprob")},
    **{name: ({"objective": name}, (KIND > 0).astype(int)) for name in ("rank:ndcg", "rank:pairwise", "rank:map")},
    "dart": ({"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.4}, YES),
    "dart of classes": ({"objective": "multi:softprob", "num_class": 3, "booster": "dart", "rate_drop": 0.4}, KIND),
    "base score": ({"objective": "binary:logistic", "base_score": 0.7}, YES),
    "parallel trees": ({"objective": "binary:logistic", "num_parallel_tree": 3, "subsample": 0.6}, YES),
    "parallel trees of classes": ({"objective": "multi:softprob", "num_class": 3, "num_parallel_tree": 2, "subsample": 0.6}, KIND),
    "targets": ({"objective": "reg:squarederror"}, np.stack([POSITIVE, -POSITIVE, POSITIVE**2 / 9], 1)),
    "targets in one tree": ({"multi_strategy": "multi_output_tree"}, np.stack([POSITIVE, -POSITIVE], 1)),
    "classes in one tree": ({"objective": "multi:softprob", "num_class": 3, "multi_strategy": "multi_output_tree"}, KIND),
    "labels": ({"objective": "binary:logistic"}, np.stack([YES, 1 - YES], 1)),
}  # fmt: skip


def boosted(params, given, target, rounds=8, **more):
    if params.get("objective") == "survival:aft":
        more |= {"label_lower_bound": target, "label_upper_bound": target * 1.2}
    elif "rank" in params.get("objective", ""):
        more |= {"group": [20] * 30, "label": target}
    else:
        more |= {"label": target}
    return xgboost.train({"max_depth": 4, "seed": 1, "verbosity": 0, **params}, xgboost.DMatrix(given, **more), rounds)


@pytest.mark.parametrize("form", ["json", "ubj"])
@pytest.mark.parametrize("case", XGBOOST)
def test_xgboost(case, form, tmp_path):
    booster = boosted(XGBOOST[case][0], X, XGBOOST[case][1])
    booster.save_model(tmp_path / f"model.{form}")
    found, table, margins, scores = tried(tmp_path / f"model.{form}")
    given = xgboost.DMatrix(matrix(table))
    same(margins, booster.predict(given, output_margin=True))
    if case == "multi:softmax":
        two = np.sort(scores, axis=1)[:, -2:]
        sure = two[:, 1] - two[:, 0] > 1e-6
        assert (scores.argmax(1) == booster.predict(given))[sure].all()
    else:
        same(scores, booster.predict(given), 1e-5 if found.shape.link == "exponential" else 1e-6)
    assert {c.dtype for c in found.inputs.values()} == {"float32"}
    assert found.cover is not None


@pytest.mark.parametrize("most", [4, 100])
def test_categories_by_code_of_xgboost(most, tmp_path):
    kinds = ["c", "q", "q", "int", "i"]
    given = CODES.copy()
    given[:, 3:] = RANDOM.integers(0, 2, (ROWS, 2))
    booster = boosted({"objective": "binary:logistic", "max_cat_to_onehot": most}, given, YES, feature_types=kinds)
    booster.save_model(tmp_path / "model.json")
    found, table, margins, _ = tried(tmp_path / "model.json")
    own = xgboost.DMatrix(matrix(table), feature_types=kinds)
    same(margins, booster.predict(own, output_margin=True))
    assert found.shape.features[0].categorical
    assert found.shape.features[0].categories is None
    assert [c.dtype for c in found.inputs.values()] == ["int64", *["float32"] * 4]


def frame(table, values):
    """As pandas gives it to a library: categories in another order than in training."""
    given = {}
    for name in table.column_names:
        column = table.column(name).to_pylist()
        known = values.get(name)
        given[name] = np.array(column, np.float64) if known is None else pandas.Categorical(column, categories=known)
    return pandas.DataFrame(given)


@pytest.mark.parametrize("form", ["json", "ubj"])
def test_categories_by_name_of_xgboost(form, tmp_path):
    booster = boosted({"objective": "binary:logistic", "max_cat_to_onehot": 1}, WORDS, BY_WORD, enable_categorical=True)
    booster.save_model(tmp_path / f"model.{form}")
    found, table, margins, _ = tried(tmp_path / f"model.{form}")
    assert [found.inputs[name].allowed for name in "cxn"] == [("a", "b", "q", "z"), None, (-2, 5, 7)]
    assert [found.inputs[name].dtype for name in "cxn"] == ["string", "float32", "int64"]
    given = xgboost.DMatrix(frame(table, {"c": list("abqz"), "n": [-2, 5, 7]}), enable_categorical=True)
    same(margins, booster.predict(given, output_margin=True))


def test_categories_by_name_of_lightgbm(tmp_path):
    params = {"objective": "binary", "verbose": -1, "min_data_per_group": 2, "min_data_in_leaf": 5}
    booster = lightgbm.train(params, lightgbm.Dataset(WORDS, BY_WORD), 9)
    booster.save_model(tmp_path / "model.txt")
    found, table, margins, _ = tried(tmp_path / "model.txt")
    assert [found.inputs[name].dtype for name in "cxn"] == ["string", "float64", "int64"]
    assert "\u2026unseen" in table.column("c").to_pylist()
    given = frame(table, {"c": ["z", "q", "b", "a"], "n": [7, 5, -2]})  # what is not among them is missing
    same(margins, booster.predict(given, raw_score=True), 1e-12)


def test_early_stopping_of_the_wrapper(tmp_path):
    made = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=2, max_depth=4, learning_rate=0.7, seed=1)
    for target, name in ((YES, "two"), (KIND, "three")):
        made.fit(X[:300], target[:300], eval_set=[(X[300:], target[300:])], verbose=False)
        made.save_model(tmp_path / f"{name}.json")
        found, table, margins, scores = tried(tmp_path / f"{name}.json")
        assert made.best_iteration + 1 < made.get_booster().num_boosted_rounds()
        assert any("stopped early" in note for note in found.notes)
        same(margins, made.predict(matrix(table), output_margin=True))
        theirs = made.predict_proba(matrix(table))
        same(scores, theirs if name == "three" else theirs[:, 1])


def test_early_stopping_of_train_uses_all_trees(tmp_path):
    held = xgboost.DMatrix(X[300:], YES[300:])
    params = {"objective": "binary:logistic", "max_depth": 4, "learning_rate": 0.7}
    booster = xgboost.train(
        params, xgboost.DMatrix(X[:300], YES[:300]), 60, [(held, "held")], early_stopping_rounds=2, verbose_eval=False
    )
    booster.save_model(tmp_path / "model.json")
    found, table, margins, _ = tried(tmp_path / "model.json")
    same(margins, booster.predict(xgboost.DMatrix(matrix(table)), output_margin=True))
    assert "Booster.predict" in found.notes[0]


SKLEARN = {
    "RandomForestClassifier": lambda: ensemble.RandomForestClassifier(9, max_depth=6, random_state=1).fit(X, YES),
    "no missing values": lambda: ensemble.RandomForestClassifier(9, max_depth=6, random_state=1).fit(WHOLE, YES),
    "names of classes": lambda: ensemble.RandomForestClassifier(9, random_state=1).fit(X, np.array(["no", "so", "yes"])[KIND]),
    "weights": lambda: ensemble.RandomForestClassifier(9, class_weight="balanced", random_state=1, oob_score=True).fit(X, YES),
    "RandomForestRegressor": lambda: ensemble.RandomForestRegressor(9, random_state=1).fit(X, NUMBER),
    "several numbers": lambda: ensemble.RandomForestRegressor(9, random_state=1).fit(X, np.stack([NUMBER, -NUMBER], 1)),
    "ExtraTreesClassifier": lambda: ensemble.ExtraTreesClassifier(9, random_state=1).fit(X, KIND),
    "ExtraTreesRegressor": lambda: ensemble.ExtraTreesRegressor(9, random_state=1).fit(X, NUMBER),
    "monotonic": lambda: ensemble.RandomForestClassifier(9, monotonic_cst=[1, 0, 0, 0, 0], random_state=1).fit(WHOLE, YES),
    "GradientBoostingClassifier": lambda: ensemble.GradientBoostingClassifier(n_estimators=9).fit(WHOLE, YES),
    "boosted classes": lambda: ensemble.GradientBoostingClassifier(n_estimators=5).fit(WHOLE, KIND),
    "exponential loss": lambda: ensemble.GradientBoostingClassifier(loss="exponential", n_estimators=9).fit(WHOLE, YES),
    "stopped early": lambda: ensemble.GradientBoostingClassifier(n_estimators=300, n_iter_no_change=2).fit(WHOLE, YES),
    "no start": lambda: ensemble.GradientBoostingClassifier(n_estimators=9, init="zero").fit(WHOLE, YES),
    **{
        f"GradientBoostingRegressor, {loss}": lambda loss=loss: ensemble.GradientBoostingRegressor(loss=loss, n_estimators=9).fit(
            WHOLE, NUMBER
        )
        for loss in ("squared_error", "absolute_error", "huber", "quantile")
    },
    "HistGradientBoostingClassifier": lambda: ensemble.HistGradientBoostingClassifier(max_iter=9).fit(X, YES),
    "histograms of classes": lambda: ensemble.HistGradientBoostingClassifier(max_iter=5).fit(X, KIND),
    "histograms, stopped early": lambda: ensemble.HistGradientBoostingClassifier(
        max_iter=200, early_stopping=True, n_iter_no_change=2, random_state=1
    ).fit(X, YES),
    **{
        f"HistGradientBoostingRegressor, {loss}": lambda loss=loss: ensemble.HistGradientBoostingRegressor(
            max_iter=9, loss=loss, quantile=0.9
        ).fit(X, POSITIVE)
        for loss in ("squared_error", "absolute_error", "poisson", "gamma", "quantile")
    },
    "IsolationForest": lambda: ensemble.IsolationForest(n_estimators=9, random_state=1).fit(X),
    "features of each tree": lambda: ensemble.IsolationForest(
        n_estimators=9, max_features=0.5, contamination=0.1, random_state=1
    ).fit(WHOLE),
}


def scores_of(made, given):
    if isinstance(made, ensemble.IsolationForest):
        return -made.score_samples(given)
    if not hasattr(made, "predict_proba"):
        return made.predict(given)
    found = made.predict_proba(given)
    return found[:, 1] if "Boosting" in type(made).__name__ and found.shape[1] == 2 else found


@pytest.mark.parametrize("case", SKLEARN)
def test_sklearn(case, tmp_path):
    made = SKLEARN[case]()
    skops.dump(made, tmp_path / "model.skops")
    found, table, margins, scores = tried(tmp_path / "model.skops")
    same(scores, scores_of(made, matrix(table)), 1e-9)
    if "Boosting" in type(made).__name__ and hasattr(made, "decision_function"):
        same(margins, made.decision_function(matrix(table)), 1e-9)
    hist = "Hist" in type(made).__name__
    assert {c.dtype for c in found.inputs.values()} == {"float64" if hist else "float32"}
    assert {c.nullable for c in found.inputs.values()} == {bool(made.__sklearn_tags__().input_tags.allow_nan)}
    if found.shape.classes:
        assert found.shape.classes == tuple(map(str, made.classes_))


def test_values_of_float64_are_rounded_as_sklearn_rounds(tmp_path):
    made = ensemble.RandomForestClassifier(9, random_state=1).fit(X, YES)
    skops.dump(made, tmp_path / "model.skops")
    found = read_forest(str(tmp_path / "model.skops"), Asked(), dict.fromkeys((f"f{n}" for n in range(5)), "float64"))
    table = rows.drawn(found.shape, found.trees, found.inputs)
    assert {str(kind) for kind in table.schema.types} == {"double"}
    same(plain.margins(found.shape, found.trees, table), made.predict_proba(matrix(table)), 1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (CODES * [3, 1, 1, 1, 1], [0]),  # values are not codes
        lambda: (CODES[:, ::-1] * [1, 1, 1, 1, 7], [4]),  # and their column is not the first
    ],
)
def test_categories_of_histograms(make, tmp_path):
    given, places = make()
    made = ensemble.HistGradientBoostingClassifier(max_iter=9, categorical_features=places).fit(given, YES)
    skops.dump(made, tmp_path / "model.skops")
    found, table, margins, _ = tried(tmp_path / "model.skops")
    known = found.shape.features[places[0]].categories.to_pylist()
    assert known == sorted({*map(int, given[:, places[0]])})
    assert max(known) + 1 in table.column(places[0]).to_pylist()
    same(margins, made.decision_function(matrix(table)), 1e-9)


def test_words_of_histograms(tmp_path):
    given = WORDS.astype({"n": str}).astype({"n": "category"})
    made = ensemble.HistGradientBoostingClassifier(max_iter=9, categorical_features="from_dtype").fit(given, BY_WORD)
    skops.dump(made, tmp_path / "model.skops")
    found, table, margins, _ = tried(tmp_path / "model.skops")
    assert [found.inputs[name].dtype for name in "cxn"] == ["string", "float64", "string"]
    own = frame(table, {"c": ["z", "q", "b", "a", "\u2026unseen"], "n": ["7", "5", "-2", "\u2026unseen"]})
    same(margins, made.decision_function(own), 1e-9)


def test_names_and_classes(tmp_path):
    named = pandas.DataFrame(WHOLE, columns=["age", "income", "c d", "x[0]", "é"])
    skops.dump(ensemble.RandomForestClassifier(3, random_state=1).fit(named, KIND), tmp_path / "a.skops")
    found, *_ = tried(tmp_path / "a.skops", Asked(classes=("low", "middle", "high")))
    assert (list(found.inputs), found.shape.classes) == (list(named.columns), ("low", "middle", "high"))
    booster = boosted({"objective": "reg:squarederror"}, WHOLE, NUMBER, feature_names=["age", "income", "c d", "x", "é"])
    booster.save_model(tmp_path / "b.ubj")
    assert list(tried(tmp_path / "b.ubj")[0].inputs) == ["age", "income", "c d", "x", "é"]


def saved(booster, path):
    booster.save_model(path)
    return json.loads(path.read_text())


def rewritten(change):
    """A file of XGBoost with a change in it."""

    def make(folder):
        booster = boosted({"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.4}, X, YES)
        root = saved(booster, folder / "model.json")
        change(root)
        (folder / "model.json").write_text(json.dumps(root))
        return folder / "model.json"

    return make


def lightgbm_with(**params):
    def make(folder):
        params.setdefault("objective", "binary")
        lightgbm.train({"verbose": -1, **params}, lightgbm.Dataset(X, YES), 5).save_model(folder / "model.txt")
        return folder / "model.txt"

    return make


def sklearn_with(build):
    def make(folder):
        skops.dump(build(), folder / "model.skops")
        return folder / "model.skops"

    return make


def linear(folder):
    boosted({"objective": "binary:logistic", "booster": "gblinear"}, X, YES).save_model(folder / "model.json")
    return folder / "model.json"


def dumped(folder):
    boosted({"objective": "binary:logistic"}, X, YES).dump_model(folder / "model.json", dump_format="json")
    return folder / "model.json"


def undone(root):
    del root["learner"]["gradient_booster"]["weight_drop"]


def trees_of(root):
    return root["learner"]["gradient_booster"]["gbtree"]["model"]["trees"]


def circular(root):
    trees_of(root)[0]["left_children"][1] = 0


REFUSED = {
    "zero_as_missing": (lightgbm_with(zero_as_missing=True), "zero_as_missing"),
    "linear trees": (lightgbm_with(linear_tree=True, objective="regression"), "linear_tree"),
    "gblinear": (linear, "gblinear"),
    "a dump": (dumped, "dump_model"),
    "dart without weights": (rewritten(undone), "weight_drop"),
    "too few weights": (rewritten(lambda root: root["learner"]["gradient_booster"]["weight_drop"].pop()), "weight_drop"),
    "weights without dart": (
        rewritten(
            lambda root: root["learner"]["gradient_booster"].update(
                name="gbtree", model=root["learner"]["gradient_booster"]["gbtree"]["model"]
            )
        ),
        "weight_drop",
    ),
    "an unknown objective": (rewritten(lambda root: root["learner"]["objective"].update(name="reg:mine")), "reg:mine"),
    "a circle": (rewritten(circular), "tree 0: a child is no node"),
    "two parents": (rewritten(lambda root: trees_of(root)[0]["left_children"].__setitem__(1, 2)), "two parents"),
    "a child beyond": (rewritten(lambda root: trees_of(root)[0]["right_children"].__setitem__(0, 10**9)), "no node of"),
    "a feature beyond": (rewritten(lambda root: trees_of(root)[0]["split_indices"].__setitem__(0, 5)), "beyond 5"),
    "a leaf of NaN": (rewritten(lambda root: trees_of(root)[0].update(split_conditions=[float("nan")] * 99)), "split_conditions"),
    "of tomorrow": (rewritten(lambda root: root.update(version=[9, 0, 0])), "newer than what is known"),
    "several outputs": (
        sklearn_with(lambda: ensemble.RandomForestClassifier(3).fit(X, np.stack([YES, KIND], 1))),
        "2 outputs",
    ),
    "another start": (
        sklearn_with(
            lambda: ensemble.GradientBoostingClassifier(n_estimators=3, init=ensemble.RandomForestClassifier(3)).fit(WHOLE, YES)
        ),
        r"begins with a RandomForestClassifier \(init\)",
    ),
    "another estimator": (sklearn_with(lambda: ensemble.BaggingClassifier().fit(WHOLE, YES)), "BaggingClassifier"),
    "not fitted": (sklearn_with(lambda: ensemble.RandomForestClassifier()), "not fitted"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case, tmp_path):
    make, said = REFUSED[case]
    with pytest.raises(ModelError, match=said) as found:
        read_forest(str(make(tmp_path)), Asked())
    assert len(str(found.value).splitlines()) == 1

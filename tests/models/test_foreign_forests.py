"""Every file of a forest that others published: it scores as it is expected to, or is refused with the reason."""

import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scoring.errors import ModelError
from scoring.models.bundle import input_schema
from scoring.models.foreign_trees import rows
from scoring.models.foreign_trees.agree import check_library
from scoring.models.foreign_trees.read import Asked, read_forest
from scoring.models.forest_parts import plain

DATA = Path(__file__).parents[3] / "shared" / "data" / "models"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the files of others lie beside the project")
pytest.importorskip("treelite")

READ = (  # file, what it holds, margins
    ("treelite/mushroom/model.xgb.bin", "xgboost (binary), binary:logistic", 1),
    ("treelite/mushroom/derived_model.json", "xgboost 1.7.6, binary:logistic", 1),
    ("treelite/toy_categorical/model.lgb.txt", "lightgbm v2, regression", 1),
    ("treelite/xgb_toy_categorical/model.xgb.json", "xgboost 1.4.0, reg:squarederror", 1),
    ("leaves/genlin_poisson/model.txt", "lightgbm v3, poisson", 1),
    ("leaves/lg_multiclass/model.txt", "lightgbm v2, multiclass", 5),
    ("leaves/lg_rf_iris/model.txt", "lightgbm v2, binary", 1),
    ("leaves/lg_breast_cancer_leaf_index/model.txt", "lightgbm v3, binary", 1),
    ("leaves/xg_agaricus/model.bin", "xgboost (binary), binary:logistic", 1),
    ("leaves/xg_agaricus/derived_model.json", "xgboost 1.7.6, binary:logistic", 1),
    ("xgboost_predictor_java/gbtree_spark_iris/model.xgb.bin", "xgboost (binary), multi:softmax", 3),
    ("xgboost_predictor_java/gbtree_spark_iris/derived_model.json", "xgboost 1.7.6, multi:softmax", 3),
    ("xgboost_predictor_java/gbtree_v47_binary_logistic/model.xgb.bin", "xgboost (binary), binary:logistic", 1),
    ("xgboost_predictor_java/gbtree_v47_binary_logistic/derived_model.json", "xgboost 1.7.6, binary:logistic", 1),
    ("xgboost_predictor_java/gbtree_v47_multi_softmax/model.xgb.bin", "xgboost (binary), multi:softmax", 2),
    ("xgboost_predictor_java/gbtree_v47_multi_softmax/derived_model.json", "xgboost 1.7.6, multi:softmax", 2),
    ("xgboost_predictor_java/gbtree_v47_rank_pairwise/model.xgb.bin", "xgboost (binary), rank:pairwise", 1),
    ("xgboost_predictor_java/gbtree_v47_rank_pairwise/derived_model.json", "xgboost 1.7.6, rank:pairwise", 1),
)
REFUSED = (
    ("xgboost_predictor_java/gbtree_v40_binary_logitraw/model.xgb.bin", "XGBoost 0.4 or with several roots"),
    ("xgboost_predictor_java/_wrapped/iris.model.spark", "wrapper of XGBoost for Spark"),
    ("vespa/xgboost.2.2.dump.json", "JSON dump of XGBoost"),
    ("vespa/lightgbm_classification.json", "JSON dump of LightGBM"),
    ("vespa/lightgbm_regression.json", "JSON dump of LightGBM"),
    ("leaves/_fragments/tree_1leaf.txt", "piece of a LightGBM model"),
    ("leaves/_fragments/tree_3leaves.txt", "piece of a LightGBM model"),
    ("leaves/_fragments/lg_1tree_1leaf.json", "JSON dump of LightGBM"),
)


def told(where, case, features):
    """The rows of a case: features as floats, NaN where they are absent, or 0, as it says."""
    given = where.parent / case["input"]
    lines = [line.split("#")[0] for line in given.read_text().splitlines() if line.strip()]
    if given.suffix != ".libsvm":
        found = np.array([[float(one) for one in line.replace(",", " ").split()] for line in lines])
        return found[:, found.shape[1] - features :]  # a label may stand in front
    found = np.full((len(lines), features), 0.0 if "absent = 0" in case.get("missing", "") else np.nan)
    for row, line in zip(found, lines, strict=True):
        for one in line.split()[1:]:
            place, _, value = one.partition(":")
            if place.isdigit() and (at := int(place) - case.get("input_index_base", 0)) < features:
                row[at] = float(value)
    return found


def table_of(found, numbers):
    schema = input_schema(found.inputs)
    columns = [pa.array(column, from_pandas=True).cast(field.type) for column, field in zip(numbers.T, schema, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def numbers_of(path):
    return np.array(
        [[float(one) for one in line.replace(",", " ").split()] for line in path.read_text().splitlines() if line.strip()]
    )


def off(ours, theirs):
    theirs = theirs.reshape(ours.shape)
    return (np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))).max()


@pytest.mark.parametrize(("file", "source", "margins"), READ, ids=[one[0] for one in READ])
def test_it_scores_as_expected(file, source, margins):
    where = DATA / file
    case = json.loads((where.parent / "case.json").read_text())
    found = read_forest(str(where), Asked())
    assert (found.source, found.shape.margins) == (source, margins)
    table = table_of(found, told(where, case, len(found.inputs)))
    ours = plain.margins(found.shape, found.trees, table)
    scores = plain.outputs(found.shape, found.trees, None, table)[:, :margins]
    for what, name in case["expected"].items():
        theirs = numbers_of(where.parent / name)
        if what in ("raw", "mean_of_tree_outputs_no_sigmoid"):
            assert off(ours, theirs) < 1e-6
        elif what == "prediction" and theirs.size == scores.size:
            assert off(scores, theirs) < 1e-6
        elif what == "prediction":  # of the class
            assert (scores.argmax(1) == theirs[:, 0]).all()


@pytest.mark.parametrize("file", [one[0] for one in READ])
def test_its_library_agrees(file):
    found = read_forest(str(DATA / file), Asked())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agreed = check_library(file, found, rows.drawn(found.shape, found.trees, found.inputs))
    assert agreed.compared != file.endswith(".bin")  # the binary format: libraries that still read it misread newer ones
    assert agreed.largest < 1e-6


def test_both_forms_of_a_model_are_one():
    for case in sorted(DATA.glob("*/*/derived_model.json")):
        binary = next(one for one in case.parent.iterdir() if one.suffix == ".bin")
        ours, theirs = (read_forest(str(one), Asked()) for one in (case, binary))
        table = rows.drawn(ours.shape, ours.trees, ours.inputs)
        assert (plain.margins(ours.shape, ours.trees, table) == plain.margins(theirs.shape, theirs.trees, table)).all()


@pytest.mark.parametrize(("file", "said"), REFUSED, ids=[one[0] for one in REFUSED])
def test_it_is_refused_with_the_reason(file, said):
    with pytest.raises(ModelError, match=said):
        read_forest(str(DATA / file), Asked())


def test_no_other_file_is_taken_for_a_forest():
    known = {DATA / one[0] for one in READ + REFUSED}
    for path in sorted(path for path in DATA.rglob("*") if path.is_file() and path not in known):
        with pytest.raises(ModelError):
            read_forest(str(path), Asked())
    onnx = DATA / "onnx_node_tests/test_ai_onnx_ml_tree_ensemble_single_tree/model.onnx"
    with pytest.raises(ModelError, match="ONNX"):
        read_forest(str(onnx), Asked())

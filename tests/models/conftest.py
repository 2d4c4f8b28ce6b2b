"""Small tabular bundles with every kind of column, made from random weights: nothing is trained here."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from scoring.models.encode import Numeric
from scoring.models.heads import Head
from scoring.models.net import Architecture
from scoring.models.tabular import Categorical, Layout
from scoring.models.write_tabular import write_tabular
from scoring.settings import Column

CITIES = pa.array(["Bern", "Köln", "Łódź", ""])
CODES = pa.array([-7, 3, 4, 9_000_000_000])
HEADS = {
    "score": (Head("score", "binary"),),
    "several": (
        Head("risk", "binary", slope=1.5, intercept=-0.25),
        Head("kind", "multiclass", ("a", "b", "c"), slope=0.5),
        Head("value", "regression"),
    ),
}
SHAPES = {
    "mlp": Architecture("mlp", (32, 16)),
    "odd": Architecture("mlp", (19, 7)),
    "linear": Architecture("mlp", ()),
    "dcn-v2": Architecture("dcn-v2", (24,), cross_layers=2),
    "dlrm": Architecture("dlrm", (20,), bottom=(12,)),
}
INPUTS = {
    "x": Column("float32"),
    "y": Column("float64"),
    "n": Column("int64"),
    "flag": Column("bool"),
    "city": Column("string"),
    "code": Column("int64"),
}


def rows(count: int, seed: int = 0) -> pa.Table:
    """Random rows with nulls in every column and values that no vocabulary holds."""
    rng = np.random.default_rng(seed)

    def hide(values):
        return pa.array(values, mask=rng.random(count) < 0.2)

    return pa.table(
        {
            "x": hide(rng.normal(size=count).astype(np.float32)),
            "y": hide(rng.normal(1e6, 50, size=count)),
            "n": hide(rng.integers(-5, 5, size=count)),
            "flag": hide(rng.random(count) < 0.5),
            "city": hide(rng.choice(["Bern", "Köln", "Łódź", "", "Atlantis"], size=count).astype(object)),
            "code": hide(rng.choice([-7, 3, 4, 9_000_000_000, 5, -(2**63), 2**63 - 1], size=count)),
        },
        schema=pa.schema([(n, pa.type_for_alias(c.dtype)) for n, c in INPUTS.items()]),
    )


def write(folder, shape="mlp", heads="score", **changes):
    layout = Layout(
        numeric=(
            Numeric("x", 0.5, 0.1, 2.0),
            Numeric("y", 1e6, 1e6, 50.0),
            Numeric("n", 1.0, 0.0, 3.0),
            Numeric("flag", 0.0, 0.5, 0.5),
        ),
        categorical=(Categorical("city", len(CITIES), 6), Categorical("code", len(CODES), 6)),
        architecture=SHAPES[shape],
        heads=HEADS[heads],
    )
    torch.manual_seed(1)
    given = {"name": "toy", "version": "3", "inputs": INPUTS, "layout": layout, "net": layout.net(), "golden": rows(40)}
    return write_tabular(folder, **(given | {"vocabularies": [CITIES, CODES]} | changes))


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture
def bundle(tmp_path):
    return write(tmp_path / "bundle")

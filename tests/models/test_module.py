"""A user's own module: imported from their package, fed by column name, and refused in one line when it does not fit."""

import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import ModelError
from scoring.models.bundle import describe_inputs, write
from scoring.models.load import load
from scoring.settings import Column
from scoring.types import Output

CODE = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, hidden: int, outputs: int = 5):
            super().__init__()
            self.table = nn.Embedding(10, 4)
            self.first = nn.Linear(7, hidden)
            self.last = nn.Linear(hidden, outputs)

        def forward(self, x, ids, weight):
            joined = torch.cat([x, self.table(ids)], 1)
            return self.last(torch.tanh(self.first(joined))) * weight[:, None]

    class Flat(nn.Module):
        def forward(self, x, ids, weight):
            return x.sum(1) + ids

    class Tuple(Flat):
        def forward(self, x, ids, weight):
            return x, ids

    class Wide(Flat):
        def forward(self, x, ids, weight):
            return x

    class Raises(Flat):
        def forward(self, x, ids, weight):
            raise KeyError("no\\nluck")

    class Other(nn.Module):
        def forward(self, x, mask):
            return x

    def function():
        pass
"""
INPUTS = {
    "a": Column("float32"),
    "b": Column("float64", nullable=False),
    "c": Column("float32", nullable=False),
    "cat": Column("int64", nullable=False),
    "w": Column("float32", nullable=False),
}
ARGUMENTS = {"x": ["a", "b", "c"], "ids": "cat", "weight": "w"}
OUTPUTS = ("p", "q", "r", "s", "t")


@pytest.fixture(autouse=True, scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    (folder / "their_nets").mkdir()
    (folder / "their_nets" / "__init__.py").write_text("")
    (folder / "their_nets" / "net.py").write_text(textwrap.dedent(CODE))
    (folder / "their_nets" / "broken.py").write_text("import no_such_library")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    columns = {n: pa.array(rng.normal(size=count).astype(c.dtype)) for n, c in INPUTS.items() if c.dtype != "int64"}
    return pa.table(columns | {"cat": pa.array(rng.integers(0, 10, count))}).select(list(INPUTS))


def make(folder, outputs=OUTPUTS, net=None, **changes):
    """Write a bundle whose golden scores are those of `net`, computed row by row; without `net` they are 0."""
    golden = rows(20)
    for place, output in enumerate(outputs):
        scores = [0.0] * 20
        if net is not None:
            with torch.inference_mode():
                scores = [float(net(**tensors(golden.slice(k, 1)))[0, place]) for k in range(20)]
        golden = golden.append_column(f"expected.{output}", pa.array(scores, pa.float32()))
    manifest = {
        "family": "module",
        "name": "theirs",
        "version": "1",
        "inputs": describe_inputs(INPUTS),
        "tolerance": {"gpu": 1e-3, "cpu": 1e-5},
        "constructor": {"hidden": 6},
        "arguments": ARGUMENTS,
        "outputs": list(outputs),
    }
    return write(folder, manifest | changes, {} if net is None else dict(net.state_dict()), golden)


def tensors(table):
    x = torch.from_numpy(np.stack([table.column(n).to_numpy().astype(np.float32) for n in "abc"], 1))
    return {
        "x": x,
        "ids": torch.from_numpy(table.column("cat").to_numpy().copy()),
        "weight": torch.from_numpy(table.column("w").to_numpy().copy()),
    }


@pytest.fixture(scope="module")
def net(package):
    from their_nets.net import Net

    torch.manual_seed(0)
    return Net(6).eval()


@pytest.fixture(scope="module")
def model(net, tmp_path_factory):
    return load(make(tmp_path_factory.mktemp("b"), net=net), module="their_nets.net:Net")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_its_precision_is_that_of_its_class(precision, net, tmp_path):
    with pytest.raises(ModelError, match=f"precision is {precision}, but the module family computes as its class says"):
        load(make(tmp_path, net=net), module="their_nets.net:Net", precision=precision)


def test_it_scores_as_the_module_does(model, net):
    table = rows(3000, seed=2)
    scores = model.score(table)
    assert scores.column_names == list(OUTPUTS)
    with torch.inference_mode():
        np.testing.assert_allclose(np.stack([c.to_numpy() for c in scores.columns], 1), net(**tensors(table)).numpy(), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(cut=st.integers(0, 3000), threads=st.sampled_from([1, 2]))
def test_splits_change_no_bit(model, cut, threads):
    encoded = model.encode(rows(3000, seed=3).combine_chunks().to_batches()[0])
    whole = model.forward(encoded)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parts = torch.cat([model.forward(encoded.narrow(0, cut)), model.forward(encoded.narrow(cut, 3000 - cut))])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(parts, whole)


def test_null_is_nan_for_floats_and_refused_for_integers(model):
    batch = rows(3).to_batches()[0]
    holes = pa.array([None, 1.0, 2.0], pa.float32())
    found = model.forward(model.encode(batch.set_column(0, "a", holes)))
    assert torch.isnan(found).all(1).tolist() == [True, False, False]
    with pytest.raises(ModelError, match="'cat' holds null"):
        model.encode(batch.set_column(3, "cat", pa.array([1, None, 2])))


def test_a_row_that_raises_raises_the_modules_own_error(model):
    bad = rows(3).set_column(3, "cat", pa.array([1, 99, 2]))
    with pytest.raises(IndexError):
        model.score(bad)


def test_one_output_may_come_as_a_vector(tmp_path):
    golden = rows(20)
    expected = sum(golden.column(n).to_numpy() for n in "abc") + golden.column("cat").to_numpy()
    bundle = make(tmp_path / "b", outputs=("score",), constructor={})
    table = golden.append_column("expected.score", pa.array(expected.astype(np.float32)))
    import pyarrow.parquet as pq

    pq.write_table(table, bundle / "golden.parquet")
    assert load(bundle, module="their_nets.net:Flat").outputs == (Output("score"),)


@pytest.mark.parametrize(
    ("module", "changes", "words"),
    [
        (None, {}, "name its class"),
        ("their_nets.net", {}, "must be package.module:Class"),
        ("their_nets.nowhere:Net", {}, "cannot be imported: ModuleNotFoundError"),
        ("their_nets.broken:Net", {}, "No module named 'no_such_library'"),
        ("their_nets.net:Missing", {}, "cannot be imported: AttributeError"),
        ("their_nets.net:function", {}, "is not a class derived from torch.nn.Module"),
        ("their_nets.net:Net", {"constructor": {"hiden": 6}}, "cannot be built"),
        ("their_nets.net:Net", {"constructor": {"hidden": "six"}}, "cannot be built"),
        ("their_nets.net:Net", {"constructor": [6]}, "must be a mapping"),
        ("their_nets.net:Net", {"constructor": {"hidden": 7}}, "expected float32 [7]"),
        ("their_nets.net:Other", {"constructor": {}}, "does not take ['x', 'ids', 'weight']"),
        ("their_nets.net:Tuple", {"constructor": {}}, "returned tuple, expected a tensor"),
        ("their_nets.net:Wide", {"constructor": {}}, "returned shape [2048, 3], expected [2048, 5]"),
        ("their_nets.net:Raises", {"constructor": {}}, "raised on its golden rows: KeyError"),
        ("their_nets.net:Net", {"arguments": {"x": ["a", "z"]}}, "each must be an input"),
        ("their_nets.net:Net", {"arguments": {}}, "a mapping from keywords"),
        ("their_nets.net:Net", {"outputs": []}, "at least one output"),
        ("their_nets.net:Net", {"block_rows": 0}, "'block_rows' must be an integer"),
        ("their_nets.net:Net", {"class": "os:system"}, "'class' is not known here"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, net, module, changes, words):
    bundle = make(tmp_path / "b", net=net if module == "their_nets.net:Net" else None, **changes)
    with pytest.raises(ModelError) as caught:
        load(bundle, module=module)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "words"), [(Column("string"), "has a string column"), (Column("int64"), "must say nullable: false")]
)
def test_columns_that_make_no_tensor_are_refused(tmp_path, net, kind, words):
    inputs = describe_inputs(INPUTS | {"cat": kind})
    with pytest.raises(ModelError, match=words):
        load(make(tmp_path / "b", net=net, inputs=inputs), module="their_nets.net:Net")

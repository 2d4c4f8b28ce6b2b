"""Bundles are foreign: whatever is wrong with one is a ModelError of one line that names the place."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import yaml
from conftest import rows, write
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import ModelError
from scoring.models.bundle import FILES, digest, read
from scoring.models.load import load
from scoring.types import Output


def refused(bundle, words):
    with pytest.raises(ModelError) as caught:
        load(bundle)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert len(message) < 700


def edit(bundle, change):
    manifest = yaml.safe_load((bundle / "model.yaml").read_text())
    change(manifest)
    (bundle / "model.yaml").write_text(yaml.safe_dump(manifest))


def edit_tensors(bundle, change):
    tensors = safetensors.torch.load_file(bundle / "weights.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, bundle / "weights.safetensors")


def test_a_good_bundle_loads_with_all_that_it_declares(bundle):
    model = load(bundle)
    assert (model.name, model.version, model.outputs) == ("toy", "3", (Output("score"),))
    assert model.inputs["city"].dtype == "string"
    assert model.tolerance == {"gpu": 1e-3, "cpu": 1e-5}
    scores = model.score(rows(10))
    assert scores.schema == pa.schema([("score", pa.float32())])
    assert scores.num_rows == 10


def test_the_digest_is_of_the_three_files_and_of_nothing_else(bundle, tmp_path):
    before = digest(bundle)
    shutil.copytree(bundle, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "card.md").write_text("what this model is for")
    assert load(tmp_path / "elsewhere").digest == before == read(bundle).digest
    for name in FILES:
        content = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content + b"\n")
        assert digest(bundle) != before
        (bundle / name).write_bytes(content)


def test_a_tokenizer_is_part_of_what_the_model_is(bundle):
    before, place = digest(bundle), bundle / "tokenizer.json"
    with pytest.raises(ModelError, match=r"tokenizer.json is not there, and the tabular family needs it"):
        read(bundle).tokenizer()
    place.write_bytes(b"{}")
    with_one = digest(bundle)
    place.write_bytes(b"{ }")
    assert len({before, with_one, read(bundle).digest}) == 3
    assert read(bundle).tokenizer().read_bytes() == b"{ }"
    with open(place, "wb") as file:
        file.truncate((64 << 20) + 1)
    refused(bundle, "tokenizer.json has 67,108,865 bytes; at most 67,108,864 are read")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    refused(bundle, f"{name} not found")


@pytest.mark.parametrize("name", ["weights.pkl", "model.pt", "MODEL.PTH", "code.py", "old.joblib"])
def test_files_that_can_run_code_are_refused(bundle, name, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    (bundle / name).write_bytes(pickle.dumps(Evil()))
    refused(bundle, f"holds {name}: files that can run code")
    assert not (tmp_path / "ran").exists()


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "uses an alias"),
        ("!!python/object/apply:os.system ['true']", "not plain YAML"),
        ("family: !!python/name:os.system", "not plain YAML"),
        ("[" * 5000, "nested deeper than 32"),
        ("a: 1\na: 2", "stands there twice"),
        ("[1, 2]", "must be a mapping"),
        ("1: x", "must be a mapping with text keys"),
        ("a: [", "not plain YAML"),
        ("", "must be a mapping"),
        ("\x00", "not plain YAML"),
        ("? [a]\n: b", "not plain YAML"),
        ("format: 7", "format 7; this version reads format 1"),
        ("#" * 1_100_000, "at most 1,000,000 are read"),
        ("_target_: os.system\nformat: 1", "'family' is missing"),
    ],
)
def test_evil_yaml_is_refused(bundle, text, words):
    (bundle / "model.yaml").write_text(text)
    refused(bundle, words)


def test_yaml_that_is_not_text_is_refused(bundle):
    (bundle / "model.yaml").write_bytes(b"a: \xff\xfe")
    refused(bundle, "not plain YAML")


def put(*path):
    """Set the value at a path of keys: put("heads", 0, "kind", "sum")."""
    *way, last, value = path

    def change(manifest):
        for key in way:
            manifest = manifest[key]
        manifest[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("modul", "os:system"), "'modul' is not known here"),
        (put("_target_", "os.system"), "'_target_' is not known here"),
        (put("family", "os.path"), "'os.path' is not the name of a family"),
        (put("family", "../evil"), "is not the name of a family"),
        (put("family", "train"), "there is no family 'train'"),
        (put("family", "forest9"), "there is no family 'forest9'. Known: forest, module, tabular"),
        (put("version", 3), "'version' must be a non-empty text"),
        (put("tolerance", {"cpu": 1e-5}), "tolerance: 'gpu' is missing"),
        (put("tolerance", "cpu", float("nan")), "'cpu' must be a finite number"),
        (put("inputs", []), "at least one input"),
        (put("inputs", 0, "dtype", "object"), "'dtype' must be one of"),
        (put("inputs", 0, "nulable", True), "did you mean 'nullable'?"),
        (put("inputs", 1, "name", "x"), "input 'x' is declared twice"),
        (put("inputs", 0, "allowed", [[1]]), "'allowed' must be a list of plain values"),
        (put("inputs", 0, "name", "z"), "uses 'x', which is not an input"),
        (put("preprocessing", "numeric", 0, "scale", 0.0), "'scale' must be above 0"),
        (put("preprocessing", "numeric", 0, "column", "y"), "does not use the input 'x'"),
        (put("preprocessing", "numeric", 0, "column", "city"), "'city' is numeric, but the input is a string"),
        (put("preprocessing", "categorical", 0, "column", "x"), "'x' is categorical, but the input is float32"),
        (put("preprocessing", "categorical", 0, "dim", -1), "'dim' must be an integer from 1"),
        (put("preprocessing", "categorical", 0, "size", 5), "expected"),
        (put("architecture", "kind", "transformer"), "'kind' must be mlp, dcn-v2 or dlrm"),
        (put("architecture", "hidden", [32, "16"]), "'hidden' must be a list of integers"),
        (put("architecture", "hidden", [32, 17]), "'top.2.bias' is float32 [16], expected float32 [17]"),
        (put("architecture", "hidden", [32, 16, 8]), "weights.safetensors lacks top.6.bias, top.6.weight"),
        (put("architecture", "hidden", [65_536, 65_536]), "expected float32 [65536]"),
        (put("preprocessing", "categorical", 0, "size", 100_000_000), "expected"),
        (put("heads", 0, "kind", "ranking"), "'kind' must be regression, binary or multiclass"),
        (put("heads", 0, "calibration", {"kind": "temperature", "temperature": 0.0}), "'temperature' must be above 0"),
        (put("heads", 0, "calibration", {"kind": "isotonic"}), "'kind' must be temperature"),
        (put("heads", [{"name": "a", "kind": "multiclass", "classes": ["x"]}]), "at least two names"),
        (put("heads", [{"name": "a", "kind": "binary"}, {"name": "a", "kind": "binary"}]), "'a' is there twice"),
        (put("heads", [{"name": "run_id", "kind": "binary"}, {"name": "a", "kind": "binary"}]), "'run_id' is reserved"),
        (put("heads", []), "at least one output"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(bundle, change, words):
    edit(bundle, change)
    refused(bundle, words)


def test_dlrm_needs_one_width(tmp_path):
    bundle = write(tmp_path / "b", "dlrm")
    edit(bundle, put("preprocessing", "categorical", 0, "dim", 4))
    refused(bundle, "dlrm needs categorical columns of one width")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("top.0.bias"), "lacks top.0.bias"),
        (lambda t: t.update(evil=torch.zeros(1)), "holds evil, which the model does not have"),
        (lambda t: t.update({"top.0.bias": torch.zeros(31)}), "'top.0.bias' is float32 [31], expected float32 [32]"),
        (lambda t: t.update({"top.0.bias": torch.zeros(32, dtype=torch.float64)}), "is float64 [32], expected float32 [32]"),
        (lambda t: t.update({"vocabulary.code": torch.zeros(4, dtype=torch.int64)}), "vocabulary of 'code' is broken"),
        (lambda t: t["vocabulary.city.offsets"].fill_(3), "vocabulary of 'city' is broken"),
        (lambda t: t["vocabulary.city.bytes"].fill_(255), "vocabulary of 'city' is broken"),
        (
            lambda t: t.update({"vocabulary.city.bytes": torch.zeros((2, 2), dtype=torch.uint8)}),
            "'vocabulary.city.bytes' is uint8 [2, 2]",
        ),
        (lambda t: t["top.0.bias"].add_(0.5), "does not give its golden scores on cpu"),
        (lambda t: t["top.0.bias"].fill_(torch.nan), "difference inf"),
    ],
)
def test_altered_tensors_are_refused(bundle, change, words):
    edit_tensors(bundle, change)
    refused(bundle, words)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_weights_never_pass_and_never_crash(tmp_path_factory, data):
    bundle = write(tmp_path_factory.mktemp("damaged"))
    content = bytearray((bundle / "weights.safetensors").read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, 200))] ^= data.draw(st.integers(1, 255))
    (bundle / "weights.safetensors").write_bytes(bytes(content))
    try:
        scores = load(bundle).score(rows(40)).column("score").to_numpy()
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a changed blank in the header is no damage
    else:
        np.testing.assert_allclose(
            scores, load(write(tmp_path_factory.mktemp("sound"))).score(rows(40)).column("score").to_numpy(), atol=1e-5
        )


def edit_golden(bundle, change):
    pq.write_table(change(pq.read_table(bundle / "golden.parquet")), bundle / "golden.parquet")


def test_an_altered_golden_score_is_named_with_row_column_difference_and_tolerance(bundle):
    def change(table):
        scores = table.column("expected.score").to_numpy().copy()
        scores[17] += 0.25
        scores[18] += 0.125
        return table.set_column(table.schema.get_field_index("expected.score"), "expected.score", pa.array(scores))

    edit_golden(bundle, change)
    refused(bundle, "row 17, column 'score'")
    refused(bundle, "difference 0.25, tolerance 1e-05")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns(["expected.score"]), "lacks the columns expected.score"),
        (lambda t: t.drop_columns(["city"]), "lacks the columns city"),
        (lambda t: t.slice(0, 0), "has 0 rows"),
        (lambda t: pa.concat_tables([t] * 300), "has 12,000 rows"),
        (lambda t: t.set_column(0, "x", t.column("x").cast("float64")), "column 'x' is double, expected float"),
        (lambda t: t.set_column(6, "expected.score", pa.nulls(40, pa.float32())), "difference inf"),
    ],
)
def test_golden_rows_that_do_not_fit_are_refused(bundle, change, words):
    edit_golden(bundle, change)
    refused(bundle, words)


def test_golden_that_is_not_parquet_is_refused(bundle):
    (bundle / "golden.parquet").write_bytes(b"PAR1 no PAR1")
    refused(bundle, "cannot be read as Parquet")


def test_a_module_name_for_a_tabular_bundle_is_refused(bundle):
    with pytest.raises(ModelError, match="for the module family only"):
        load(bundle, module="os:path")


BARE = """
import sys
for name in ("polars", "ray", "hydra", "omegaconf", "pydantic", "obstore", "rich", "triton"):
    sys.modules[name] = None
from scoring.models.load import load
import pyarrow.parquet as pq
print(load(sys.argv[1]).score(pq.read_table(sys.argv[2])).num_rows)
"""


def test_scoring_needs_torch_and_arrow_only(bundle, tmp_path):
    pq.write_table(rows(5), tmp_path / "rows.parquet")
    command = [sys.executable, "-c", BARE, str(bundle), str(tmp_path / "rows.parquet")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "5", done.stderr

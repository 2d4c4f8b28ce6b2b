"""Text models compute what their bundles plainly mean, to the bit whatever travels with a text, by torch and by the kernels."""

import functools
import tempfile
from pathlib import Path

import foreign
import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import ModelError
from scoring.kernels.frame import operator
from scoring.models.encoder_shape import Pooling, Projection, Shape, tensors_of
from scoring.models.heads import Head
from scoring.models.load import load
from scoring.models.plain_encoder import PlainEncoder
from scoring.models.templates import TextInput
from scoring.models.write_text import plain_sequences, write_text
from scoring.settings import Column
from scoring.types import Output

VOCABULARY = 320
TOKENIZER = foreign.wordpiece().to_str().encode()  # once: training breaks ties anew each time
BERT = Shape("bert", VOCABULARY, 64, 2, 2, 96, "gelu", 1e-12, 48, types=2)
ROBERTA = Shape("bert", VOCABULARY, 64, 2, 2, 80, "gelu_tanh", 1e-5, 50, first_position=2, types=1)
MODERN = Shape(
    "modernbert", VOCABULARY, 64, 4, 2, 48, "gelu", 1e-5, 48, window=3, global_every=3, theta=(160_000.0, 10_000.0), biases=False
)
ONE, PAIR = TextInput(("{text}",), 24), TextInput(("q: {query}", "{text}"), 32)
CUT = TextInput(("{query} {text}",), 12, "windows", 3)
WIDE = Shape("bert", VOCABULARY, 384, 1, 6, 1536, "gelu", 1e-12, 96, types=2)
LONG = Shape(
    "modernbert", VOCABULARY, 64, 2, 2, 48, "gelu", 1e-5, 2048, window=3, global_every=2, theta=(160_000.0, 10_000.0), biases=False
)
DENSE = (Projection(64, "tanh"),)
CLASSES = (Head("kind", "multiclass", ("a", "b", "c"), slope=0.5),)
LABELS = (Head("rude", "binary"), Head("spam", "binary", slope=1.5, intercept=-0.25))
KINDS = {
    "mean": (BERT, ONE, Pooling("mean"), (), Output("embedding", 64), ()),
    "max": (ROBERTA, ONE, Pooling("max"), (Projection(24, "gelu", norm=True),), Output("embedding", 24), ()),
    "windows": (BERT, CUT, Pooling("mean"), (), Output("embedding", 64), ()),
    "modern": (MODERN, ONE, Pooling("cls"), (), Output("embedding", 64), ()),
    "classes": (BERT, ONE, Pooling("cls"), DENSE, None, CLASSES),
    "labels": (ROBERTA, CUT, Pooling("cls"), DENSE, None, LABELS),
    "pairs": (BERT, PAIR, Pooling("cls"), DENSE, None, (Head("score", "binary"),)),
    "modern-pairs": (MODERN, PAIR, Pooling("mean"), (), None, (Head("score", "regression"),)),
}
SHAPES_FOR_BF16 = {
    "wide": (WIDE, TextInput(("{text}",), 80), Pooling("mean"), (), Output("embedding", 384), ()),
    "long": (LONG, TextInput(("{text}",), 2048), Pooling("mean"), (), Output("embedding", 64), ()),
}
ROUGH = {"gpu": 0.1, "cpu": 1e-4}  # random weights make much of what is rounded
TEXTS = ["", "a", "the quick brown fox", "Äpfel, Öl und Übermut " * 9, "лиса \x00 🎉", "   ", None, "jumps over the lazy dog " * 3]


ALL = KINDS | SHAPES_FOR_BF16


def write(folder, kind, store="float32", seed=3, tolerance=None):
    shape, text, pooling, projections, embedding, heads = ALL[kind]
    random = torch.Generator().manual_seed(seed)
    sizes = tensors_of(shape, projections, sum(h.width for h in heads))
    tensors = {n: torch.randn(size, generator=random) * (0.4 if len(size) > 1 else 0.2) for n, (_, size) in sizes.items()}
    tensors |= {n: 1 + tensor for n, tensor in tensors.items() if "norm.weight" in n}
    if embedding is not None:
        embedding = Output(embedding.name, embedding.width, store)
    return write_text(
        folder,
        name=kind,
        version="1",
        inputs={name: Column("string") for name in text.columns},
        text=text,
        encoder=shape,
        pooling=pooling,
        projections=projections,
        unit=embedding is not None,
        embedding=embedding,
        heads=heads,
        tensors=tensors,
        tokenizer=TOKENIZER,
        tolerance=tolerance,
    )


def table(texts):
    return pa.table({"text": pa.array(texts, pa.string()), "query": pa.array([*texts[3:], *texts[:3]], pa.string())})


def plainly(kind, model_folder, rows):
    """By the plain meaning, in float64: (rows, numbers)."""
    shape, text, pooling, projections, embedding, heads = ALL[kind]
    tensors = safetensors.torch.load_file(model_folder / "weights.safetensors")
    plain = PlainEncoder(shape, pooling, projections, embedding is not None, heads, tensors)
    tokenizer = (model_folder / "tokenizer.json").read_bytes()
    sequences = plain_sequences(rows.select(list(text.columns)), text, tokenizer, shape.types > 1)
    return torch.stack([plain.outputs(one) for one in sequences]).numpy()


def numbers(scored):
    """Columns of a scored table side by side, float64 (rows, numbers)."""
    columns = [np.stack([np.atleast_1d(row) for row in c.to_numpy(zero_copy_only=False)]) for c in scored.combine_chunks().columns]
    return np.concatenate(columns, 1).astype(np.float64)


@functools.cache
def case(kind, precision="auto"):
    """A model, a window with duplicates, its scores by row as bits."""
    with tempfile.TemporaryDirectory() as folder:
        model = load(write(folder, kind, tolerance=ROUGH), precision=precision)
    random = np.random.default_rng(1)
    lengths = [*random.integers(1, 30, 120), 40, 40, 60, 60, 90]  # of long ones bfloat16 is computed otherwise
    texts = [" ".join(random.choice(foreign.WORDS, n)) for n in lengths] + TEXTS
    batch = table(texts).combine_chunks().to_batches()[0]
    return model, batch, bits(model, batch)


def bits(model, batch):
    encoded = model.encode(batch)
    found = model.forward(encoded).numpy().view(np.int32)
    return found[encoded.order]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_what_the_bundle_plainly_means(kind, tmp_path):
    folder = write(tmp_path, kind)
    rows = table(TEXTS + ["word " * n for n in range(1, 30)])
    meant = plainly(kind, folder, rows)
    size = max(1.0, float(np.abs(meant).max()))  # a small score that is a difference of large terms has their error
    np.testing.assert_allclose(numbers(load(folder).score(rows)), meant, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_give_the_same_scores(kind, tmp_path):
    """In the interpreter, or on the GPU where there is one; that they were the ones to answer is forced."""
    folder = write(tmp_path, kind)
    model, rows = load(folder), table(TEXTS[:5])
    with kernels():
        found = numbers(model.score(rows))
    np.testing.assert_allclose(found, plainly(kind, folder, rows), rtol=1e-4, atol=1e-4)


class kernels:  # noqa: N801 - used like a function
    def __enter__(self):
        operator.force("triton")

    def __exit__(self, *error):
        operator.force(None)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(data=st.data(), threads=st.sampled_from([1, 2]))
def test_neighbours_change_no_bit(kind, data, threads):
    model, batch, whole = case(kind)
    rows = data.draw(st.lists(st.integers(0, batch.num_rows - 1), min_size=1, max_size=60))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        np.testing.assert_array_equal(bits(model, batch.take(pa.array(rows))), whole[rows])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_any_part_of_a_window_gives_the_same_bits(kind):
    model, batch, _ = case(kind)
    encoded = model.encode(batch)
    whole = model.forward(encoded).numpy().view(np.int32)
    for start, count in ((0, 1), (encoded.rows - 1, 1), (3, 50), (17, encoded.rows - 17)):
        np.testing.assert_array_equal(
            model.forward(encoded.narrow(start, count)).numpy().view(np.int32), whole[start : start + count]
        )


@pytest.mark.parametrize("store", ["float16", "int8"])
def test_small_numbers_are_near(store, tmp_path):
    rows = table(TEXTS)
    full = numbers(load(write(tmp_path / "full", "mean")).score(rows))
    found = load(write(tmp_path / store, "mean", store)).score(rows)
    vectors = np.stack(found.column("embedding").combine_chunks().to_numpy(zero_copy_only=False)).astype(np.float64)
    if store == "int8":
        vectors *= found.column("embedding_scale").to_numpy()[:, None]
    assert np.abs(vectors - full).max() <= (np.abs(full).max() / 254 + 1e-6 if store == "int8" else 1e-3)


def test_no_rows_are_no_vectors(tmp_path):
    model = load(write(tmp_path, "mean"))
    assert model.score(table([])).num_rows == 0
    assert model.score(table([])).schema.field("embedding").type == pa.list_(pa.float32(), 64)


def test_a_text_that_comes_again_is_scored_once():
    model, batch, _ = case("mean")
    twice = batch.take(pa.array([*range(batch.num_rows), *range(batch.num_rows)]))
    assert model.encode(twice).rows == model.encode(batch).rows


def test_a_bundle_without_tokenizer_is_refused(tmp_path):
    folder = write(tmp_path, "mean")
    (Path(folder) / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = write(tmp_path, "mean")
    other = foreign.wordpiece()
    other.add_tokens([f"<extra-{n}>" for n in range(100)])
    other.save(str(Path(folder) / "tokenizer.json"))
    with pytest.raises(ModelError, match="320"):
        load(folder)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_length: 24", "max_length: 4096", "48 positions"),
        ("store: float32", "store: float64", "float32, float16 or int8"),
        ("kind: mean", "kind: sum", "mean, cls or max"),
        ("unit: true", "unit: maybe", "true or false"),
        ("hidden: 64", "hidden: 65", "heads"),
        ("layers: 2", "layers: 3", "lacks"),
    ],
)
def test_what_cannot_be_is_refused(old, new, said, tmp_path):
    path = Path(write(tmp_path, "mean")) / "model.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ModelError, match=said):
        load(tmp_path)

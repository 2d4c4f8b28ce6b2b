"""What an imported bundle says is what transformers says of the same folder, in float64, for every kind of encoder and head."""

import dataclasses

import foreign
import pyarrow as pa
import pytest
import torch

from scoring.models.huggingface.model import Asked, read_model
from scoring.models.plain_encoder import PlainEncoder
from scoring.models.write_text import golden_rows, plain_sequences

transformers = pytest.importorskip("transformers")

SIZES = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
SMALL = SIZES | {"max_position_embeddings": 40}
MODERN = SMALL | {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
DISTIL = {"vocab_size": 320, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 40}
KINDS = {
    "bert": ("Bert", SMALL),
    "bert-relu": ("Bert", SMALL | {"hidden_act": "relu", "layer_norm_eps": 1e-5}),
    "bert-gelu_new": ("Bert", SMALL | {"hidden_act": "gelu_new"}),
    "roberta": ("Roberta", SMALL | {"max_position_embeddings": 42, "type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", SMALL | {"max_position_embeddings": 44, "type_vocab_size": 2, "pad_token_id": 3}),
    "distilbert": ("DistilBert", DISTIL),
    "modernbert": ("ModernBert", MODERN | {"local_attention": 8, "global_attn_every_n_layers": 2}),
    "modernbert-biases": (
        "ModernBert",
        MODERN
        | {"local_attention": 4, "attention_bias": True, "norm_bias": True, "classifier_bias": True, "classifier_pooling": "mean"},
    ),
    "modernbert-mlp-bias": (
        "ModernBert",
        MODERN | {"mlp_bias": True, "hidden_activation": "silu", "classifier_activation": "relu"},
    ),
    "modernbert-all-global": ("ModernBert", MODERN | {"layer_types": ["full_attention"] * 3}),
}
# transformers turns ModernBERT's queries and keys in float32, whatever the type of the model; all else is float64 there too.
CLOSE = {"ModernBert": 3e-6}
COLUMNS = {"text": ("text", "query")}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def saved(folder, kind, suffix, **config):
    """A folder that transformers wrote, its weights not as small as at the start of a training, and the model in float64."""
    begins, shape = KINDS[kind]
    torch.manual_seed(7)
    model = getattr(transformers, f"{begins}{suffix}")(getattr(transformers, f"{begins}Config")(**shape, **config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    byte_level = "oberta" in begins
    made = foreign.byte_level() if byte_level else foreign.wordpiece()
    names = ["input_ids", "attention_mask"] if begins not in ("Bert",) else ["input_ids", "token_type_ids", "attention_mask"]
    pad = "<pad>" if byte_level else "[PAD]"
    foreign.add_tokenizer(folder, made, pad_token=pad, model_max_length=40, model_input_names=names)
    return model.double()


def compared(folder, asked):
    """The bundle's plain meaning, and what it is given: rows and their sequences."""
    found = read_model(str(folder), asked)
    plain = PlainEncoder(found.shape, found.pooling, found.projections, found.unit, found.heads, found.tensors)
    rows = golden_rows(found.inputs, found.text)
    return found, plain, rows, list(plain_sequences(rows, found.text, found.tokenizer, found.shape.types > 1))


def theirs(folder, rows):
    """As a user of transformers would: texts, or pairs, to tensors."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for row in rows.to_pylist():
        texts = [row[name] or "" for name in ("query", "text") if name in row]
        yield tokenizer(*([text] for text in texts), truncation=True, return_tensors="pt")  # alone, an empty second text is no pair


def test_hidden_states(kind, tmp_path):
    model = saved(tmp_path, kind, "Model")
    found, plain, rows, sequences = compared(tmp_path, Asked())
    for given, inputs in zip(sequences, theirs(tmp_path, rows), strict=True):
        assert list(given[0][0]) == inputs["input_ids"][0].tolist()
        with torch.inference_mode():
            expected = model(**inputs).last_hidden_state[0]
        assert (plain.states(*given[0]) - expected).abs().max() < CLOSE.get(KINDS[kind][0], 1e-9)
        assert (plain.outputs(given) - expected.mean(0)).abs().max() < CLOSE.get(KINDS[kind][0], 1e-9)
    assert found.embedding.width == 32


@pytest.mark.parametrize("pairs", [False, True], ids=["texts", "pairs"])
def test_logits(kind, pairs, tmp_path):
    model = saved(tmp_path, kind, "ForSequenceClassification", num_labels=3)
    _, plain, rows, sequences = compared(tmp_path, Asked(query="{query}") if pairs else Asked())
    for given, inputs in zip(sequences, theirs(tmp_path, rows), strict=True):
        with torch.inference_mode():
            expected = model(**inputs).logits[0]
        assert (plain.logits(given) - expected).abs().max() < CLOSE.get(KINDS[kind][0], 1e-9)
        assert (plain.outputs(given) - expected.softmax(0)).abs().max() < CLOSE.get(KINDS[kind][0], 1e-9)


def test_an_encoder_is_found_in_models_that_do_more(kind, tmp_path):
    begins, _ = KINDS[kind]
    model = saved(tmp_path, kind, "ForMaskedLM").base_model
    _, plain, rows, sequences = compared(tmp_path, Asked())
    inputs = next(theirs(tmp_path, rows))
    with torch.inference_mode():
        assert (plain.states(*sequences[0][0]) - model(**inputs).last_hidden_state[0]).abs().max() < CLOSE.get(begins, 1e-9)


def test_a_classifier_is_an_encoder_where_that_is_asked(kind, tmp_path):
    model = saved(tmp_path, kind, "ForSequenceClassification").base_model
    found, plain, rows, sequences = compared(tmp_path, Asked(task="embedding"))
    with torch.inference_mode():
        expected = model(**next(theirs(tmp_path, rows))).last_hidden_state[0]
    assert (plain.states(*sequences[0][0]) - expected).abs().max() < CLOSE.get(KINDS[kind][0], 1e-9)
    assert found.heads == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_widened(dtype, tmp_path):
    saved(tmp_path, "bert", "Model").to(dtype).save_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float64)
    found, plain, rows, sequences = compared(tmp_path, Asked())
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}
    with torch.inference_mode():
        expected = model(**next(theirs(tmp_path, rows))).last_hidden_state[0]
    assert (plain.states(*sequences[0][0]) - expected).abs().max() < 1e-9


def test_shards_and_old_spellings_are_one_model(tmp_path):
    one = foreign.bert(tmp_path / "one")
    tensors = foreign.bert_tensors()
    olden = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t for n, t in tensors.items()
    }
    other = foreign.bert(tmp_path / "other", tensors=dict.fromkeys(tensors) | {f"bert.{n}": t for n, t in olden.items()})
    transformers.AutoModel.from_pretrained(one).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    foreign.add_tokenizer(tmp_path / "shards", foreign.wordpiece(), tokenizer_class="BertTokenizer")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    found = [read_model(str(folder), Asked()).tensors for folder in (one, other, tmp_path / "shards")]
    assert found[0].keys() == found[1].keys() == found[2].keys()
    for name, tensor in found[0].items():
        assert tensor.equal(found[1][name]), name
        assert tensor.equal(found[2][name]), name


def test_windows_hold_every_token(tmp_path):
    """Overlapping sequences, each within the limit, whose pooled vectors are averaged by their tokens."""
    saved(tmp_path, "bert", "Model")
    found, plain, _, _ = compared(tmp_path, Asked(overlong="windows", max_length=12))
    assert (found.text.max_length, found.text.stride) == (12, 2)
    rows = pa.table({"text": [" ".join(["quick brown fox"] * 9)]})
    windows = next(plain_sequences(rows, found.text, found.tokenizer, True))
    assert [len(ids) for ids, _ in windows[:-1]] == [12] * (len(windows) - 1)
    states = [plain.states(*window) for window in windows]
    assert torch.allclose(plain.outputs(windows), torch.cat(states).mean(0), atol=1e-12)
    first = dataclasses.replace(plain, pooling=dataclasses.replace(plain.pooling, kind="cls"))
    weight = torch.tensor([len(s) for s in states], dtype=torch.float64)
    expected = (torch.stack([s[0] for s in states]) * weight[:, None]).sum(0) / weight.sum()
    assert torch.allclose(first.outputs(windows), expected, atol=1e-12)

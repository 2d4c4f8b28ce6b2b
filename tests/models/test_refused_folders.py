"""What cannot be imported is refused in one sentence that names the file, the key and what was found; nothing is guessed."""

import json
import re

import foreign
import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer, models, normalizers, processors

from scoring.errors import ConfigError, ModelError
from scoring.models.encoder_shape import Shape
from scoring.models.huggingface.model import Asked, read_model

MODERN = {
    "architectures": ["ModernBertModel"],
    "model_type": "modernbert",
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "local_attention": 8,
}


def refused(folder, asked=None, kind=ModelError):
    with pytest.raises(kind) as found:
        read_model(str(folder), asked or Asked())
    said = str(found.value)
    assert found.value.exit_code == 78
    assert said[-1] in ".?"
    assert not re.search(r"\n|[.!?]\s+[A-Z]", said[:-1]), f"more than one sentence: {said}"
    return said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mpnet"}, "'model_type' is \"mpnet\", which is not supported"),
        ({"model_type": None}, "'model_type' is missing"),
        ({"model_type": 7}, "'model_type' must be a non-empty text"),
        ({"architectures": ["BertForTokenClassification"]}, "'architectures' is [\"BertForTokenClassification\"]"),
        ({"architectures": ["MPNetModel"]}, "MPNetModel"),
        ({"architectures": ["BertModel", "BertForMaskedLM"]}, "'architectures' is"),
        ({"auto_map": {"AutoModel": "own.OwnModel"}}, "trust_remote_code"),
        ({"quantization_config": {"bits": 4}}, "'quantization_config' is {\"bits\": 4}"),
        ({"is_decoder": True}, "'is_decoder' is true"),
        ({"add_cross_attention": True}, "'add_cross_attention' is true"),
        ({"pruned_heads": {"0": [1]}}, "'pruned_heads' is {\"0\": [1]}"),
        ({"position_embedding_type": "relative_key"}, "'position_embedding_type' is \"relative_key\""),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "'rope_scaling' is"),
        ({"embedding_size": 16}, "'embedding_size' is 16"),
        ({"head_dim": 16}, "'head_dim' is 16"),
        ({"hidden_act": "mish"}, "'hidden_act' is \"mish\""),
        ({"hidden_act": 3}, "'hidden_act' must be a non-empty text"),
        ({"num_attention_heads": 5}, "hidden 32 cannot be divided among 5 heads"),
        ({"num_hidden_layers": "2"}, "'num_hidden_layers' must be an integer from 1"),
        ({"num_hidden_layers": 0}, "'num_hidden_layers' must be an integer from 1"),
        ({"hidden_size": True}, "'hidden_size' must be an integer"),
        ({"layer_norm_eps": 0}, "'epsilon' must be above 0"),
        ({"layer_norm_eps": "tiny"}, "'layer_norm_eps' must be a finite number"),
    ],
    ids=lambda v: json.dumps(v)[:60] if isinstance(v, dict) else "",
)
def test_configurations(change, said, tmp_path):
    foreign.bert(tmp_path)
    config = {k: v for k, v in (foreign.BERT | change).items() if v is not None}
    foreign.write(tmp_path / "config.json", config)
    assert said in refused(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"local_attention": 7}, "'local_attention' is 7"),
        ({"layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]}, "'layer_types' is"),
        ({"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}, "'layer_types' is"),
        ({"num_hidden_layers": 4, "layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2}, "'layer_types' is"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}}, "'rope_type' is \"yarn\""),
        ({"rope_parameters": {"full_attention": {"factor": 4.0}}}, "'factor' is not known here"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "'rope_theta' is not known here"),
        ({"local_rope_theta": None}, "'local_rope_theta' is null"),
        ({"global_rope_theta": -1.0}, "'rope_theta' must be above 0"),
        ({"hidden_size": 36, "num_attention_heads": 4}, "heads of even width, not of 9"),
        ({"classifier_pooling": "max"}, "'classifier_pooling' is \"max\""),
        ({"norm_bias": "no"}, "'norm_bias' must be true or false"),
        ({"hidden_activation": "relu2"}, "'hidden_activation' is \"relu2\""),
    ],
    ids=lambda v: json.dumps(v)[:60] if isinstance(v, dict) else "",
)
def test_configurations_of_modernbert(change, said, tmp_path):
    foreign.bert(tmp_path)
    foreign.write(tmp_path / "config.json", MODERN | change)
    assert said in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object, not list"),
        ('{"a": NaN}', "is not JSON: NaN is no number of JSON"),
        ("[" * 100_000, "is not JSON"),
        (" " * (4 << 20) + "{}", "at most 4,194,304 are read"),
        ("\udcff", "is not JSON"),
        ('{"a": "\\ud800"}', "is not JSON"),
    ],
    ids=["cut", "list", "nan", "deep", "large", "bytes", "half"],
)
def test_files_that_are_no_configuration(text, said, tmp_path):
    foreign.bert(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert said in refused(tmp_path)


def test_folders_that_lack_something(tmp_path):
    assert "There is no folder" in refused(tmp_path / "nowhere")
    assert "config.json is missing" in refused(tmp_path)
    foreign.bert(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "away")
    assert "a fast tokenizer is needed" in refused(tmp_path)
    (tmp_path / "away").rename(tmp_path / "tokenizer.json")
    (tmp_path / "model.safetensors").unlink()
    assert "holds no weights" in refused(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "convert it: load it with transformers" in refused(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "adapters (LoRA)" in refused(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder.layer.0.output.dense.bias": None}, "lack the tensor 'encoder.layer.0.output.dense.bias'"),
        ({"encoder.layer.2.output.dense.bias": torch.zeros(32)}, "hold 'encoder.layer.2.output.dense.bias'"),
        ({"lora_A": torch.zeros(32)}, "hold 'lora_A', which a model of this kind does not have"),
        ({"embeddings.LayerNorm.bias": torch.zeros(31)}, "'embeddings.LayerNorm.bias' is [31], expected [32]"),
        ({"embeddings.LayerNorm.bias": torch.zeros(32, dtype=torch.float64)}, "is F64, expected F32, F16 or BF16"),
        ({"embeddings.LayerNorm.bias": torch.full((32,), torch.nan)}, "holds numbers that are not finite"),
        ({"bert.embeddings.LayerNorm.bias": torch.zeros(32)}, "are the same one"),
    ],
    ids=["missing", "layer", "unknown", "shape", "dtype", "nan", "twice"],
)
def test_tensors(change, said, tmp_path):
    assert said in refused(foreign.bert(tmp_path, tensors=change))


def test_tensors_that_do_nothing_are_left_out(tmp_path):
    plain = read_model(str(foreign.bert(tmp_path / "plain")), Asked()).tensors
    idle = {"cls.predictions.bias": torch.zeros(320), "embeddings.position_ids": torch.arange(40)}
    idle |= {"pooler.dense.weight": None, "pooler.dense.bias": None}
    found = read_model(str(foreign.bert(tmp_path / "idle", tensors=idle)), Asked()).tensors
    assert found.keys() == plain.keys()
    assert "lack the tensor 'pooler.dense" in refused(foreign.bert(tmp_path / "needed", foreign.BY_LABEL, tensors=needed()))


def needed():
    return {"bert.pooler.dense.weight": None, "bert.pooler.dense.bias": None}


def test_shards(tmp_path):
    foreign.bert(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    for weight_map, said in (
        (None, "'weight_map' is missing"),
        ([], "'weight_map' must be a mapping"),
        ({"x": "../a.safetensors"}, "expected a safetensors file beside it"),
        ({"x": "a.bin"}, "expected a safetensors file beside it"),
        ({"x": "b.safetensors"}, "names 'b.safetensors', which is not there"),
    ):
        foreign.write(index, {"weight_map": weight_map})
        assert said in refused(tmp_path)
    safetensors.torch.save_file({"pooler.dense.bias": torch.zeros(32)}, tmp_path / "b.safetensors")
    foreign.write(index, {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})
    assert "which another file holds too" in refused(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"no header")
    assert "cannot be read as safetensors" in refused(tmp_path)


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([("WeightedLayerPooling", {}, None)], "WeightedLayerPooling"),
        ([("own_code.Pooling", {}, None)], "trust_remote_code"),
        ([("Normalize", {}, None)], "says Transformer, Normalize; read are"),
        ([("Pooling", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}, None)], "its Pooling is 16 wide"),
        ([("Pooling", {"pooling_mode": "mean"}, None)], "'word_embedding_dimension' is missing"),
    ],
    ids=["weighted", "code", "order", "width", "no width"],
)
def test_modules(modules, said, tmp_path):
    assert said in refused(foreign.sentence(foreign.bert(tmp_path), *modules))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pooling_mode_cls_token": True}, '\'pooling_mode\' is ["cls", "mean"]'),
        ({"pooling_mode": ["mean", "max"]}, '\'pooling_mode\' is ["mean", "max"]'),
        *(
            ({"pooling_mode_mean_tokens": False, f"pooling_mode_{mode}": True}, "'pooling_mode' is")
            for mode in ("mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
        ),
        ({"pooling_mode": "lasttoken"}, "'pooling_mode' is \"lasttoken\""),
        ({"pooling_mode_mean_tokens": "yes"}, "must be true or false"),
    ],
)
def test_poolings(change, said, tmp_path):
    assert said in refused(foreign.sentence(foreign.bert(tmp_path), pooling=change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation_function": "own.Swirl"}, "'activation_function' is \"own.Swirl\""),
        ({"use_residual": True}, "'use_residual' is true"),
        ({"in_features": 31}, "'in_features' is 31"),
        ({"module_input_name": "token_embeddings"}, "'module_input_name' is \"token_embeddings\""),
        ({"module_output_name": "scores"}, "'module_output_name' is \"scores\""),
        ({"out_features": 7}, "'linear.weight' is [8, 32], expected [7, 32]"),
        ({"bias": False}, "hold 'linear.bias', which a Dense of this kind does not have"),
    ],
)
def test_dense_layers(change, said, tmp_path):
    config = {"in_features": 32, "out_features": 8, "bias": True, "activation_function": "torch.nn.modules.linear.Identity"}
    tensors = {"linear.weight": torch.zeros(8, 32), "linear.bias": torch.zeros(8)}
    pooling = ("Pooling", {"word_embedding_dimension": 32, "pooling_mode": "cls"}, None)
    assert said in refused(foreign.sentence(foreign.bert(tmp_path), pooling, ("Dense", config | change, tensors)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"transformer_task": "fill-mask"}, "'transformer_task' is \"fill-mask\""),
        ({"query_expansion": {"strategy": "fixed"}}, "'query_expansion' is"),
        ({"tokenizer_args": {"use_fast": False}}, "'tokenizer_args' is"),
        ({"modality_config": {"image": {}}}, "'modality_config' is"),
        ({"max_seq_length": "long"}, "'max_seq_length' must be an integer"),
    ],
)
def test_settings_of_sentence_transformers(change, said, tmp_path):
    assert said in refused(foreign.sentence(foreign.bert(tmp_path), sentence_bert=change))


def test_paths_of_modules_stay_in_the_folder(tmp_path):
    folder = foreign.sentence(foreign.bert(tmp_path / "model"))
    listed = json.loads((folder / "modules.json").read_text())
    for path in ("../model/1_Pooling", "/etc"):
        listed[1]["path"] = path
        foreign.write(folder / "modules.json", listed)
        assert "leads out of the folder" in refused(folder)
    foreign.write(folder / "modules.json", [])
    assert "must be a list of 1 to" in refused(folder)


def test_prompts(tmp_path):
    folder = foreign.sentence(foreign.bert(tmp_path), prompts={"prompts": {"a": "A: "}}, pooling={"include_prompt": False})
    assert "has no prompt 'b'; there is 'a'" in refused(folder, Asked(prompt="b"))
    assert "'include_prompt' of its Pooling is false" in refused(folder, Asked(prompt="a"))
    assert read_model(str(folder), Asked()).text.templates == ("{text}",)
    for change, said in (
        ({"prompts": {"a": 1}}, "'prompts' must be"),
        ({"default_prompt_name": []}, "must be a text"),
        ({"model_type": "SparseEncoder"}, '"SparseEncoder"'),
    ):
        foreign.write(folder / "config_sentence_transformers.json", change)
        assert said in refused(folder)


def test_tokenizers(tmp_path):
    folder, made = foreign.bert(tmp_path), foreign.wordpiece()
    anew = {"tokenizer_class": "BertTokenizer", "pad_token": "[PAD]"}
    for change, said in (
        ({"do_lower_case": False}, "'do_lower_case' is false"),
        ({"strip_accents": True}, "'strip_accents' is true"),
        ({"tokenize_chinese_chars": False}, "'tokenize_chinese_chars' is false"),
        ({"truncation_side": "left"}, "'truncation_side' is \"left\""),
        ({"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}, "trust_remote_code"),
        ({"model_max_length": "many"}, "'model_max_length' must be"),
    ):
        foreign.add_tokenizer(folder, made, **(anew | change))
        assert said in refused(folder)
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    foreign.add_tokenizer(folder, made, **(anew | {"do_lower_case": False}))
    assert read_model(str(folder), Asked())
    foreign.write(folder / "sentence_bert_config.json", {"do_lower_case": True})
    assert "add Lowercase to its normalizer" in refused(folder)
    (folder / "sentence_bert_config.json").unlink()
    made.post_processor = processors.ByteLevel()
    foreign.add_tokenizer(folder, made, **(anew | {"do_lower_case": False}))
    assert "adds no special tokens" in refused(folder)
    made = Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]"))
    made.save(str(folder / "tokenizer.json"))
    assert "cannot be used as a tokenizer" in refused(folder)
    (folder / "tokenizer.json").write_text("{}")
    assert "cannot be used as a tokenizer" in refused(folder)


def test_a_tokenizer_that_knows_more_tokens_than_the_model(tmp_path):
    assert "the model embeds 200 tokens" in refused(foreign.bert(tmp_path, vocab_size=200))


def test_pairs_whose_token_types_depend_on_who_reads(tmp_path):
    folder = foreign.bert(tmp_path, foreign.ONE_LABEL)
    foreign.add_tokenizer(folder, foreign.wordpiece())
    assert "'model_input_names' is missing" in refused(folder, Asked(query="{query}"))
    for names, types in ((["input_ids"], 1), (["input_ids", "token_type_ids"], 2)):
        foreign.add_tokenizer(folder, foreign.wordpiece(), model_input_names=names)
        found = read_model(str(folder), Asked(query="{query}"))
        assert (found.shape.types, len(found.tensors["embeddings.types"])) == (types, types)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "'id2label' must be an object with a name for each"),
        ({"id2label": {"0": "a", "1": ""}}, "'id2label' must be"),
        ({"id2label": {"0": "a", "1": "a"}}, "the output column 'label_a' is there twice"),
        ({"num_labels": 4}, "'num_labels' is 4"),
        ({"sentence_transformers": {"activation_fn": []}}, "'activation_fn' is []"),
        ({"problem_type": "ranking"}, "'problem_type' is \"ranking\""),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}}, "'activation_fn' is"),
        ({"sbert_ce_default_activation_function": "own.Swirl"}, "'activation_fn' is \"own.Swirl\""),
        (
            {
                "problem_type": "single_label_classification",
                "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
            },
            "contradicts",
        ),
    ],
    ids=lambda v: json.dumps(v)[:60] if isinstance(v, dict) else "",
)
def test_labels(change, said, tmp_path):
    foreign.bert(tmp_path, foreign.BY_LABEL)
    foreign.write(tmp_path / "config.json", foreign.BY_LABEL | change)
    assert said in refused(tmp_path)


@pytest.mark.parametrize(
    ("config", "change", "kinds"),
    [
        (foreign.BY_LABEL, {}, [("label", "multiclass")]),
        (foreign.BY_LABEL, {"problem_type": "multi_label_classification"}, [(n, "binary") for n in ("bad", "fair", "good")]),
        (foreign.BY_LABEL, {"problem_type": "regression"}, [(n, "regression") for n in ("bad", "fair", "good")]),
        (foreign.ONE_LABEL, {}, [("score", "binary")]),
        (foreign.ONE_LABEL, {"problem_type": "regression"}, [("score", "regression")]),
    ],
    ids=["classes", "labels", "numbers", "one", "number"],
)
def test_heads(config, change, kinds, tmp_path):
    found = read_model(str(foreign.bert(tmp_path, config, **change)), Asked())
    assert [(head.name, head.kind) for head in found.heads] == kinds
    assert found.embedding is None


def test_what_is_asked_and_cannot_be(tmp_path):
    embedding, classes = foreign.bert(tmp_path / "embedding"), foreign.bert(tmp_path / "classes", foreign.BY_LABEL)
    for folder, asked, said in (
        (embedding, Asked(null="drop"), "null=drop is not known"),
        (embedding, Asked(overlong="window"), "did you mean windows?"),
        (embedding, Asked(store="float8"), "store=float8 is not known"),
        (embedding, Asked(task="classify"), "task=classify is not known"),
        (embedding, Asked(task="classification"), "nothing to classify with"),
        (embedding, Asked(query="{query}"), "query=… makes pairs"),
        (embedding, Asked(max_length=41), "max_length=41 cannot be: the model takes 1 to 40 tokens"),
        (embedding, Asked(max_length=2), "leaves no room"),
        (embedding, Asked(text="{text"), "has '{' at 0"),
        (embedding, Asked(text="hello"), "names no column"),
        (classes, Asked(store="int8"), "store=int8 is for embeddings"),
        (classes, Asked(query="{query}", overlong="windows"), "overlong=windows is for single texts"),
    ):
        assert said in refused(folder, asked, ConfigError)
    pooled = foreign.sentence(foreign.bert(tmp_path / "pooled", foreign.BY_LABEL))
    assert "say task=embedding" in refused(pooled, Asked(task="classification"))
    assert read_model(str(pooled), Asked()).heads == ()


def test_links_out_of_the_folder_are_followed(tmp_path):
    folder, store = foreign.bert(tmp_path / "model"), tmp_path / "store"
    (tmp_path / "link").mkdir()
    folder.rename(store)
    for file in store.iterdir():
        (tmp_path / "link" / file.name).symlink_to(file)
    assert read_model(str(tmp_path / "link"), Asked()).shape == Shape("bert", 320, 32, 2, 4, 48, "gelu", 1e-12, 40, 0, 2)

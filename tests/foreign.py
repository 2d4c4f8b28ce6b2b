"""Folders as transformers and sentence-transformers write them, tiny, with random weights; made by hand, without either."""

import json

import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "the quick brown fox jumps over the lazy dog and runs away from what it never saw before",
    "machine learning models read texts and give vectors, classes or scores for all of them",
    "Ein längerer Satz über Äpfel, Öl und Übermut. Où est la bibliothèque? El niño comió una manzana.",
    "быстрая коричневая лиса прыгает через ленивую собаку 0123456789 word words a b c d e f g",
]
WORDS = CORPUS[0].split()
BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}
BY_LABEL = BERT | {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "bad", "1": "fair", "2": "good"}}
ONE_LABEL = BERT | {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}


def wordpiece():
    """As BERT's: [CLS] a [SEP] b [SEP], the second text of token type 1."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    ids = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ids
    )
    made.decoder = decoders.WordPiece()
    return made


def byte_level():
    """As RoBERTa's: <s> a </s></s> b </s>, the padding token being number 1."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=310,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    made.decoder = decoders.ByteLevel()
    return made


def add_tokenizer(folder, made, **config):
    made.save(str(folder / "tokenizer.json"))
    write(
        folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": made.id_to_token(0)} | config
    )


def bert(folder, config=None, tensors=None, **changes):
    """A folder of a BERT: `config` (default BERT) with `changes`, None taking a key away; `tensors` added, None taken away."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in ((config or BERT) | changes).items() if v is not None}
    write(folder / "config.json", config)
    all_of_them = bert_tensors(config) | (tensors or {})
    safetensors.torch.save_file({k: v for k, v in all_of_them.items() if v is not None}, folder / "model.safetensors")
    add_tokenizer(folder, wordpiece(), tokenizer_class="BertTokenizer", pad_token="[PAD]", model_max_length=64)
    return folder


def bert_tensors(config=None):
    config = BERT | (config or {})
    h, inner, labels = config["hidden_size"], config["intermediate_size"], len(config.get("id2label", ()))
    sizes = {f"embeddings.{name}_embeddings.weight": (config[key], h) for name, key in TABLES.items()}
    for n in range(config["num_hidden_layers"]):
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            sizes |= affine(f"encoder.layer.{n}.{name}", h, h)
        sizes |= affine(f"encoder.layer.{n}.intermediate.dense", inner, h) | affine(f"encoder.layer.{n}.output.dense", h, inner)
        sizes |= affine(f"encoder.layer.{n}.attention.output.LayerNorm", h) | affine(f"encoder.layer.{n}.output.LayerNorm", h)
    sizes |= affine("embeddings.LayerNorm", h) | affine("pooler.dense", h, h)
    prefix = "bert." if labels else ""
    sizes = {prefix + name: size for name, size in sizes.items()} | (affine("classifier", labels, h) if labels else {})
    random = torch.Generator().manual_seed(1)
    return {name: torch.randn(size, generator=random) * 0.1 for name, size in sizes.items()}


TABLES = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}


def affine(name, *size):
    return {f"{name}.weight": size, f"{name}.bias": size[:1]}


def sentence(folder, *modules, pooling=None, prompts=None, sentence_bert=None):
    """What sentence-transformers adds; `modules` (default a pooling) are (name, config, tensors)."""
    modules = modules or (("Pooling", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True} | (pooling or {}), None),)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for n, (name, config, tensors) in enumerate(modules, 1):
        path = f"{n}_{name.rpartition('.')[2]}"
        (folder / path).mkdir()
        kind = name if "." in name else f"sentence_transformers.models.{name}"
        listed.append({"idx": n, "name": str(n), "path": path, "type": kind})
        write(folder / path / "config.json", config)
        if tensors:
            safetensors.torch.save_file(tensors, folder / path / "model.safetensors")
    write(folder / "modules.json", listed)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False} | (sentence_bert or {}))
    write(folder / "config_sentence_transformers.json", prompts or {})
    return folder


def write(path, data):
    path.write_text(json.dumps(data))

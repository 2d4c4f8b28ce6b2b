"""Tensors of a transformers model under our names: prefixes taken off, q, k, v stacked, absent biases zeros, none unknown."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

from scoring.errors import ModelError
from scoring.models.encoder_shape import tensors_of
from scoring.models.huggingface.config import Read, Task
from scoring.models.huggingface.folder import Weights

Sources = dict[str, tuple[str, ...]]  # our name: theirs, one below the other; none: zeros
_PREFIX = {"bert": "bert.", "roberta": "roberta.", "distilbert": "distilbert.", "modernbert": "model."}
_OLD = re.compile(r"(LayerNorm)\.(gamma|beta)$")
_NEW = {"gamma": "weight", "beta": "bias"}
_NEVER_USED = r"embeddings\.(position_ids|token_type_ids)|cls\..*|lm_head\..*|vocab_(transform|layer_norm|projector)\..*|pooler\..*"
_HEADS = r"|classifier\..*|pre_classifier\..*|head\..*|decoder\..*"


def read_weights(read: Read, task: Task, logits: int) -> dict[str, torch.Tensor]:
    """The encoder's tensors and, for a classification, those of projection 0 and the classifier, float32.

    Raises:
        ModelError: a tensor is missing, has another shape, or is none of this model.
    """
    classify = task == "classification"
    expected = tensors_of(read.shape, (read.dense,) if classify else (), logits if classify else 0)
    sources = dict(_encoder(read)) | (_classifier(read) if classify else {})
    with read.folder.weights() as weights:
        theirs = _named(weights, _PREFIX[read.tensors])
        used = {name for names in sources.values() for name in names}
        harmless = re.compile(_NEVER_USED + ("" if classify else _HEADS))
        if unknown := sorted(n for n in theirs.keys() - used if not harmless.fullmatch(n)):
            raise ModelError(f"{weights.path}: the weights hold {theirs[unknown[0]]!r}, which a model of this kind does not have.")
        return {ours: _read(weights, theirs, names, expected[ours][1]) for ours, names in sources.items()}


def _named(weights: Weights, prefix: str) -> dict[str, str]:
    """Names without prefix, in today's spelling, and as they stand in the file."""
    found: dict[str, str] = {}
    for name in sorted(weights.names()):
        short = _OLD.sub(lambda old: f"{old[1]}.{_NEW[old[2]]}", name.removeprefix(prefix))
        if short in found:
            raise ModelError(f"{weights.path}: the tensors {found[short]!r} and {name!r} are the same one.")
        found[short] = name
    return found


def _read(weights: Weights, theirs: dict[str, str], names: tuple[str, ...], shape: tuple[int, ...]) -> torch.Tensor:
    if not names:
        return torch.zeros(shape)
    part = (shape[0] // len(names), *shape[1:])
    return torch.cat([weights.read(theirs.get(name, name), part) for name in names])


def _encoder(read: Read) -> Iterator[tuple[str, tuple[str, ...]]]:
    names = {"bert": _BERT, "roberta": _BERT, "distilbert": _DISTILBERT, "modernbert": _MODERNBERT}[read.tensors]
    for ours in read.shape.tensors():
        stem, _, part = ours.rpartition(".")
        if stem == "embeddings":  # tables, which have one tensor
            yield ours, (f"{names[ours]}.weight",)
            continue
        layer = re.match(r"layers\.(\d+)\.(.*)", stem)
        there = names[layer[2] if layer else stem].split()
        kept = part == "weight" or read.biases.get(_part_of(stem), True)
        yield ours, tuple(f"{name.replace('#', layer[1] if layer else '')}.{part}" for name in there) if kept else ()


def _part_of(stem: str) -> str:
    """Which of the flags of modernbert says whether it has biases."""
    if stem.endswith("norm"):
        return "norm"
    return "attention" if stem.endswith(("qkv", "attention_out")) else "mlp"


_BERT = {
    "embeddings.tokens": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "qkv": " ".join(f"encoder.layer.#.attention.self.{one}" for one in ("query", "key", "value")),
    "attention_out": "encoder.layer.#.attention.output.dense",
    "attention_norm": "encoder.layer.#.attention.output.LayerNorm",
    "up": "encoder.layer.#.intermediate.dense",
    "down": "encoder.layer.#.output.dense",
    "output_norm": "encoder.layer.#.output.LayerNorm",
}
_DISTILBERT = {
    "embeddings.tokens": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "qkv": " ".join(f"transformer.layer.#.attention.{one}_lin" for one in "qkv"),
    "attention_out": "transformer.layer.#.attention.out_lin",
    "attention_norm": "transformer.layer.#.sa_layer_norm",
    "up": "transformer.layer.#.ffn.lin1",
    "down": "transformer.layer.#.ffn.lin2",
    "output_norm": "transformer.layer.#.output_layer_norm",
}
_MODERNBERT = {
    "embeddings.tokens": "embeddings.tok_embeddings",
    "embeddings.norm": "embeddings.norm",
    "qkv": "layers.#.attn.Wqkv",
    "attention_out": "layers.#.attn.Wo",
    "attention_norm": "layers.#.attn_norm",
    "up": "layers.#.mlp.Wi",
    "down": "layers.#.mlp.Wo",
    "output_norm": "layers.#.mlp_norm",
    "final_norm": "final_norm",
}
_HEAD = {  # the dense layer before the classifier, and the classifier
    "bert": ("pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "distilbert": ("pre_classifier", "classifier"),
    "modernbert": ("head.dense", "classifier"),
}


def _classifier(read: Read) -> Sources:
    dense, last = _HEAD[read.tensors]
    found: Sources = {f"classifier.{part}": (f"{last}.{part}",) for part in ("weight", "bias")}
    found["projections.0.weight"] = (f"{dense}.weight",)
    found |= {"projections.0.bias": (f"{dense}.bias",)} if read.dense.bias else {}
    if read.dense.norm:
        found["projections.0.norm.weight"] = ("head.norm.weight",)
        found["projections.0.norm.bias"] = ("head.norm.bias",) if read.biases["norm"] else ()
    return found

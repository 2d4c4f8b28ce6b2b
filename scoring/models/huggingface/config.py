"""config.json of a transformers model: which encoder it is, in our words, or why it cannot be read.

Keys that no supported model looks at are passed over, as transformers does; those that would change what it computes are refused.
Read beside transformers 5: modeling_bert, modeling_roberta, modeling_distilbert, modeling_modernbert and their configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

from scoring.errors import ModelError
from scoring.models.encoder_shape import Activation, Pooling, Projection, Shape
from scoring.models.huggingface.folder import Folder, keys_of, refuse
from scoring.models.huggingface.rotary import rotary
from scoring.models.manifest import Fields

FILE = "config.json"
Kind = Literal["bert", "roberta", "distilbert", "modernbert"]
Task = Literal["embedding", "classification"]
TASKS: tuple[Task, ...] = ("embedding", "classification")
_TYPES: dict[str, tuple[Kind, str]] = {  # by model_type: how its tensors are named, and how its architectures begin
    "bert": ("bert", "Bert"),
    "roberta": ("roberta", "Roberta"),
    "xlm-roberta": ("roberta", "XLMRoberta"),
    "distilbert": ("distilbert", "DistilBert"),
    "modernbert": ("modernbert", "ModernBert"),
}
_CLASSIFIER = "ForSequenceClassification"
_PARTS = ("Model", "ForMaskedLM", "ForPreTraining", _CLASSIFIER)
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {  # key: (values under which it changes nothing, what is known)
    "auto_map": ((), "it names code to be run (trust_remote_code), and none is run from a folder"),
    "quantization_config": ((), "only weights of 16 or 32 bits are read"),
    "is_decoder": ((False,), "only encoders are read"),
    "is_encoder_decoder": ((False,), "only encoders are read"),
    "add_cross_attention": ((False,), "only encoders of one text or a pair are read"),
    "is_causal": ((False,), "only encoders that look to both sides are read"),
    "pruned_heads": (({}, []), "all heads must be there"),
    "position_embedding_type": (("absolute",), "'absolute' is"),
    "rope_scaling": ((), "rotary positions as they were trained are"),
}


@dataclass(frozen=True)
class Read:
    """One encoder and what a classification head adds: how it pools, its dense layer, and whether biases are in the file.

    `tensors` says how tensors are named; `biases` by part of modernbert (attention, mlp, norm), whose absent ones are zeros.
    """

    folder: Folder
    tensors: Kind
    shape: Shape
    classifier: bool
    pooling: Pooling
    dense: Projection
    biases: dict[str, bool]
    keys: Fields

    @property
    def where(self) -> str:
        return str(self.folder.file(FILE))


def read_config(folder: Folder) -> Read:
    """Raises: ModelError: config.json is missing, cannot be read, or names a model that is not supported."""
    if not folder.has(FILE):
        raise ModelError(f"{folder.path} is no folder of a transformers model: {FILE} is missing.")
    data, where = folder.json(FILE), str(folder.file(FILE))
    keys = keys_of(data, where)
    _refuse(data, where)
    kind, begins = _type_of(keys, data)
    classifier = _architecture(keys, data, begins)
    shape, biases = _modernbert(keys, data, where) if kind == "modernbert" else _bert(keys, data, where, kind)
    _check_width(data, where, shape)
    shape.check(where)
    pooling, dense = _head(keys, data, where, kind, shape)
    return Read(folder, kind, shape, classifier, pooling, dense, biases, keys)


def task_of(read: Read, asked: str) -> Task:
    """What the folder is imported for. Raises: ModelError: it cannot be that."""
    if asked == "classification" and not read.classifier:
        _wrong(read.where, "architectures", f"names no …{_CLASSIFIER}, so that there is nothing to classify with")
    return cast(Task, asked or ("classification" if read.classifier else "embedding"))


def activation_of(keys: Fields, data: dict[str, Any], where: str, key: str) -> Activation:
    """An activation by its name in transformers. Raises: ModelError: one that is not known."""
    found = keys.text(key, "gelu")
    if found not in _ACTIVATIONS:
        raise refuse(where, key, data[key], f"known are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[found]


def _refuse(data: dict[str, Any], where: str) -> None:
    for key, (harmless, known) in _REFUSED.items():
        if (value := data.get(key)) is not None and value not in harmless:
            raise refuse(where, key, value, known)


def _type_of(keys: Fields, data: dict[str, Any]) -> tuple[Kind, str]:
    if (found := keys.text("model_type")) not in _TYPES:
        raise refuse(keys.where, "model_type", data["model_type"], f"{', '.join(_TYPES)} are")
    return _TYPES[found]


def _architecture(keys: Fields, data: dict[str, Any], begins: str) -> bool:
    """Whether it is a classifier; a folder that names no architecture is an encoder."""
    names = keys.texts("architectures", [])
    known = [begins + part for part in _PARTS]
    if len(names) > 1 or (names and names[0] not in known):
        raise refuse(keys.where, "architectures", data["architectures"], f"one of {', '.join(known)} is")
    return bool(names) and names[0].endswith(_CLASSIFIER)


def _check_width(data: dict[str, Any], where: str, shape: Shape) -> None:
    for key, expected in (("embedding_size", shape.hidden), ("head_dim", shape.head_width)):
        if (found := data.get(key)) is not None and found != expected:
            raise refuse(where, key, found, f"{expected} is, as the other widths say")


def _bert(keys: Fields, data: dict[str, Any], where: str, kind: Kind) -> tuple[Shape, dict[str, bool]]:
    distil = kind == "distilbert"
    names = ("dim", "n_layers", "n_heads", "hidden_dim") if distil else _SIZES
    hidden, layers, heads, inner = _sizes(keys, names)
    shape = Shape(
        "bert",
        _vocabulary(keys),
        hidden,
        layers,
        heads,
        inner,
        activation_of(keys, data, where, "activation" if distil else "hidden_act"),
        1e-12 if distil else keys.number("layer_norm_eps", 1e-12),
        keys.integer("max_position_embeddings", 1, 1 << 20),
        1 + keys.integer("pad_token_id", 0, 1 << 20, 1) if kind == "roberta" else 0,
        0 if distil else keys.integer("type_vocab_size", 1, 1 << 16, 2),
    )
    return shape, {}


_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def _modernbert(keys: Fields, data: dict[str, Any], where: str) -> tuple[Shape, dict[str, bool]]:
    hidden, layers, heads, inner = _sizes(keys, _SIZES)
    biases = {part: keys.flag(f"{part}_bias", False) for part in ("attention", "mlp", "norm")}
    window, every, theta = rotary(keys, data, where, layers)
    shape = Shape(
        "modernbert",
        _vocabulary(keys),
        hidden,
        layers,
        heads,
        inner,
        activation_of(keys, data, where, "hidden_activation"),
        keys.number("norm_eps", 1e-5),
        keys.integer("max_position_embeddings", 1, 1 << 20),
        window=window,
        global_every=every,
        theta=theta,
        biases=any(biases.values()),
    )
    return shape, biases


def _sizes(keys: Fields, names: tuple[str, ...]) -> tuple[int, int, int, int]:
    """Hidden width, layers, heads and inner width."""
    limits = (1 << 16, 1024, 1 << 16, 1 << 20)
    hidden, layers, heads, inner = (keys.integer(name, 1, most) for name, most in zip(names, limits, strict=True))
    return hidden, layers, heads, inner


def _vocabulary(keys: Fields) -> int:
    return keys.integer("vocab_size", 1, 1 << 24)


def _head(keys: Fields, data: dict[str, Any], where: str, kind: Kind, shape: Shape) -> tuple[Pooling, Projection]:
    """Pooling and the dense layer before the classifier."""
    if kind == "modernbert":
        if (pooling := keys.text("classifier_pooling", "cls")) not in ("cls", "mean"):
            raise refuse(where, "classifier_pooling", pooling, "cls and mean are")
        activation = activation_of(keys, data, where, "classifier_activation")
        return Pooling(cast(Any, pooling)), Projection(shape.hidden, activation, keys.flag("classifier_bias", False), True)
    return Pooling("cls"), Projection(shape.hidden, "relu" if kind == "distilbert" else "tanh")


def _wrong(where: str, key: str, what: str) -> NoReturn:
    raise ModelError(f"{where}: {key!r} {what}.")

"""What sentence-transformers keeps beside a model: modules.json, pooling, dense layers, prompts, the longest sequence.

Read beside sentence-transformers 6: Transformer, Pooling, Dense, Normalize; a folder without modules.json is pooled by the
mean there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch

from scoring.errors import ModelError
from scoring.models.encoder_shape import MOST_PROJECTIONS, Pooling, Projection
from scoring.models.huggingface.folder import Folder, keys_of, refuse
from scoring.models.manifest import Fields

MODULES, PROMPTS = "modules.json", "config_sentence_transformers.json"
SENTENCE_FILES = tuple(f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "xlm-roberta"))
_LEGACY = {  # in the order in which they would be joined
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_DENSE = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "none",
}
_EMPTY: tuple[Any, ...] = ({}, [], False)
_TRANSFORMER = {  # keys of sentence_bert_config.json that must say nothing, or one of these
    **dict.fromkeys(("query_length", "document_length", "query_expansion", "processing_kwargs"), ()),
    **dict.fromkeys(("model_args", "tokenizer_args", "config_args", "model_kwargs", "processor_kwargs", "config_kwargs"), ()),
    "transformer_task": ("feature-extraction", "sequence-classification"),
    "module_output_name": ("token_embeddings", "scores"),
}


@dataclass(frozen=True)
class Modules:
    """`transformer` is where config.json, the weights and the tokenizer are, `dense` the folders of `projections`.

    `width` is that of Pooling; 0: there is none, and the mean is taken.
    """

    transformer: Folder
    pooling: Pooling = field(default_factory=Pooling)
    projections: tuple[Projection, ...] = ()
    dense: tuple[Folder, ...] = ()
    unit: bool = False
    include_prompt: bool = True
    width: int = 0


def read_modules(folder: Folder) -> Modules:
    """Raises: ModelError: a module that is not known, or known ones in an order that is not."""
    if not folder.has(MODULES):
        return Modules(folder)
    where = str(folder.file(MODULES))
    names: list[str] = []
    places: list[Folder] = []
    listed = folder.json(MODULES)
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST_PROJECTIONS:
        raise ModelError(f"{where} must be a list of 1 to {MOST_PROJECTIONS} modules.")
    for n, item in enumerate(listed):
        keys = keys_of(item, f"{where}: [{n}]")
        if (name := _module(keys.text("type"), keys.where)) != "Dropout":  # which does nothing when a model is used
            names.append(name)
            places.append(folder.inner(_path(keys)))
    unit = names[-1:] == ["Normalize"]
    dense = len(names) - 2 - unit
    if names == ["Transformer"]:
        return Modules(places[0])
    if names != ["Transformer", "Pooling", *["Dense"] * dense, *["Normalize"] * unit]:
        raise ModelError(
            f"{where} says {', '.join(names)}; read are Transformer, Pooling, any Dense, and perhaps Normalize at the end."
        )
    pooling, include, pooled = _pooling(places[1])
    projections, width = [], pooled
    for place in places[2 : 2 + dense]:
        projections.append(_projection(place, width))
        width = projections[-1].outputs
    return Modules(places[0], pooling, tuple(projections), tuple(places[2 : 2 + dense]), unit, include, pooled)


def read_dense(modules: Modules, hidden: int) -> dict[str, torch.Tensor]:
    """Tensors of the projections, float32. Raises: ModelError: one is missing or of another shape."""
    found: dict[str, torch.Tensor] = {}
    width = hidden
    for k, (one, folder) in enumerate(zip(modules.projections, modules.dense, strict=True)):
        sizes = {"weight": (one.outputs, width)} | ({"bias": (one.outputs,)} if one.bias else {})
        with folder.weights() as weights:
            if unknown := sorted(weights.names() - {f"linear.{part}" for part in sizes}):
                raise ModelError(f"{folder.path}: the weights hold {unknown[0]!r}, which a Dense of this kind does not have.")
            found |= {f"projections.{k}.{part}": weights.read(f"linear.{part}", size) for part, size in sizes.items()}
        width = one.outputs
    return found


def read_sentence(folder: Folder) -> tuple[int | None, bool]:
    """`max_seq_length`, if it is said, and do_lower_case. Raises: ModelError: a setting that is not known here."""
    if not (name := next((n for n in SENTENCE_FILES if folder.has(n)), "")):
        return None, False
    data, keys = folder.json(name), folder.keys(name)
    for key, known in _TRANSFORMER.items():
        if (value := data.get(key)) is not None and value not in (*known, *_EMPTY):
            raise refuse(keys.where, key, value, f"{' and '.join(known)} are" if known else "nothing is")
    _modality(keys)
    longest = keys.integer("max_seq_length", 1, 1 << 20) if keys.has("max_seq_length") else None
    return longest, keys.flag("do_lower_case", False)


def read_prompt(folder: Folder, asked: str) -> str:
    """The prompt of this name, or the default one, or none. Raises: ModelError: there is no such prompt."""
    keys = folder.keys(PROMPTS) if folder.has(PROMPTS) else keys_of({}, str(folder.file(PROMPTS)))
    if (model := keys.text("model_type", "SentenceTransformer")) not in ("SentenceTransformer", "CrossEncoder"):
        raise refuse(keys.where, "model_type", model, "SentenceTransformer and CrossEncoder are")
    if (cut := keys.anything("truncate_dim", None)) is not None:
        raise refuse(keys.where, "truncate_dim", cut, "whole vectors are")
    prompts = keys.anything("prompts", {})
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        keys.wrong("prompts", "an object of texts", prompts)
    name = asked or keys.anything("default_prompt_name", None)
    if name is None:
        return ""
    if not isinstance(name, str):
        keys.wrong("default_prompt_name", "a text", name)
    if name not in prompts:
        raise ModelError(f"{keys.where} has no prompt {name!r}; there is {', '.join(map(repr, sorted(prompts))) or 'none'}.")
    return str(prompts[name])


def _module(kind: str, where: str) -> str:
    package, _, name = kind.rpartition(".")
    if not package.startswith("sentence_transformers."):
        raise refuse(where, "type", kind, "code of other packages (trust_remote_code) is never run")
    if name not in ("Transformer", "Pooling", "Dense", "Normalize", "Dropout"):
        raise refuse(where, "type", kind, "Transformer, Pooling, Dense and Normalize are")
    return name


def _path(keys: Fields) -> str:
    if not isinstance(path := keys.anything("path", ""), str):
        keys.wrong("path", "a text", path)
    return str(path)


def _pooling(folder: Folder) -> tuple[Pooling, bool, int]:
    """How it pools, whether prompts are pooled too, and the width."""
    keys = folder.keys("config.json")
    where = keys.where
    modes = keys.anything("pooling_mode", None)
    chosen = [mode for key, mode in _LEGACY.items() if keys.flag(key, False)]
    if modes is not None:
        chosen = modes if isinstance(modes, list) else [modes]
    chosen = chosen or ["mean"]
    if len(chosen) != 1 or chosen[0] not in ("mean", "cls", "max"):
        raise refuse(where, "pooling_mode", chosen[0] if len(chosen) == 1 else chosen, "one of mean, cls and max is")
    width = keys.integer("embedding_dimension" if keys.has("embedding_dimension") else "word_embedding_dimension", 1, 1 << 16)
    return Pooling(cast(Any, chosen[0])), keys.flag("include_prompt", True), width


def _projection(folder: Folder, width: int) -> Projection:
    keys = folder.keys("config.json")
    for key, usual in (("in_features", width), ("use_residual", False), ("module_input_name", "sentence_embedding")):
        if (found := keys.anything(key, usual)) != usual:
            raise refuse(keys.where, key, found, f"{usual} is")
    if (found := keys.anything("module_output_name", None)) not in (None, "sentence_embedding"):
        raise refuse(keys.where, "module_output_name", found, "sentence_embedding is")
    if (name := keys.text("activation_function", "torch.nn.modules.activation.Tanh")) not in _DENSE:
        raise refuse(keys.where, "activation_function", name, f"{', '.join(_DENSE)} are")
    return Projection(keys.integer("out_features", 1, 1 << 16), _DENSE[name], keys.flag("bias", True))


def _modality(keys: Fields) -> None:
    usual = (
        {"method": "forward", "method_output_name": "last_hidden_state"},
        {"method": "forward", "method_output_name": "logits"},
    )
    found = keys.anything("modality_config", {})
    if not isinstance(found, dict) or any(key != "text" or value not in usual for key, value in found.items()):
        raise refuse(keys.where, "modality_config", found, "the last hidden state or the logits of a text are")

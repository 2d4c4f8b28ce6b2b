"""A whole folder, checked from end to end, as what a text bundle holds."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch

from scoring.errors import ConfigError, ModelError
from scoring.models.encoder_shape import Pooling, Projection, Shape, vector_width
from scoring.models.heads import Head
from scoring.models.huggingface.config import TASKS, Read, Task, read_config, task_of
from scoring.models.huggingface.folder import Folder, open_folder
from scoring.models.huggingface.labels import read_heads
from scoring.models.huggingface.sentence import MODULES, PROMPTS, Modules, read_dense, read_modules, read_prompt, read_sentence
from scoring.models.huggingface.tokenizer import read_tokenizer
from scoring.models.huggingface.weights import read_weights
from scoring.models.templates import LONGEST, TextInput, pieces
from scoring.settings import Column
from scoring.types import Output

STRIDE = 32  # tokens that neighbouring windows share, where there is room for as many


@dataclass(frozen=True)
class Asked:
    """What the folder does not say. `query`: the first template of a pair. An empty `task` or `prompt` is the folder's own."""

    text: str = "{text}"
    query: str = ""
    null: str = "empty"
    overlong: str = "truncate"
    max_length: int | None = None
    store: str = "float32"
    prompt: str = ""
    task: str = ""

    def check(self) -> None:
        """Raises: ConfigError: a word that is none of those known."""
        for name, known in (
            ("null", ("empty", "quarantine")),
            ("overlong", ("truncate", "windows")),
            ("store", ("float32", "float16", "int8")),
            ("task", ("", *TASKS)),
        ):
            if (said := getattr(self, name)) not in known:
                near = difflib.get_close_matches(said, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(filter(None, known))}."
                raise ConfigError(f"{name}={said} is not known; {hint}")


@dataclass(frozen=True)
class Imported:
    """What `write_text` writes: either an `embedding` or `heads`."""

    inputs: dict[str, Column]
    text: TextInput
    shape: Shape
    pooling: Pooling
    projections: tuple[Projection, ...]
    unit: bool
    embedding: Output | None
    heads: tuple[Head, ...]
    tensors: dict[str, torch.Tensor]
    tokenizer: bytes


def read_model(path: str, asked: Asked) -> Imported:
    """Read a folder of transformers or sentence-transformers; nothing is downloaded and no code of it is run.

    Raises:
        ModelError: the folder holds no model that is supported, in one sentence. ConfigError: what was asked cannot be.
    """
    asked.check()
    folder = open_folder(path)
    modules = read_modules(folder)
    read = read_config(modules.transformer)
    task = _task(folder, modules, read, asked)
    prompt = _prompt(folder, modules, asked, task)
    said, lower = read_sentence(modules.transformer)
    tokenizer = read_tokenizer(modules.transformer, read.tensors, read.shape.vocabulary, bool(asked.query), lower)
    inputs, text = _text(asked, prompt, _longest(read, asked.max_length, said or tokenizer.longest), tokenizer.special)
    heads = read_heads(read, bool(asked.query)) if task == "classification" else ()
    shape, tensors = _types(read.shape, read_weights(read, task, sum(h.width for h in heads)), tokenizer.types)
    if heads:
        return Imported(inputs, text, shape, read.pooling, (read.dense,), False, None, heads, tensors, tokenizer.content)
    tensors |= read_dense(modules, shape.hidden)
    width = vector_width(shape, modules.projections)
    embedding = Output("embedding", width, cast(Literal["float32", "float16", "int8"], asked.store))
    return Imported(
        inputs, text, shape, modules.pooling, modules.projections, modules.unit, embedding, (), tensors, tokenizer.content
    )


def _task(folder: Folder, modules: Modules, read: Read, asked: Asked) -> Task:
    task = task_of(read, asked.task or ("embedding" if modules.width else ""))
    if task == "classification" and modules.width:
        raise ModelError(f"{folder.file(MODULES)} has a Pooling, which a classification does by itself; say task=embedding.")
    if modules.width not in (0, read.shape.hidden):
        raise ModelError(f"{folder.file(MODULES)}: its Pooling is {modules.width:,} wide, but the encoder {read.shape.hidden:,}.")
    if asked.query and task == "embedding":
        raise ConfigError("query=… makes pairs, which an embedding does not take; give text=… alone, or task=classification.")
    if asked.query and asked.overlong == "windows":
        raise ConfigError("overlong=windows is for single texts; pairs are cut (overlong=truncate).")
    if asked.store != "float32" and task == "classification":
        raise ConfigError(f"store={asked.store} is for embeddings; what a classification gives is float32.")
    return task


def _prompt(folder: Folder, modules: Modules, asked: Asked, task: Task) -> str:
    prompt = read_prompt(folder, asked.prompt)
    if prompt and task == "classification":
        raise ModelError(f"{folder.file(PROMPTS)}: a prompt ({prompt!r}) is for embeddings; write it into text=… or query=….")
    if prompt and not modules.include_prompt:
        raise ModelError(
            f"{folder.path}: 'include_prompt' of its Pooling is false, so that a prompt ({prompt!r}) is not supported."
        )
    return prompt


def _longest(read: Read, asked: int | None, said: int | None) -> int:
    """As sentence-transformers, but never beyond the positions that there are, where it would fail."""
    most = min(read.shape.longest, LONGEST)
    if asked is not None and not 1 <= asked <= most:
        raise ConfigError(f"max_length={asked} cannot be: the model takes 1 to {most:,} tokens.")
    return asked or min(said or most, most)


def _text(asked: Asked, prompt: str, longest: int, special: int) -> tuple[dict[str, Column], TextInput]:
    doubled = prompt.replace("{", "{{").replace("}", "}}")
    templates = (asked.query, asked.text) if asked.query else (doubled + asked.text,)
    for template in (asked.query or "{query}", asked.text):
        try:
            if not any(piece.is_column for piece in pieces(template)):
                raise ConfigError(f"The template {template!r} names no column; write {{name}} where a column is to stand.")
        except ValueError as error:
            raise ConfigError(f"The template {template!r} {error}.") from None
    if longest <= special:
        raise ConfigError(f"max_length={longest} leaves no room for text beside {special} special tokens.")
    stride = min(STRIDE, (longest - special) // 4) if asked.overlong == "windows" else 0
    text = TextInput(templates, longest, cast(Any, asked.overlong), stride, cast(Any, asked.null))
    return {name: Column("string", asked.null == "empty") for name in text.columns}, text


def _types(shape: Shape, tensors: dict[str, torch.Tensor], given: bool) -> tuple[Shape, dict[str, torch.Tensor]]:
    """A tokenizer that gives no token types means type 0 everywhere: its row is the only one kept."""
    if shape.types < 2 or given:
        return shape, tensors
    return replace(shape, types=1), tensors | {"embeddings.types": tensors["embeddings.types"][:1].clone()}

"""The models of the comparison as plain functions of columns: what every contender but ours computes, the same for all of them.

tabular   the spine's MLP by tables of the first layer that were multiplied out ahead, in blocks that stay in cache: the fastest
          form that is known for this model on a CPU, so that what differs between contenders is how rows reach it. Contenders
          with nn.Module in their title compute the module that was trained, which is what users have
text      sentence_transformers.encode, as its documentation says
forest    the library's own predict on a float32 matrix, the fastest call that each has

Columns come as Arrow arrays where a framework has them, as NumPy arrays where it has not (then null is NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from peers.shape import CATEGORIES, DIM, MEANS, NUMBERS, SCALES, TREE_COLUMNS, WORDS
from peers.task import BF16, MODULE, Marks, Task

Column = pa.Array | pa.ChunkedArray | np.ndarray[Any, Any]
BLOCK = 2_048
TEXTS = 32  # texts in a batch: the default of sentence-transformers; 64 and 128 are no faster on a CPU


class Predictor:
    """Opened once in each worker; `inputs` are the columns that a call takes, in this order."""

    def __init__(self, task: Task, threads: int) -> None:
        self.inputs, self._predict = OPEN[task.family](task, threads)
        self._marks = Marks(task.marks)
        self._marks.ready()

    def __call__(self, columns: Sequence[Column]) -> np.ndarray[Any, Any]:
        """Float32 (rows,), or (rows, 384) of texts."""
        found = self._predict(columns)
        self._marks.scored()
        return found


Opened = tuple[tuple[str, ...], Callable[[Sequence[Column]], np.ndarray[Any, Any]]]


def inputs(family: str) -> tuple[str, ...]:
    return {"tabular": (*NUMBERS, *CATEGORIES), "forest": TREE_COLUMNS, "text": ("text",)}[family]


def answer(family: str) -> str:
    return "embedding" if family == "text" else "score"


def _tabular(task: Task, threads: int) -> Opened:
    import torch

    torch.set_num_threads(threads)
    model = (Module if task.kind == MODULE else Mlp)(Path(task.model))
    model(_nothing(task.family))
    return inputs(task.family), model


def _forest(task: Task, threads: int) -> Opened:
    predict = library(task.kind, Path(task.model), threads)
    predict(np.zeros((2, len(TREE_COLUMNS)), np.float32))
    return inputs(task.family), lambda columns: predict(matrix(columns)).astype(np.float32)


def _text(task: Task, threads: int) -> Opened:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    settings = {"dtype": torch.bfloat16} if task.kind == BF16 else {}
    model = SentenceTransformer(task.model, device="cpu", model_kwargs=settings)
    model.encode(["one", "two"], batch_size=TEXTS)

    def embed(columns: Sequence[Column]) -> np.ndarray[Any, Any]:
        texts = columns[0].tolist() if isinstance(columns[0], np.ndarray) else columns[0].to_pylist()
        found: np.ndarray[Any, Any] = model.encode(texts, batch_size=TEXTS, show_progress_bar=False)
        return found

    return inputs(task.family), embed


OPEN: dict[str, Callable[[Task, int], Opened]] = {"tabular": _tabular, "text": _text, "forest": _forest}


def _nothing(family: str) -> list[np.ndarray[Any, Any]]:
    return [np.zeros(2, np.int64 if name in CATEGORIES else np.float32) for name in inputs(family)]


class Mlp:
    """The spine's model as bare tensors."""

    def __init__(self, weights: Path) -> None:
        import torch
        from safetensors.torch import load_file

        w = load_file(weights)
        self._torch = torch
        self._w = [w[f"top.{n}.weight"].t().contiguous() for n in (0, 2, 4)]
        self._b = [w[f"top.{n}.bias"] for n in (0, 2, 4)]
        tables = [w[f"embeddings.{k}.weight"] for k in range(len(CATEGORIES))]
        first, count = self._w[0], len(NUMBERS)
        self._numbers = (first[:count] / torch.tensor(SCALES)[:, None]).contiguous()
        parts = [t @ first[count + DIM * k : count + DIM * (k + 1)] + (self._b[0] if k == 0 else 0) for k, t in enumerate(tables)]
        self._folded = torch.cat(parts)
        self._starts = torch.arange(len(CATEGORIES), dtype=torch.int32) * (WORDS + 1) + 1
        self._bags = torch.arange(BLOCK + 1, dtype=torch.int32) * len(CATEGORIES)

    def __call__(self, columns: Sequence[Column]) -> np.ndarray[Any, Any]:
        """Raises: ValueError: the columns are not those of the model."""
        with self._torch.inference_mode():
            return self.forward(*self.encode(columns))

    def encode(self, columns: Sequence[Column]) -> tuple[Any, Any]:
        """Columns as they lie: float32 (16, rows), centred, null is 0; int32 (4, rows)."""
        rows = len(columns[0])
        numbers, ids = np.empty((len(NUMBERS), rows), np.float32), np.empty((len(CATEGORIES), rows), np.int32)
        for out, column, mean in zip(numbers, columns[: len(NUMBERS)], MEANS, strict=True):
            values, gone = view(column)
            np.subtract(values, np.float32(mean), out=out)
            if gone is not None:
                out[gone] = 0
        for out, column in zip(ids, columns[len(NUMBERS) :], strict=True):
            np.copyto(out, view(column)[0], casting="unsafe")
        return self._torch.from_numpy(numbers), self._torch.from_numpy(ids)

    def forward(self, numbers: Any, ids: Any) -> np.ndarray[Any, Any]:
        torch, rows = self._torch, numbers.shape[1]
        out, places = torch.empty(rows, 1), torch.empty(BLOCK, len(CATEGORIES), dtype=torch.int32)
        for start in range(0, rows, BLOCK):
            x = numbers[:, start : start + BLOCK].t()
            p = torch.add(ids[:, start : start + BLOCK].t(), self._starts, out=places[: len(x)])
            hidden = torch.nn.functional.embedding_bag(p.view(-1), self._folded, self._bags[: len(x)], mode="sum")
            hidden = torch.addmm(self._b[1], hidden.addmm_(x, self._numbers).relu_(), self._w[1]).relu_()
            out[start : start + BLOCK] = torch.addmm(self._b[2], hidden, self._w[2]).sigmoid_()
        found: np.ndarray[Any, Any] = out.numpy()[:, 0]
        return found


class Module:
    """The same as it was trained: embeddings beside standardised numbers, then a torch.nn.Sequential."""

    def __init__(self, weights: Path) -> None:
        import torch
        from safetensors.torch import load_file
        from torch import nn

        self._torch = torch
        self._embeddings = nn.ModuleList(nn.Embedding(WORDS + 1, DIM) for _ in CATEGORIES)
        sizes = (len(NUMBERS) + DIM * len(CATEGORIES), 128, 64)
        layers = (nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes))
        self._top = nn.Sequential(*(part for layer in layers for part in layer), nn.Linear(sizes[-1], 1), nn.Sigmoid())
        named = nn.ModuleDict({"embeddings": self._embeddings, "top": self._top})
        named.load_state_dict({name: w for name, w in load_file(weights).items() if name.partition(".")[0] in named})
        named.eval()

    def __call__(self, columns: Sequence[Column]) -> np.ndarray[Any, Any]:
        torch = self._torch
        with torch.inference_mode():
            numbers = torch.from_numpy(matrix(columns[: len(NUMBERS)]))
            numbers = ((numbers - torch.tensor(MEANS)) / torch.tensor(SCALES)).nan_to_num(0.0)
            ids = [torch.from_numpy(np.array(view(column)[0], np.int64)) + 1 for column in columns[len(NUMBERS) :]]
            words = [table(i) for table, i in zip(self._embeddings, ids, strict=True)]
            found: np.ndarray[Any, Any] = self._top(torch.cat([numbers, *words], 1))[:, 0].numpy()
            return found


def view(column: Column) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """The values of a column without a copy where there is none to make, and the places of nulls."""
    if isinstance(column, np.ndarray):
        gone = np.flatnonzero(np.isnan(column)) if column.dtype.kind == "f" else None
        return column, gone
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    validity, data = column.buffers()
    dtype = np.dtype(column.type.to_pandas_dtype())
    values = np.frombuffer(data, dtype, len(column), column.offset * dtype.itemsize)
    if not column.null_count:
        return values, None
    bits = np.frombuffer(validity, np.uint8, (column.offset % 8 + len(column) + 7) // 8, column.offset // 8)
    valid = np.unpackbits(bits, bitorder="little")[column.offset % 8 : column.offset % 8 + len(column)]
    return values, np.flatnonzero(valid == 0)


def matrix(columns: Sequence[Column]) -> np.ndarray[Any, Any]:
    """float32 (rows, features), NaN where null."""
    found = np.empty((len(columns[0]), len(columns)), np.float32)
    for place, column in enumerate(columns):
        if isinstance(column, np.ndarray):
            found[:, place] = column
        else:
            found[:, place] = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    return found


def library(kind: str, file: Path, threads: int) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """The library's own way to probabilities of class 1."""
    if kind == "lightgbm":
        import lightgbm

        opened = lightgbm.Booster(model_file=file)
        return lambda x: opened.predict(x, num_threads=threads)
    if kind == "xgboost":
        import xgboost

        booster = xgboost.Booster({"nthread": threads}, model_file=file)
        return lambda x: booster.inplace_predict(x, validate_features=False)
    import skops.io

    forest = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))  # our own file
    del forest.feature_names_in_
    forest.n_jobs = threads
    return lambda x: forest.predict_proba(x)[:, 1]

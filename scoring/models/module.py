"""A user's own `nn.Module`. Its class is named in the user's config; the bundle only gives constructor arguments as plain data,
says which input columns make which keyword of `forward`, and holds the weights.

    arguments: {x: [a, b, c], ids: cat}     x: float32 (rows, 3); ids: int64 (rows,)
    constructor: {hidden: 32}
    outputs: [score]
    block_rows: 2048                        rows per forward call on the CPU, always exactly as many (see `blocks`)

A keyword is int64 when all its columns are integers or booleans, else float32. A null number is NaN; integers must not be nullable.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from scoring.errors import ModelError
from scoring.models.blocks import BLOCK_ROWS, in_blocks, widen
from scoring.models.buffers import column, missing, values
from scoring.models.bundle import Bundle, check_outputs
from scoring.models.golden import score_table
from scoring.models.manifest import Fields
from scoring.models.precision import refuse
from scoring.models.rowwise import RowWise
from scoring.settings import Precision
from scoring.types import Output


@dataclass(frozen=True)
class Argument:
    """One keyword of `forward`: a vector of one column, or a matrix of several (or of a list of one)."""

    keyword: str
    columns: tuple[str, ...]
    matrix: bool
    integer: bool


@dataclass(frozen=True)
class Rows(RowWise):
    """One tensor per keyword; rows lie along the first dimension."""

    tensors: tuple[torch.Tensor, ...]

    @property
    def rows(self) -> int:
        return len(self.tensors[0])

    def narrow(self, start: int, rows: int) -> Rows:
        return Rows(tuple(t.narrow(0, start, rows) for t in self.tensors))

    def to(self, device: torch.device) -> Rows:
        return Rows(tuple(t.to(device, non_blocking=True) for t in self.tensors))


def open_model(bundle: Bundle, device: torch.device, module: str | None, precision: Precision) -> OwnModule:
    """Raises: ModelError: the class cannot be imported, or does not fit the bundle."""
    if module is None:
        raise ModelError(f"Bundle {bundle.name} is of the module family: name its class, model.module=package.module:Class.")
    refuse(bundle, precision, ())
    body = bundle.body
    arguments = _arguments(body, bundle)
    constructor = body.anything("constructor", {})
    outputs = tuple(Output(name) for name in check_outputs(body.texts("outputs"), body.where))
    block_rows = body.integer("block_rows", 16, 1 << 20, BLOCK_ROWS)
    body.done()
    net = _build(_find(module), Fields(constructor, f"{body.where}: constructor"), constructor, module)
    _check_keywords(net, arguments, module)
    net.load_state_dict(bundle.tensors({k: (v.dtype, tuple(v.shape)) for k, v in net.state_dict().items()}))
    return OwnModule(bundle, arguments, outputs, block_rows, net.eval().requires_grad_(False).to(device), device)


class OwnModule:
    """A Model around a user's module."""

    unit: Literal["rows", "tokens"] = "rows"

    def __init__(
        self,
        bundle: Bundle,
        arguments: tuple[Argument, ...],
        outputs: tuple[Output, ...],
        block_rows: int,
        net: nn.Module,
        device: torch.device,
    ) -> None:
        self.name, self.version, self.digest = bundle.name, bundle.version, bundle.digest
        self.inputs, self.tolerance, self.outputs = bundle.inputs, bundle.tolerance, outputs
        self.device = device
        self.reentrant = False  # a user's module may keep state
        self._arguments, self._block_rows, self._net = arguments, block_rows, net
        if self.device.type == "cpu":
            widen(net)

    def count(self, edges: Mapping[str, tuple[float, ...]]) -> frozenset[str]:
        return frozenset()

    def encode(self, batch: pa.RecordBatch) -> Rows:
        """Raises: ModelError: a column is missing or not a number."""
        rows = Rows(tuple(_tensor(batch, argument) for argument in self._arguments))
        return rows if self.device.type == "cpu" else Rows(tuple(t.pin_memory() for t in rows.tensors))

    def forward(self, encoded: Rows) -> torch.Tensor:
        """Float32 (rows, outputs) on the model's device. Raises: ModelError: the module returned something else."""
        with torch.inference_mode():
            if self.device.type != "cpu":
                return self._compute(encoded.tensors)
            inputs = [(t, 0) for t in encoded.tensors]
            return in_blocks(self._compute, inputs, encoded.rows, len(self.outputs), self._block_rows)

    def score(self, table: pa.Table) -> pa.Table:
        """Output columns of a table with the declared inputs, in its order. Raises: ModelError: the inputs do not fit."""
        return score_table(self, table)

    def _compute(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        found = self._net(**{a.keyword: t for a, t in zip(self._arguments, tensors, strict=True)})
        shape = (len(tensors[0]), len(self.outputs))
        if not isinstance(found, torch.Tensor):
            raise ModelError(f"{type(self._net).__name__} returned {type(found).__name__}, expected a tensor {list(shape)}.")
        if found.shape != shape and not (found.shape == shape[:1] and shape[1] == 1):
            raise ModelError(f"{type(self._net).__name__} returned shape {list(found.shape)}, expected {list(shape)}.")
        return found.reshape(shape).float()


def _tensor(batch: pa.RecordBatch, argument: Argument) -> torch.Tensor:
    dtype = np.int64 if argument.integer else np.float32
    out = np.empty((batch.num_rows, len(argument.columns)), dtype)
    for place, name in enumerate(argument.columns):
        array = column(batch, name)
        with np.errstate(all="ignore"):  # null slots hold anything
            out[:, place] = values(array, name)
        if (gone := missing(array)) is not None:
            if argument.integer:
                raise ModelError(f"Input column {name!r} holds null, but an integer tensor cannot.")
            out[gone, place] = np.nan
    return torch.from_numpy(out if argument.matrix else out[:, 0])


def _arguments(body: Fields, bundle: Bundle) -> tuple[Argument, ...]:
    given = body.anything("arguments")
    if not isinstance(given, dict) or not given:
        body.wrong("arguments", "a mapping from keywords of forward to input columns", given)
    arguments = []
    for keyword, names in given.items():
        columns = tuple(names) if isinstance(names, list) else (names,)
        if not columns or any(c not in bundle.inputs for c in columns):
            raise ModelError(f"{body.where}: arguments: {keyword!r} names {names!r}; each must be an input.")
        dtypes = [bundle.inputs[c].dtype for c in columns]
        if "string" in dtypes:
            raise ModelError(f"{body.where}: arguments: {keyword!r} has a string column; a tensor holds numbers.")
        integer = not any(d.startswith("float") for d in dtypes)
        if integer and (nullable := [c for c in columns if bundle.inputs[c].nullable]):
            raise ModelError(f"{body.where}: input {nullable[0]!r} makes an integer tensor and must say nullable: false.")
        arguments.append(Argument(keyword, columns, isinstance(names, list), integer))
    return tuple(arguments)


def _find(module: str) -> type[nn.Module]:
    place, _, name = module.partition(":")
    if not place or not name:
        raise ModelError(f"model.module must be package.module:Class, not {module!r}.")
    try:
        found = getattr(import_module(place), name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ModelError(f"{module} cannot be imported: {type(error).__name__}: {_line(error)}.") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ModelError(f"{module} is not a class derived from torch.nn.Module.")
    return found


def _build(cls: type[nn.Module], checked: Fields, constructor: dict[str, Any], module: str) -> nn.Module:
    try:
        inspect.signature(cls).bind(**constructor)
        return cls(**constructor)
    except Exception as error:  # a user's constructor may raise anything
        raise ModelError(f"{module} cannot be built from {checked.where} ({_line(error)}).") from error


def _check_keywords(net: nn.Module, arguments: tuple[Argument, ...], module: str) -> None:
    try:
        inspect.signature(net.forward).bind(**{a.keyword: None for a in arguments})
    except TypeError as error:
        raise ModelError(f"{module}.forward does not take {[a.keyword for a in arguments]}: {_line(error)}.") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]

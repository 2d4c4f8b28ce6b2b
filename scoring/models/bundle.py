"""A bundle on disk: model.yaml, weights.safetensors, golden.parquet, perhaps contract.yaml and tokenizer.json.

Read, check, write, digest.

Every file is foreign (law 8): nothing here unpickles, imports or evaluates what a bundle says. What the keys of one family mean is
that family's business; what all bundles share is checked here.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.torch
import torch
import yaml

from scoring.errors import ModelError
from scoring.models.manifest import MAX_BYTES, Fields, parse, plain
from scoring.settings import Column
from scoring.types import Output

FORMAT = 1
CONTRACT, TOKENIZER = "contract.yaml", "tokenizer.json"  # may be there
FILES = ("golden.parquet", "model.yaml", "weights.safetensors")
EXPECTED = "expected."  # golden columns named so hold the expected outputs
GOLDEN_MAX_ROWS = 10_000
GOLDEN_MAX_BYTES = 64 << 20
TOKENIZER_MAX_BYTES = 64 << 20  # the largest vocabularies in use, of 256,000 pieces, take half of it
ROUTES = ("gpu", "cpu")
_UNSAFE = (
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".pt2",
    ".ckpt",
    ".bin",
    ".joblib",
    ".dill",
    ".cloudpickle",
    ".npy",
    ".py",
    ".pyc",
    ".so",
)
_DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool", "string")
_RESERVED = ("model_version", "run_id")
_TORCH_DTYPES = {"F32": torch.float32, "F64": torch.float64, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
_TORCH_DTYPES |= {"I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}

Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]


@dataclass(frozen=True)
class Bundle:
    """What the files say. `body` holds the keys of model.yaml that belong to the family; take them once, then `body.done()`.

    `tolerance` by route: how far a score may be from the golden one, absolute below 1 and relative above.
    """

    folder: Path
    family: str
    name: str
    version: str
    inputs: dict[str, Column]
    tolerance: dict[str, float]
    digest: str
    body: Fields

    def shapes(self) -> Shapes:
        """dtype and shape of every tensor, from the header: no weight is read. Raises: ModelError: not a safetensors file."""
        path = self.folder / "weights.safetensors"
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
                return {n: (_TORCH_DTYPES[s.get_dtype()], tuple(s.get_shape())) for n, s in slices.items()}
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise ModelError(f"{path} cannot be read as safetensors: {error}.") from None

    def tensors(self, expected: Shapes) -> dict[str, torch.Tensor]:
        """All tensors, on the CPU, after their names, dtypes and shapes were found to be exactly the expected ones.

        Raises: ModelError: any difference, named.
        """
        found = self.shapes()
        if lacking := sorted(expected.keys() - found.keys()):
            raise ModelError(f"Bundle {self.name}: weights.safetensors lacks {_names(lacking)}.")
        if extra := sorted(found.keys() - expected.keys()):
            raise ModelError(f"Bundle {self.name}: weights.safetensors holds {_names(extra)}, which the model does not have.")
        for name in sorted(expected):
            if found[name] != expected[name]:
                raise ModelError(f"Bundle {self.name}: tensor {name!r} is {_say(found[name])}, expected {_say(expected[name])}.")
        return safetensors.torch.load_file(self.folder / "weights.safetensors")

    def contract(self) -> dict[str, Any]:
        """What contract.yaml says, or nothing; the keys are those of the settings. Raises: ModelError: not plain, small YAML."""
        path = self.folder / CONTRACT
        return plain(path.read_bytes(), str(path)) if path.is_file() else {}

    def tokenizer(self) -> Path:
        """Where tokenizer.json lies. Raises: ModelError: there is none."""
        path = self.folder / TOKENIZER
        if not path.is_file():
            raise ModelError(f"Bundle {self.name}: {path} is not there, and the {self.family} family needs it.")
        return path

    def golden(self, outputs: tuple[Output, ...]) -> pa.Table:
        """Golden inputs of the declared types and columns `expected.<output>`: float32, or fixed-size lists of it for vectors.

        Raises: ModelError: one is not there, or of another type; a vector is null.
        """
        path = self.folder / "golden.parquet"
        expected = pa.schema([*input_schema(self.inputs), *map(_expected, outputs)])
        try:
            footer = pq.read_metadata(path)
            size = sum(footer.row_group(g).total_byte_size for g in range(footer.num_row_groups))
            if not 0 < footer.num_rows <= GOLDEN_MAX_ROWS or size > GOLDEN_MAX_BYTES:
                raise ModelError(f"{path} has {footer.num_rows:,} rows and {size:,} bytes; 1 to {GOLDEN_MAX_ROWS:,} rows are read.")
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise ModelError(f"{path} cannot be read as Parquet: {_line(error)}.") from None
        if lacking := [n for n in expected.names if n not in table.column_names]:
            raise ModelError(f"{path} lacks the columns {_names(lacking)}; inputs and expected outputs must all be there.")
        for field in expected:
            if (found := table.schema.field(field.name).type) != field.type:
                raise ModelError(f"{path}: column {field.name!r} is {found}, expected {field.type}.")
            if pa.types.is_fixed_size_list(field.type) and table.column(field.name).null_count:
                raise ModelError(f"{path}: column {field.name!r} holds null, expected a vector in every row.")
        return table.select(expected.names)


def read(folder: str | Path) -> Bundle:
    """Raises: ModelError: a file is missing, unsafe or not understood."""
    folder = Path(folder)
    if lacking := [f for f in FILES if not (folder / f).is_file()]:
        raise ModelError(f"{folder} is not a bundle: {_names(lacking)} not found there.")
    if unsafe := sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _UNSAFE):
        raise ModelError(f"Bundle {folder} holds {_names(unsafe)}: files that can run code are refused.")
    where = str(folder / "model.yaml")
    for name, most in (("model.yaml", MAX_BYTES), (TOKENIZER, TOKENIZER_MAX_BYTES)):
        if (folder / name).is_file() and (size := (folder / name).stat().st_size) > most:
            raise ModelError(f"{folder / name} has {size:,} bytes; at most {most:,} are read.")
    body = parse((folder / "model.yaml").read_bytes(), where)
    if (found := body.integer("format", 1, 1 << 31)) != FORMAT:
        raise ModelError(f"{where} has format {found}; this version reads format {FORMAT}.")
    family, name, version = body.text("family"), body.text("name"), body.text("version")
    inputs = _inputs(body)
    limits = body.fields("tolerance")
    tolerance = {route: limits.number(route) for route in ROUTES}
    limits.done()
    return Bundle(folder, family, name, version, inputs, tolerance, digest(folder), body)


def _inputs(body: Fields) -> dict[str, Column]:
    inputs: dict[str, Column] = {}
    for item in body.items("inputs"):
        name = item.text("name")
        if name in inputs:
            raise ModelError(f"{item.where}: input {name!r} is declared twice.")
        if (dtype := item.text("dtype")) not in _DTYPES:
            item.wrong("dtype", f"one of {', '.join(sorted(_DTYPES))}", dtype)
        nullable = item.flag("nullable", True)
        low, high = (item.number(k) if item.has(k) else None for k in ("min", "max"))
        inputs[name] = Column(dtype, nullable, low, high, _allowed(item))
        item.done()
    if not inputs:
        raise ModelError(f"{body.where}: a model needs at least one input.")
    return inputs


def _allowed(item: Fields) -> tuple[Any, ...] | None:
    values = item.anything("allowed", None)
    if values is not None and (not isinstance(values, list) or not all(isinstance(v, (str, int, float, bool)) for v in values)):
        item.wrong("allowed", "a list of plain values", values)
    return None if values is None else tuple(values)


def check_outputs(outputs: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Raises: ModelError: an output column is named twice or has a name that the job needs."""
    for name in outputs:
        if outputs.count(name) > 1 or name in _RESERVED:
            raise ModelError(f"{where}: the output column {name!r} is {'reserved' if name in _RESERVED else 'there twice'}.")
    if not outputs:
        raise ModelError(f"{where}: a model needs at least one output.")
    return outputs


def digest(folder: Path) -> str:
    """SHA-256 over (name, SHA-256) of exactly the three files, then of a contract and a tokenizer, if there: what the model is,
    wherever it lies.
    """
    total = hashlib.sha256()
    for name in (*FILES, *(name for name in (CONTRACT, TOKENIZER) if (folder / name).is_file())):
        with open(folder / name, "rb") as file:
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def input_schema(inputs: dict[str, Column]) -> pa.Schema:
    return pa.schema([pa.field(name, pa.type_for_alias(c.dtype)) for name, c in inputs.items()])  # type: ignore[call-overload]


def write(
    folder: str | Path, manifest: dict[str, Any], tensors: dict[str, torch.Tensor], golden: pa.Table, tokenizer: bytes | None = None
) -> Path:
    """Write a bundle. `manifest` holds the family's keys beside name, version, inputs and tolerance; each file appears whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"format": FORMAT, **manifest}, sort_keys=False, width=132)
    _whole(folder / "model.yaml", lambda p: p.write_text(text))
    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    _whole(folder / "weights.safetensors", lambda p: p.write_bytes(safetensors.torch.save(dense)))
    _whole(folder / "golden.parquet", lambda p: pq.write_table(golden, p, write_page_checksum=True))
    if tokenizer is not None:
        _whole(folder / TOKENIZER, lambda p: p.write_bytes(tokenizer))
    return folder


def describe_inputs(inputs: dict[str, Column]) -> list[dict[str, Any]]:
    """The `inputs` of model.yaml."""
    rows = []
    for name, column in inputs.items():
        row: dict[str, Any] = {"name": name, "dtype": column.dtype, "nullable": column.nullable}
        row |= {k: v for k, v in (("min", column.min), ("max", column.max)) if v is not None}
        rows.append(row | ({"allowed": list(column.allowed)} if column.allowed is not None else {}))
    return rows


def _expected(output: Output) -> pa.Field[Any]:
    return pa.field(EXPECTED + output.name, pa.float32() if output.width == 1 else pa.list_(pa.float32(), output.width))


def _whole(path: Path, fill: Any) -> None:
    part = path.with_name(path.name + ".part")
    fill(part)
    os.replace(part, path)


def _names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _say(tensor: tuple[torch.dtype, tuple[int, ...]]) -> str:
    return f"{str(tensor[0]).removeprefix('torch.')} {list(tensor[1])}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:300]

"""A foreign folder: JSON within limits, files that are refused, tensors of one or many safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from scoring.errors import ModelError, told
from scoring.models.manifest import Fields

MAX_JSON_BYTES = 4 << 20  # label names of tens of thousands of classes fit
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_WIDENED = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_CONVERT = "convert it: load it with transformers where it is trusted and call save_pretrained, which writes model.safetensors"


@dataclass(frozen=True)
class Folder:
    """A folder of a model; links that lead out of it are followed, as download caches are made of them."""

    path: Path

    def file(self, name: str) -> Path:
        return self.path / name

    def has(self, name: str) -> bool:
        return self.file(name).is_file()

    def inner(self, name: str) -> Folder:
        """A folder in it, named by modules.json. Raises: ModelError: a name that leads elsewhere."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"{self.path / 'modules.json'}: the path {name!r} leads out of the folder.")
        return Folder(self.path / name) if name else self

    def bytes(self, name: str, most: int) -> bytes:
        """Raises: ModelError: not there, not readable or too large."""
        path = self.file(name)
        try:
            if (size := path.stat().st_size) > most:
                raise ModelError(f"{path} has {size:,} bytes; at most {most:,} are read.")
            return path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror or told(error)}.") from None

    def json(self, name: str) -> Any:
        """Raises: ModelError: as `bytes`, or it is no JSON."""
        try:
            data = json.loads(self.bytes(name, MAX_JSON_BYTES), parse_constant=_no_number)
            json.dumps(data, ensure_ascii=False).encode()  # halves of surrogate pairs can be escaped, and are no text
            return data
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split()).rstrip(".")[:200]
            raise ModelError(f"{self.file(name)} is not JSON: {reason}.") from None

    def keys(self, name: str) -> Fields:
        """A JSON object; a null is a key that is not there. Raises: ModelError: as `json`, or it is no object."""
        return keys_of(self.json(name), str(self.file(name)))

    @contextmanager
    def weights(self) -> Iterator[Weights]:
        """The tensors of the folder, one by one. Raises: ModelError: none in safetensors, or files that cannot be read."""
        with ExitStack() as stack:
            found: dict[str, Any] = {}
            for name in self._shards():
                path = self.file(name)
                try:
                    opened = stack.enter_context(safetensors.safe_open(path, framework="pt"))
                except (safetensors.SafetensorError, OSError, ValueError) as error:
                    raise ModelError(f"{path} cannot be read as safetensors: {told(error)}.") from None
                names = opened.keys()
                if twice := sorted(found.keys() & set(names)):
                    raise ModelError(f"{path} holds the tensor {twice[0]!r}, which another file holds too.")
                found |= dict.fromkeys(names, opened)
            yield Weights(self.path, found)

    def _shards(self) -> list[str]:
        if self.has(WEIGHTS):
            return [WEIGHTS]
        if self.has(INDEX):
            where = self.file(INDEX)
            names = self.keys(INDEX).anything("weight_map")
            if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names.values()):
                raise ModelError(f"{where}: 'weight_map' must be a mapping from tensors to files.")
            files = sorted(set(names.values()))
            if odd := [n for n in files if Path(n).name != n or not n.endswith(".safetensors")]:
                raise ModelError(f"{where} names {odd[0]!r}, expected a safetensors file beside it.")
            if lacking := [n for n in files if not self.has(n)]:
                raise ModelError(f"{where} names {lacking[0]!r}, which is not there.")
            return files
        if pickled := next(iter(sorted(p.name for p in self.path.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))), None):
            raise ModelError(f"{self.file(pickled)} can run code when it is read, so only safetensors are: {_CONVERT}.")
        raise ModelError(f"{self.path} holds no weights: neither {WEIGHTS} nor {INDEX} is there.")


@dataclass(frozen=True)
class Weights:
    """Tensors by name; read when they are asked for."""

    path: Path
    files: dict[str, Any]

    def names(self) -> frozenset[str]:
        return frozenset(self.files)

    def read(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """One tensor, widened to float32. Raises: ModelError: it is not there or not of this shape, type or all finite."""
        if name not in self.files:
            raise ModelError(f"{self.path}: the weights lack the tensor {name!r}.")
        given = self.files[name].get_slice(name)
        if tuple(given.get_shape()) != shape:
            raise ModelError(
                f"{self.path}: the tensor {name!r} is {list(given.get_shape())}, expected {list(shape)} by config.json."
            )
        if given.get_dtype() not in _WIDENED:
            raise ModelError(f"{self.path}: the tensor {name!r} is {given.get_dtype()}, expected F32, F16 or BF16.")
        tensor: torch.Tensor = self.files[name].get_tensor(name).float()
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{self.path}: the tensor {name!r} holds numbers that are not finite.")
        return tensor


def open_folder(path: str) -> Folder:
    """Raises: ModelError: no folder, or one whose model is not all in it."""
    folder = Folder(Path(path))
    if not folder.path.is_dir():
        raise ModelError(f"There is no folder {path}; models are imported from a folder on disk.")
    if folder.has("adapter_config.json"):
        raise ModelError(
            f"{folder.file('adapter_config.json')}: adapters (LoRA) are not read; merge them into the model and save it."
        )
    return folder


def keys_of(data: Any, where: str) -> Fields:
    """Raises: ModelError: no object."""
    if not isinstance(data, dict):
        raise ModelError(f"{where} must be an object, not {type(data).__name__}.")
    return Fields({key: value for key, value in data.items() if value is not None}, where)


def refuse(where: str, key: str, value: Any, known: str) -> ModelError:
    """What is said of a key whose value would change the numbers."""
    shown = json.dumps(value)
    return ModelError(f"{where}: {key!r} is {shown if len(shown) <= 80 else shown[:77] + '...'}, which is not supported; {known}.")


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")

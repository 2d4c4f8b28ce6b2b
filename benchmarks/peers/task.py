"""What one contender is given for one measurement, and the marks that its workers leave for the clock.

Workers are processes that a framework starts as it likes. Each leaves a file when it holds the model and another when it has
scored its first rows: the time is read from the files, so that the framework need not carry it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

MODULE = "module"  # of the tabular model: as it was trained, instead of its fastest form
BF16 = "bf16"  # of the text model: computed in bfloat16
BATCH = {"tabular": 65_536, "forest": 32_768, "text": 256}  # rows, where a framework asks for a number
WORKERS = 2  # processes of one thread each, or one process of two threads: the cores of every contender


@dataclass(frozen=True)
class Task:
    """`data` is a folder of Parquet files, `model` the weights, the library's file or the folder of sentence-transformers, `bundle`
    the same model as ours; `out` the folder for Parquet files of `id` and the answer, `marks` that for the marks. `copies` says
    under how many names each file lies in `data`.
    """

    family: str
    kind: str
    rows: int
    data: str
    model: str
    bundle: str
    out: str
    marks: str
    copies: int = 1

    @property
    def files(self) -> list[Path]:
        return sorted(Path(self.data).glob("*.parquet"))

    @staticmethod
    def read(text: str) -> Task:
        return Task(**json.loads(text))

    def written(self) -> str:
        return json.dumps(asdict(self))


class Marks:
    """Of one worker."""

    def __init__(self, folder: str) -> None:
        self._folder, self._scored = folder, False

    def ready(self) -> None:
        self._leave("ready")

    def scored(self) -> None:
        """Call it after every batch: the first one counts."""
        if not self._scored:
            self._scored = True
            self._leave("first")

    def _leave(self, name: str) -> None:
        path = Path(self._folder) / f"{name}-{os.getpid()}-{id(self)}"
        path.with_suffix(".part").write_text(repr(time.time()))
        path.with_suffix(".part").rename(path)


def times(folder: str, name: str) -> list[float]:
    """Seconds since the epoch of all marks of that name, earliest first."""
    return sorted(float(path.read_text()) for path in Path(folder).glob(f"{name}-*[0-9]"))

"""What is scored: the same files, model and rows for every contender. Made once, below .bench.

tabular   16 float and 4 categorical columns, half of the floats with nulls; embeddings of 8 and an MLP 48-128-64-1 (spine_data.py)
text      real texts and the real all-MiniLM-L6-v2: short questions, long posts, and seven of the one for each of the other
          (text_data.py)
forest    28 float columns with nulls, 500 trees of LightGBM or XGBoost, trained on the spot (forest_data.py)

24 M rows are the files of 4 M rows under six names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.task import Task

ROOT = Path(__file__).parents[2]
TEXTS = ROOT.parent / "shared/data/text"


@dataclass(frozen=True)
class Case:
    family: str
    kind: str
    rows: int
    copies: int = 1

    @property
    def name(self) -> str:
        many = self.rows * self.copies
        size = f"{many / 1e6:g}M" if many >= 1_000_000 else f"{many / 1e3:g}k"
        return f"{self.family} {self.kind} {size}".replace("  ", " ")

    @property
    def all_rows(self) -> int:
        return self.rows * self.copies


FULL = (
    Case("tabular", "", 1_000_000),
    Case("tabular", "", 4_000_000),
    Case("tabular", "", 4_000_000, 6),
    Case("text", "short", 6_144),
    Case("text", "mixed", 1_800),
    Case("text", "long", 360),
    Case("forest", "lightgbm", 50_000),
    Case("forest", "lightgbm", 200_000),
    Case("forest", "xgboost", 400_000),
)
QUICK = (
    Case("tabular", "", 200_000),
    Case("text", "mixed", 160),
    Case("forest", "lightgbm", 20_000),
    Case("forest", "xgboost", 20_000),
)


def lines_of(lines: Iterable[dict[str, Any]], cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Those of these cases, and those of none: a case that was given up stays in the raw lines, but nothing is told of it."""
    names = {None, *(case.name for case in cases)}
    return [line for line in lines if line.get("case") in names]


@dataclass(frozen=True)
class Place:
    """Where a case lies."""

    data: Path
    model: Path
    bundle: Path

    def task(self, case: Case, out: Path, marks: Path) -> Task:
        paths = (str(p) for p in (self.data, self.model, self.bundle, out, marks))
        return Task(case.family, case.kind, case.all_rows, *paths, copies=case.copies)


def prepare(case: Case, folder: Path, texts: Path = TEXTS) -> Place:
    """Make the data and the model of a case, or find them.

    Raises: SystemExit: texts or their model are not there.
    """
    if case.family == "tabular":
        from spine_data import repeated, write_data, write_model

        data, bundle = write_data(folder / "spine", case.rows), write_model(folder / "spine")
        data = repeated(data, case.copies) if case.copies > 1 else data
        return Place(data.absolute(), (bundle / "weights.safetensors").absolute(), bundle.absolute())
    if case.family == "text":
        from text_data import model_folder, write_texts
        from text_data import write_model as write_encoder

        data = write_texts(folder / "text", case.kind, case.rows, texts)
        return Place(data.absolute(), model_folder(), write_encoder(folder / "text").absolute())
    from forest_data import write_data as write_rows
    from forest_data import write_model as write_trees

    file, bundle = write_trees(folder / "forest", case.kind)
    return Place(write_rows(folder / "forest", case.rows).absolute(), file.absolute(), bundle.absolute())

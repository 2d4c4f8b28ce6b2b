"""Do two contenders say the same, row by row? Rows are matched by id; none may be missing, doubled or added."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ALLOWED = {"tabular": 1e-5, "text": 1e-4, "text bf16": 2e-2, "lightgbm": 1e-6, "xgboost": 1e-4, "sklearn": 1e-6}
"""Tabular and text: of values, absolute (probabilities; vectors of length 1). Trees: relative, of probabilities; XGBoost adds
leaves in float32. Vectors in bfloat16 are held to what a bundle promises of products of 16 bits. """


@dataclass(frozen=True)
class Agreement:
    rows: int
    largest: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.largest <= self.allowed  # false for NaN


class DisagreementError(Exception):
    """Rows of one are not the rows of the other."""


def read(files: list[Path], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids and answers, sorted by id, then by answer."""
    table = pa.concat_tables(pq.ParquetFile(path).read(["id", column]) for path in files if pq.read_metadata(path).num_rows)
    answers = table[column].combine_chunks()
    if pa.types.is_dictionary(answers.type):
        answers = answers.dictionary_decode()
    if not pa.types.is_floating(answers.type):  # vectors, as lists of whatever kind
        flat = answers.flatten().to_numpy(zero_copy_only=False)
        found = flat.reshape(len(answers), -1)
    else:
        found = answers.to_numpy(zero_copy_only=False)
    ids = table["id"].to_numpy()
    order = np.lexsort((found, ids)) if found.ndim == 1 else np.argsort(ids, kind="stable")
    return ids[order], found[order].astype(np.float64)


def compare(kind: str, ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> Agreement:
    """The largest difference over all rows; relative for trees.

    Raises: DisagreementError: the ids differ.
    """
    (ids, found), (other_ids, other) = ours, theirs
    if len(ids) != len(other_ids) or not np.array_equal(ids, other_ids):
        raise DisagreementError(f"{len(ids):,} rows beside {len(other_ids):,}, or other ids")
    off = np.abs(found - other)
    if kind not in ("tabular", "text", "text bf16"):
        off = off / np.maximum(np.abs(other), 1e-30)
    return Agreement(len(ids), float(off.max()), ALLOWED[kind])

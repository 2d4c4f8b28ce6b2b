"""An import is held to its source library, where it is installed, and to expected predictions, where there are some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from scoring.errors import ConfigError, ModelError, told
from scoring.models.foreign_trees.found import Numbers
from scoring.models.foreign_trees.read import Imported
from scoring.models.forest_parts import plain

MARGINS = 1e-6  # relative; libraries that sum in float32 are that far off
EXPECTED = 1e-5  # expected predictions are float32 or texts
_TIE = 1e-5  # classes nearer than this may be told either way


@dataclass(frozen=True)
class Agreement:
    """`compared`: whether the source library took part. `largest`: difference of margins, or of scores, relative."""

    compared: bool
    rows: int
    largest: float


@dataclass(frozen=True)
class _Ours:
    path: str
    table: pa.Table
    imported: Imported

    def margins(self) -> Numbers:
        return plain.margins(self.imported.shape, self.imported.trees, self.table)

    def scores(self) -> Numbers:
        """Scores, or probabilities of classes."""
        shape = replace(self.imported.shape, margin=False, reasons=0, contributions=False)
        return plain.outputs(shape, self.imported.trees, None, self.table)[:, : shape.margins]

    def hold(self, what: str, ours: Numbers, theirs: Numbers, tolerance: float, least: float) -> float:
        """The largest difference, relative to what is compared and to `least`. Raises: ModelError: it is beyond `tolerance`."""
        if ours.shape != theirs.shape:
            raise ModelError(f"{self.path}: {what} are {theirs.shape[1]:,} numbers a row, but the trees give {ours.shape[1]:,}.")
        with np.errstate(invalid="ignore"):
            off = np.abs(ours - theirs) / np.maximum(least, np.abs(theirs))
        off[ours == theirs] = 0.0
        off[np.isnan(off)] = np.inf
        row, place = np.unravel_index(int(off.argmax()), off.shape)
        if off[row, place] > tolerance:
            self.differ(what, int(row), ours[row, place], theirs[row, place], tolerance)
        return float(off[row, place])

    def differ(self, what: str, row: int, ours: Any, theirs: Any, tolerance: float) -> NoReturn:
        raise ModelError(
            f"{self.path} ({self.imported.source}) was not understood: {what} and the trees differ in row {row}: {theirs} there, "
            f"{ours} here; tolerance {tolerance:g}, relative. Please report this with the file."
        )

    def hold_classes(self, what: str, theirs: Numbers) -> None:
        scores = self.scores()
        ordered = np.sort(scores, axis=1)
        sure = ordered[:, -1] - ordered[:, -2] > _TIE
        if (wrong := np.flatnonzero(sure & (scores.argmax(1) != theirs))).size:
            row, names = int(wrong[0]), self.imported.shape.classes
            known = 0 <= theirs[row] < len(names)
            self.differ(what, row, names[int(scores[row].argmax())], names[int(theirs[row])] if known else "no class", _TIE)


def check_library(path: str, imported: Imported, table: pa.Table) -> Agreement:
    """Raises: ModelError: the library says otherwise."""
    if imported.predict is None:
        return Agreement(False, table.num_rows, 0.0)
    try:
        theirs = imported.predict(table)
    except Exception as error:  # a foreign library, on rows that were made up
        raise ModelError(f"{path}: {imported.source.split(',')[0]} fails on the rows it is compared on: {told(error)}.") from None
    ours, who, largest = _Ours(path, table, imported), imported.source.split(" ")[0], 0.0
    if theirs.margins is not None:
        largest = ours.hold(f"margins of {who}", ours.margins(), theirs.margins, MARGINS, _usual(imported.trees))
    if theirs.scores is not None:
        least = 1.0 if imported.shape.link != "exponential" else max(1.0, _usual(imported.trees))
        largest = max(largest, ours.hold(f"predictions of {who}", ours.scores(), theirs.scores, EXPECTED, least))
    if theirs.places is not None:
        ours.hold_classes(f"classes of {who}", theirs.places)
    return Agreement(True, table.num_rows, largest)


def _usual(trees: Any) -> float:
    """What the trees of an output add up to in magnitude, on average: sums in float32 are off in proportion. At least 1."""
    each = trees.roots.numel() / max(1, trees.base.numel() // trees.leaves.shape[1])
    magnitude: float = trees.base.abs().max().item() + each * trees.leaves.abs().mean().item()
    return max(1.0, magnitude)


def check_expected(path: str, imported: Imported, table: pa.Table, expected: pa.ChunkedArray[Any], name: str) -> None:
    """Hold to predictions of a column: numbers, lists of them where a row has several, or classes by name.

    Raises: ModelError: they differ. ConfigError: the column holds something else.
    """
    ours, what, kind = _Ours(path, table, imported), f"the predictions of expected={name}", expected.type
    if expected.null_count:
        raise ConfigError(f"expected={name}: the column lacks values in {expected.null_count:,} rows.")
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        rows = [np.array(one, np.float64) for one in expected.to_pylist()]
        if len({len(one) for one in rows}) != 1:
            raise ConfigError(f"expected={name}: its lists are of different lengths.")
        ours.hold(what, ours.scores(), np.stack(rows), EXPECTED, 1.0)
    elif imported.shape.classes:
        names = {one: place for place, one in enumerate(imported.shape.classes)}
        told_as = [str(int(one)) if isinstance(one, float) and one.is_integer() else str(one) for one in expected.to_pylist()]
        ours.hold_classes(what, np.array([names.get(one, -1) for one in told_as]))
    elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
        ours.hold(what, ours.scores(), np.asarray(expected.cast(pa.float64()).to_numpy())[:, None], EXPECTED, 1.0)
    else:
        raise ConfigError(f"expected={name}: the column is {kind}; numbers, lists of numbers or names of classes are compared.")

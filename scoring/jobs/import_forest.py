"""A forest as XGBoost, LightGBM or scikit-learn saved it becomes a bundle of family `forest`; no code of the file is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from scoring.errors import ConfigError
from scoring.jobs.arguments import Given
from scoring.models.bundle import read
from scoring.models.foreign_trees import rows
from scoring.models.foreign_trees.agree import Agreement, check_expected, check_library
from scoring.models.foreign_trees.read import Asked, Imported, read_forest
from scoring.models.forest_parts import plain
from scoring.models.forest_parts.write import write_forest

_GOLDEN = 512  # rows of a sample that become golden
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True)
class Written:
    """`agreed`: rows on which the source library, in this environment, gave the same; 0 where it is not there or was not asked."""

    out: str
    name: str
    version: str
    digest: str
    source: str
    inputs: list[str]
    outputs: list[str]
    trees: int
    nodes: int
    leaves: int
    agreed: int
    difference: float
    notes: list[str]


def command(given: Given) -> tuple[Written, int]:
    """Raises: ModelError: the file holds no forest that is supported. ConfigError: `out` is there already, or a word cannot be."""
    path, out = given.needed("path"), given.needed("out")
    for word, own in given.words.items():
        if any("\ud800" <= c <= "\udfff" for c in own) and word not in ("path", "out", "sample"):
            raise ConfigError(f"{word}=… is no text: it has bytes that are not UTF-8.")
    if Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise ConfigError(f"{out} is there already; name another folder with out=….")
    asked = Asked(
        _flag(given, "margin"),
        given.number("explain", 0),
        _flag(given, "contributions"),
        tuple(name.strip() for name in (given.get("classes") or "").split(",") if name.strip()),
    )
    where, column = given.get("sample"), given.get("expected")
    if column and not where:
        raise ConfigError("expected=… names a column of a sample; give it with sample=….")
    sample = rows.read_sample(where) if where else None
    found = read_forest(path, asked, rows.types(where, sample) if where and sample is not None else None)
    golden, agreement = _tried(path, found, where or "", sample, column or "")
    name = given.get("name") or Path(path).resolve().stem.encode(errors="replace").decode()
    version = given.get("version") or "1"
    try:
        folder = _write(out, name, version, found, golden)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}.") from None
    return _written(folder, name, version, found, agreement), 0


def _flag(given: Given, word: str) -> bool:
    said = (given.get(word) or "false").lower()
    if said not in _FLAGS:
        raise ConfigError(f"{word}={said} is neither true nor false.")
    return _FLAGS[said]


def _tried(path: str, found: Imported, where: str, sample: pa.Table | None, column: str) -> tuple[pa.Table, Agreement]:
    """Golden rows, and how far the source library is from ours on them; expected predictions are checked on the whole sample."""
    table = rows.drawn(found.shape, found.trees, found.inputs)
    agreement = check_library(path, found, table)
    if sample is None:
        return table, agreement
    given = rows.of_sample(where, sample, found.inputs)
    own = check_library(path, found, given)
    if column:
        if column not in sample.column_names:
            raise ConfigError(f"expected={column} is no column of sample={where}.")
        check_expected(path, found, given, sample.column(column), column)
    both = Agreement(own.compared, agreement.rows + own.rows, max(agreement.largest, own.largest))
    return pa.concat_tables([given.slice(0, _GOLDEN), table]), both


def _write(out: str, name: str, version: str, found: Imported, golden: pa.Table) -> Path:
    return write_forest(
        out,
        name=name,
        version=version,
        inputs=found.inputs,
        shape=found.shape,
        trees=found.trees,
        cover=found.cover,
        golden=golden,
        expected=plain.outputs(found.shape, found.trees, found.cover, golden),
        source=found.source,
    )


def _written(folder: Path, name: str, version: str, found: Imported, agreement: Agreement) -> Written:
    return Written(
        str(folder),
        name,
        version,
        read(folder).digest,
        found.source,
        list(found.inputs),
        [output.name for output in found.shape.outputs],
        found.trees.roots.numel(),
        found.trees.feature.numel(),
        len(found.trees.leaves),
        agreement.rows if agreement.compared else 0,
        agreement.largest,
        list(found.notes),
    )


def render(found: Written) -> str:
    inputs = ", ".join(found.inputs[:8]) + (f" and {len(found.inputs) - 8} more" if len(found.inputs) > 8 else "")
    agreed = (
        f"the library agrees on {found.agreed:,} rows, to {found.difference:.1e}"
        if found.agreed
        else "not compared with its library, which is not installed here or does not read this file"
    )
    return "\n".join(
        [
            f"{found.out}: {found.name} {found.version}, {found.trees:,} trees of {found.leaves:,} leaves ({found.source}); "
            f"from {inputs} to {', '.join(found.outputs)}",
            agreed,
            *(f"note: {note}" for note in found.notes),
            f"digest {found.digest}",
        ]
    )

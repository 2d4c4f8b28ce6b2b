"""Imports that a library would do on our behalf, put off until somebody needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


class _NoPandas:
    """A finder on sys.meta_path that knows no pandas."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is put off", name=name)


def put_off_pandas() -> None:
    """Keep pyarrow from importing pandas, where it is installed, to ask whether what it was handed is a Series.

    The import takes 0.2 to 0.5 s in every lane and command. pyarrow asks once in a process, and again when pandas is really wanted:
    `to_pandas` and `pa.table(frame)` go on to work.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa  # a command that only shows its manual has no use for it

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(_NoPandas)

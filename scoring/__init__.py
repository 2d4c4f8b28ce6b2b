"""Large offline scoring jobs whose results can be published. Start reading at `scoring/types.py`, then `scoring/jobs/run.py`.

`scoring.run` and `scoring.read_scores` are loaded on first use, so that importing a room (`scoring.models`, `scoring.engine`)
needs neither Ray nor Hydra nor Polars.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# kernels/ and conf/ are rooms of this package: inside it in a wheel, beside it in a checkout.
if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

_PUBLIC = {"run": "scoring.__main__", "read_scores": "scoring.sinks.reader"}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'scoring' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)

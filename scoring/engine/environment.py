"""What scores are made with, told by the process that makes them: lanes may live on other machines than the driver."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

import scoring
from scoring import ops


def environment() -> dict[str, str]:
    """Versions of what computes, and the digest of our own code."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}
    found |= {"pyarrow": pa.__version__, "cuda": torch.version.cuda or "", "platform": platform.platform()}
    return found | {"scoring": scoring.__version__, "code": code()}


def computing() -> dict[str, str]:
    """The same, and how this process computes now: kernels may be given up, and threads shared out, while it lives."""
    return environment() | {"kernels": ops.computed(), "threads": str(torch.get_num_threads())}


@cache
def code() -> str:
    """SHA-256 (first 16 hex) of the names and bytes of our Python files: one version may have been changed where it is installed.

    In a wheel kernels/ lies inside the package, in a checkout beside it; the digest is the same.
    """
    ours, kernels = Path(scoring.__file__).parent, Path(str(import_module("scoring.kernels").__path__[0]))
    named = {f"scoring/{p.relative_to(ours).as_posix()}": p for p in ours.rglob("*.py") if not p.is_relative_to(kernels)}
    named |= {f"kernels/{p.relative_to(kernels).as_posix()}": p for p in kernels.rglob("*.py")}
    found = hashlib.sha256()
    for name in sorted(named):
        found.update(f"{name}\0".encode() + hashlib.sha256(named[name].read_bytes()).digest())
    return found.hexdigest()[:16]

"""What a measurement was made on and with: if any of it changes, what was measured before is of another comparison."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch", "numpy", "pyarrow", "polars", "ray", "sentence-transformers", "transformers", "tokenizers", "lightgbm", "xgboost-cpu",
    "scikit-learn", "pandas", "daft", "pyspark",
)  # fmt: skip
_VERSIONS = """
import importlib.metadata as known, json, sys
print(json.dumps({name: known.version(name) for name in sys.argv[1:] if list(known.distributions(name=name))}))
"""


def facts(ours: Path, foreign: Path, root: Path) -> dict[str, Any]:
    """Raises: OSError, subprocess.CalledProcessError: a Python or git is not there."""
    host = {"cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "memory_gb": round(_memory_kb() / 1e6, 1)}
    host |= {"platform": platform.platform(), "python": platform.python_version(), "java": _java()}
    changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no", "--", "scoring", "kernels", "conf"))
    made = {"harness": harness(root), "commit": _git(root, "rev-parse", "--short", "HEAD"), "changed": changed}
    return host | made | {"versions": _versions(ours), "versions_peers": _versions(foreign)}


def harness(root: Path) -> str:
    """A digest of the files that measure."""
    files = sorted([*(root / "benchmarks/peers").glob("*.py"), *(root / "benchmarks").glob("*_data.py")])
    files += [root / "benchmarks/contend.py", root / "benchmarks/peers/requirements.txt"]
    told = {"page.py", "picture.py"}  # these only tell
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.name not in told)).hexdigest()[:12]


def load() -> list[float]:
    """Load averages of 1, 5 and 15 minutes."""
    return [float(word) for word in Path("/proc/loadavg").read_text().split()[:3]]


def _versions(python: Path) -> dict[str, str]:
    if not python.exists():
        return {}
    done = subprocess.run([str(python), "-c", _VERSIONS, *LIBRARIES], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    wide = [name for name in ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16") if f" {name}" in flags]
    return f"{names[0] if names else platform.processor()} ({', '.join(wide)})"


def _memory_kb() -> int:
    return int(Path("/proc/meminfo").read_text().split(maxsplit=2)[1])


def _java() -> str:
    try:
        return subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

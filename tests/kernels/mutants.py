"""Kernels made wrong on purpose, one way at a time: each must make a test fail, or the tests prove nothing.

    python tests/kernels/mutants.py          prints a table; exits 1 if a mutant lives

Every mutant is a copy of the project with one line of a kernel changed; tests of that kernel alone are run against it, after they
were seen to pass without the change.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    name: str
    kernel: str
    before: str
    after: str


MUTANTS = (
    Mutant(
        "tail mask dropped",
        "arrow_ingest",
        "bin = tl.where(mask, field(value, valid, edges + c * EDGES, KIND, EDGES), 15)",
        "bin = field(value, valid, edges + c * EDGES, KIND, EDGES)",
    ),
    Mutant("bitmap read from the highest bit", "arrow_ingest", "(byte >> ((bit + row) & 7)", "(byte >> (7 - ((bit + row) & 7))"),
    Mutant("null ignored", "arrow_ingest", "x = tl.where(valid, value.to(fill.dtype), fill)", "x = value.to(fill.dtype)"),
    Mutant(
        "offset of 32 bits",
        "arrow_ingest",
        "bitmap_at, bit = tl.load(table + c * 6 + 2), tl",
        "bitmap_at, bit = tl.load(table + c * 6 + 2).to(tl.int32), tl",
    ),
    Mutant("NaN lost in a clamp", "arrow_ingest", "x = tl.where(x < low, low, x)", "x = tl.maximum(x, low)"),
    Mutant("a best class taken twice", "score_head", "== at[:, None], LEAST, key)", "== at[:, None], LEAST + 1, key)"),
)


def survives(mutant: Mutant | None, kernel: str) -> bool:
    """Whether the kernel's tests pass: of a copy with the mutant in it, or of one as it is."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("kernels", "scoring", "tests", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, place / name)
        if mutant is not None:
            changed = [path for path in place.glob(f"kernels/{kernel}*/**/*.py") if mutant.before in path.read_text()]
            changed += [path for path in [place / "kernels" / f"{kernel}.py"] if mutant.before in path.read_text()]
            if len(changed) != 1 or changed[0].read_text().count(mutant.before) != 1:
                raise SystemExit(f"{mutant.name}: {mutant.before!r} stands {len(changed)} times in {kernel}; mend the mutant")
            changed[0].write_text(changed[0].read_text().replace(mutant.before, mutant.after))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/kernels/test_{kernel}.py"]
        environment = {**os.environ, "PYTHONPATH": folder, "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "examples")}
        return subprocess.run(command, cwd=place, env=environment, capture_output=True).returncode == 0


def main() -> int:
    for kernel in dict.fromkeys(mutant.kernel for mutant in MUTANTS):
        if not survives(None, kernel):
            raise SystemExit(f"the tests of {kernel} fail as they are: a dead mutant would mean nothing")
    alive = 0
    for mutant in MUTANTS:
        lives = survives(mutant, mutant.kernel)
        alive += lives
        print(f"{'ALIVE' if lives else 'dead ':6} {mutant.kernel:14} {mutant.name}", flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())

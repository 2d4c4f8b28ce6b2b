"""Instructions per row of encode, score and stage, counted by valgrind's callgrind: the same on a busy machine.

Run by `quick.py` under valgrind, which starts without counting; each piece is counted by itself, after it was done once.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

TIMES = 3  # each piece, while it is counted
PIECES = ("encode", "score", "stage")
_MARK = "srand48_r"  # of libc: nobody else calls it; callgrind writes its counts down, and begins anew, whenever it is called
_COMMAND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--dump-before={_MARK}")


def instructions(limit_s: float | None) -> dict[str, float]:
    """By name; empty where there is no valgrind, or where it takes longer than `limit_s`: some 70 s of one core."""
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        return {}
    with tempfile.TemporaryDirectory() as place:
        command = [*_COMMAND, f"--callgrind-out-file={place}/out", sys.executable, __file__, place]
        environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            return {}
        rows = re.search(r"^rows (\d+)$", done.stdout, re.MULTILINE)
        if done.returncode or rows is None:
            raise SystemExit(f"valgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
        parts = {name: Path(place, f"out.{2 * n}").read_text(errors="replace") for n, name in enumerate(PIECES, start=1)}
    totals = {name: re.search(r"^summary: (\d+)", text, re.MULTILINE) for name, text in parts.items()}
    each = int(rows[1]) * TIMES
    return {f"lane: instructions per row of {name}": round(int(total[1]) / each, 1) for name, total in totals.items() if total}


def main(place: Path) -> None:
    import quick_counts

    from scoring.engine import lane
    from scoring.parts import part
    from scoring.sinks.staged import StagedWriter

    bundle = quick_counts.write_model(place)
    job = quick_counts.job_of(quick_counts.write(place / "data", 1, 1, 1), bundle, place / "w")
    opened = lane.build(lane.LaneSpec(job, "quick"), "cpu")
    work = quick_counts.planned(job)[0]
    model, device = opened._model, opened._scorer.device
    window = next(part("sources", "parquet").read(work.fragments[0], None, quick_counts.WINDOW, job.source))
    batch, encoded = window.batch, model.encode(window.batch)
    outputs = device.forward(encoded)

    def stage(n: int) -> None:
        writer = StagedWriter(opened._store, f"run-{n}", work, "a", job.sink, model.version, model.outputs)
        writer.scores(batch.select(["id"]), outputs)
        writer.flush()
        writer.abort()

    pieces: tuple[Callable[[int], object], ...] = (lambda n: model.encode(batch), lambda n: device.forward(encoded), stage)
    libc, state = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    mark = partial(libc[_MARK], 0, state)
    begin_counting()
    for piece in pieces:
        for n in range(2):  # valgrind translates it
            piece(n)
        mark()
        for n in range(TIMES):
            piece(2 + n)
        mark()
    print(f"rows {batch.num_rows}", flush=True)
    os._exit(0)


def begin_counting() -> None:
    """Steer valgrind from inside. It listens while code runs: so some is run until it has answered."""
    process = subprocess.Popen(["callgrind_control", "-i", "on", str(os.getpid())], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        sum(range(1000))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

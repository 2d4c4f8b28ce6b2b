"""Instructions per row of encode, score and stage, counted by valgrind's callgrind: the same on a busy machine.

Run by `quick.py` under valgrind, which starts without counting; each piece is counted by itself, after it was done once.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TIMES = 3  # each piece, while it is counted
PIECES = ("encode", "score", "stage")
_COMMAND = ("valgrind", "--tool=callgrind", "--instr-atstart=no")
# Requests to callgrind (callgrind.h) by the code that valgrind knows on x86-64 (valgrind.h): it does nothing elsewhere.
_ZERO, _DUMP, _START = (0x43540000 + n for n in (1, 3, 4))
_REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")


def instructions(limit_s: float | None) -> dict[str, float]:
    """By name; empty where there is no valgrind, no x86-64, or where it takes longer than `limit_s`: some 70 s of one core."""
    if shutil.which("valgrind") is None or platform.machine() != "x86_64":
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
        parts = {name: Path(place, f"out.{n}").read_text(errors="replace") for n, name in enumerate(PIECES, start=1)}
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
    request(_START)
    for piece in pieces:
        for n in range(2):  # valgrind translates it
            piece(n)
        request(_ZERO)
        for n in range(TIMES):
            piece(2 + n)
        request(_DUMP)
    print(f"rows {batch.num_rows}", flush=True)
    os._exit(0)


def request(which: int) -> None:
    """Ask callgrind for something; the function lies in memory of its own for as long as the process lives."""
    if not _code:
        _code.append(mmap.mmap(-1, len(_REQUEST), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
        _code[0].write(_REQUEST)
    place = ctypes.addressof(ctypes.c_char.from_buffer(_code[0]))
    words = (ctypes.c_uint64 * 6)(which, ctypes.addressof(_LABEL))
    ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(place)(ctypes.addressof(words))


_code: list[mmap.mmap] = []
_LABEL = ctypes.create_string_buffer(b"piece")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Everything that only a GPU can tell, in one command below eight minutes: is it right, which configuration, how fast, beside whom.

    make gpu-check              or: python benchmarks/gpu_check.py [--kernels add_norm,forest] [--rehearse]

Needs torch, Triton, numpy and pyarrow, no network and no .venv. Parts, each in processes of its own and with a time limit, so that
one that fails or hangs costs only itself: what the device reaches; every kernel and case against its reference; every
configuration; a tabular model from Parquet to scores; texts from Parquet to vectors, beside sentence-transformers where it is
installed; every kernel beside torch, torch.compile and libraries. Predictions stand in `gpu/goals.py`.

Writes into the folder $OUT (benchmarks/results): gpu-check-<device>-<date>.json, a plot where matplotlib is there, and
tuned-<device>.json, which belongs into kernels/tuned/<device>.json once it was read. --rehearse does all but CUDA's on a CPU.
Exit code 1: something failed. The last lines are one JSON object each, with `name`, `ours`, `theirs`, `ratio`, `unit`, `n`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT)]
SECONDS = 430.0  # for all, below eight minutes with what starting and ending takes
LIMITS = {"facts": 40.0, "parity": 120.0, "lane": 95.0, "text": 95.0, "speed": 300.0}  # at most; `speed` gets what the others leave
RESERVED = {
    "facts": 0.8,
    "parity": 0.6,
    "lane": 0.5,
    "text": 0.35,
    "speed": 0.01,
}  # share of the time that is for the parts after it
FILES = {"text": "text_lane"}  # where a part is named otherwise
PATIENCE = 3.0  # of a rehearsal, on a machine that may do other things meanwhile
LATE_S = 20.0  # beyond its limit, until a process is ended
Event = dict[str, Any]


class Run:
    def __init__(self, rehearsal: bool, seconds: float) -> None:
        self._rehearsal, self._whole, self._end = rehearsal, seconds, time.monotonic() + seconds
        self._notes = tempfile.TemporaryDirectory(prefix="gpu-check-")
        self._folder = Path(self._notes.name)
        self.events: list[Event] = []
        self.seconds: dict[str, float] = {}
        self.began = datetime.now(UTC)

    def part(self, name: str, groups: list[list[str]], side_by_side: int = 1) -> None:
        """Do a part, in one process for each group of kernels."""
        began = time.monotonic()
        limit = min(LIMITS[name] * (PATIENCE if self._rehearsal else 1), self._end - began - RESERVED[name] * self._whole)
        with ThreadPoolExecutor(side_by_side) as pool:
            for events in pool.map(lambda group: self._group(name, group, began + limit), groups):
                self.events += events
        self.seconds[name] = round(time.monotonic() - began, 1)
        counts = [sum(e.get("status") == s for e in self.events if e["part"] == name) for s in ("ok", "skip", "missing", "fail")]
        told = ", ".join(f"{count} {s}" for count, s in zip(counts, ("ok", "skipped", "missing", "failed"), strict=True))
        print(f"{name}: {told}, {self.seconds[name]:.0f} s", flush=True)
        for e in self.events:
            if e["part"] == name and e.get("status") in ("fail", "missing"):
                print(f"  {e['status']}: {e['kernel']} {e.get('case', '')} {e['check']}: {e['why'][:200]}", flush=True)

    def _group(self, name: str, kernels: list[str], end: float) -> list[Event]:
        """Kernels in one process; where one ends it, the others in another."""
        found: list[Event] = []
        while True:
            events = self._process(name, kernels, end)
            found += events
            begun = [event for event in events if event.get("begin")]
            if not events or events[-1].get("status") != "fail" or not events[-1].get("died"):
                return found
            kernels = begun[-1]["rest"] if begun else []
            if not kernels or end - time.monotonic() < LATE_S:
                return found

    def _process(self, name: str, kernels: list[str], end: float) -> list[Event]:
        path = self._folder / f"{name}-{time.monotonic_ns()}.jsonl"
        words = ["--part", name, "--kernels", ",".join(kernels), "--events", str(path), "--until", f"{end:.1f}"]
        why, last, seconds = "no time left", [], end - time.monotonic()
        if seconds > 0:
            command = [sys.executable, str(Path(__file__).resolve()), *words, *(["--rehearse"] if self._rehearsal else [])]
            with (self._folder / f"{path.stem}.err").open("w+") as errors:
                why = self._wait(subprocess.Popen(command, stderr=errors, env=self._environment()), seconds + LATE_S)
                errors.seek(0)
                last = [line for line in errors.read().splitlines() if line.strip()][-6:]
        events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if why:
            begun = [event["kernel"] for event in events if event.get("begin")]
            blamed = {"part": name, "kernel": begun[-1] if begun else "", "check": "process", "died": True}
            events.append(blamed | {"status": "fail", "why": f"{why}: {last[-1]}" if last else why, "last_words": last})
        return events

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], seconds: float) -> str:
        """Why it did not end well; "" if it did."""
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"ended after {seconds:.0f} s"
        return "" if code == 0 else f"exit code {code}"

    def _environment(self) -> dict[str, str]:
        more = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""} if self._rehearsal else {"TORCHINDUCTOR_COMPILE_THREADS": "8"}
        plain = {key: value for key, value in os.environ.items() if key not in ("TRITON_INTERPRET", "SCORING_KERNELS")}
        return plain | more


def one_part(given: argparse.Namespace) -> None:
    """In a process of its own: `gpu/<part>.py`."""
    from importlib import import_module

    from gpu.place import prepare
    from gpu.record import Recorder

    place = prepare(given.rehearse)
    recorder = Recorder(given.events, given.part, given.until, PATIENCE if given.rehearse else 1.0)
    import_module(f"gpu.{FILES.get(given.part, given.part)}").run(
        recorder, [name for name in given.kernels.split(",") if name], place
    )
    os._exit(0)  # all is written; pools of the compiler and a context that is in a bad way may take long to leave


def kept(run: Run, folder: Path, rehearsal: bool) -> tuple[Path, Event]:
    """The account so far, and where it was written."""
    from gpu.account import account

    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "gpu-check-events.json"
    raw.write_text(json.dumps(run.events))  # there if the account fails
    head = {"date": f"{run.began:%Y-%m-%d}", "time": f"{run.began:%H:%M} UTC", "rehearsal": rehearsal, "seconds": run.seconds}
    found = account(run.events, head)
    slug = "-".join(found["device"].lower().split())
    path = folder / f"gpu-check-{slug}-{head['date']}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    (folder / f"tuned-{slug}.json").write_text(json.dumps(found["tuned"], indent=1) + "\n")
    raw.unlink()
    return path, found


def finish(run: Run, folder: Path, rehearsal: bool) -> int:
    path, found = kept(run, folder, rehearsal)
    try:
        from gpu.plot import draw

        draw(found, path.with_suffix(".png"))
    except Exception as error:  # a picture is no reason to lose the numbers
        print(f"no plot: {type(error).__name__}: {error}")
    print(f"{path}, {sum(run.seconds.values()):.0f} s, {len(found['failed'])} failed")
    for line in found["lines"]:
        print(json.dumps(line))
    return 1 if found["failed"] else 0


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rehearse", action="store_true", help="on a CPU, in the interpreter, with the smallest cases")
    ask.add_argument("--kernels", default="", help="only these, separated by commas")
    ask.add_argument("--seconds", type=float, default=SECONDS, help="for all")
    ask.add_argument("--part", choices=sorted(LIMITS), help=argparse.SUPPRESS)
    ask.add_argument("--until", type=float, help=argparse.SUPPRESS)
    ask.add_argument("--events", type=Path, help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.part:
        one_part(given)
    names = given.kernels.split(",") if given.kernels else sorted(path.stem for path in (ROOT / "kernels").glob("*.py"))
    default = ROOT / (".bench/rehearsal" if given.rehearse else "benchmarks/results")
    run = Run(given.rehearse, given.seconds)
    side_by_side = 1 if given.rehearse else max(1, min(len(names), len(os.sched_getaffinity(0)) // 2))
    folder = Path(os.environ.get("OUT") or default)
    parts = {"facts": [[]], "parity": [names] if given.rehearse else [[name] for name in names], "lane": [[]], "text": [[]]}
    parts["speed"] = [names]  # last: it has most that can be done without

    def one(part: tuple[str, list[list[str]]]) -> None:
        run.part(*part, side_by_side)
        if not given.rehearse:  # whatever happens to the parts that follow
            with suppress(Exception):
                kept(run, folder, False)

    with ThreadPoolExecutor(2 if given.rehearse else 1) as pool:  # on a GPU one after the other: they are timed
        list(pool.map(one, parts.items()))
    return finish(run, folder, given.rehearse)


if __name__ == "__main__":
    raise SystemExit(main())

"""Write the table of kernels/README.md: from the kernel files, the golden table of the compiler, and runs of `make gpu-check`.

make kernel-table           or: python benchmarks/kernel_table.py
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "kernels"), str(ROOT)]
DOC, RESULTS = ROOT / "kernels" / "README.md", ROOT / "benchmarks" / "results"
GOLDEN = ROOT / "tests" / "kernels" / "golden" / "triton-3.9.0.json"
BEGIN, END = "<!-- made by make kernel-table -->", "<!-- end -->"
TARGET = "sm_90"
HEAD = ("kernel", "what it computes", "tolerance, against float64", "variants", "registers", "spills", "shared, KB", "on a GPU")


def table(golden: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Worst numbers of all variants for an H100. `runs` are what `make gpu-check` wrote; the last one of each device that
    tried a kernel counts for it."""
    import walk

    rows = [HEAD, ("---",) * len(HEAD)]
    for name in walk.NAMES:
        module = walk.kernel(name)
        about = ((inspect.getdoc(module) or "").splitlines() or [""])[0].removeprefix(f"{name}: ")
        about = about.rstrip(".").replace("|", "\\|").replace("*", "\\*")
        needs = [found for label, found in golden.get(TARGET, {}).items() if label.split()[0] == name]
        rows.append((f"[`{name}`]({name}.py)", about, _tolerance(module), *_worst(needs), _measured(name, runs)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _tolerance(module: ModuleType) -> str:
    told = []
    for dtype, allowed in module.TOLERANCES.items():
        within = f"{allowed.absolute:.2g} + {allowed.relative:.2g} rel" if allowed.absolute or allowed.relative else "equal"
        told.append(f"{str(dtype).removeprefix('torch.')} {within}")
    return "; ".join(told) or "equal"


def _worst(needs: list[dict[str, int]]) -> tuple[str, str, str, str]:
    if not needs:
        return ("not compiled yet", "", "", "")
    registers, spills, shared = (max(found[what] for found in needs) for what in ("registers", "spills", "shared"))
    return str(len(needs)), str(registers), str(spills), f"{shared / 1024:.1f}"


def _measured(kernel: str, runs: list[dict[str, Any]]) -> str:
    in_order = sorted((run for run in runs if not run["rehearsal"]), key=lambda run: (run["date"], run["time"]))
    last = {run["device"]: run for run in in_order if any(e["kernel"] == kernel for e in (*run["kernels"], *run["failed"]))}
    return "<br>".join(told for device, run in sorted(last.items()) for told in _of_run(kernel, device, run)) or "not yet measured"


def _of_run(kernel: str, device: str, run: dict[str, Any]) -> Iterator[str]:
    """Ranges over the large cases; a run in which a check of the kernel failed says only that."""
    if failed := [event for event in run["failed"] if event["kernel"] == kernel]:
        yield f"{device}, {run['date']}: {len(failed)} checks failed"
        return
    entries = [entry for entry in run["kernels"] if entry["kernel"] == kernel]
    if entries:
        shares = _span([entry["share_of_copy"] for entry in entries if entry["share_of_copy"]])
        ratios: dict[str, list[float]] = {}
        for rival in (rival for entry in entries for rival in entry["rivals"]):
            ratios.setdefault(rival["name"], []).append(rival["ratio"])
        beside = "".join(f", {_span(found)} x {name}" for name, found in ratios.items())
        yield f"{device}, {run['date']}: {shares} of a copy{beside} ({len(entries)} cases)"


def _span(values: list[float]) -> str:
    low, high = (f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in (min(values, default=0), max(values, default=0)))
    return low if low == high else f"{low}-{high}"


def filled(text: str) -> str:
    """`text` with its table made anew. Raises: ValueError: it has no place for one."""
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("gpu-check-*.json"))]
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table(golden, runs)}\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    DOC.write_text(filled(DOC.read_text()))
    print(DOC)

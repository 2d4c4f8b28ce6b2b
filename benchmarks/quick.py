"""Has anything become slower? Counts that are the same on a busy machine, beside the committed ones, in less than three minutes.

    make bench-quick            or: python benchmarks/quick.py [--write]

Counted are Python calls, operators of torch, bytes and allocations, store operations, and, where valgrind is, instructions per row.
The last lines are one JSON object each, with `name`, `ours`, `theirs` (the committed count), `ratio`, `unit`, `n`. Exits with 1
when a count has grown beyond its limit; `--write` commits what was counted now, after a growth that is meant.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quick_counts import counts
from quick_instructions import instructions

RESULTS = Path(__file__).parent / "results" / "quick.json"
LIMIT_S = 150.0  # for instructions; --write waits for ever
LIMIT, LIMIT_OF_INSTRUCTIONS = 1.02, 1.05  # instructions depend on where memory happens to lie


def made_with() -> dict[str, str]:
    """What counts depend on beside our own code."""
    found = {name: version(name) for name in ("torch", "pyarrow", "numpy")}
    return found | {"python": platform.python_version(), "machine": platform.machine()}


def limit(name: str) -> float:
    return LIMIT_OF_INSTRUCTIONS if "instructions" in name else LIMIT


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--write", action="store_true", help="commit the counts of now")
    given = ask.parse_args()
    found = {**counts(), **instructions(None if given.write else LIMIT_S)}
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"made_with": {}, "counts": {}}
    if given.write:
        kept = known["counts"] | {name: round(count, 3) for name, count in found.items()}
        RESULTS.write_text(json.dumps({"made_with": made_with(), "counts": kept}, indent=2) + "\n")
    for name, theirs in known["made_with"].items():
        if made_with().get(name) != theirs:
            print(f"{name} is {made_with().get(name)}, the committed counts were made with {theirs}: they may differ for that")
    for name in sorted(set(known["counts"]) - set(found)):
        print(f"{name}: not counted: valgrind is not installed, or this machine was too busy")
    told = rows(found, known["counts"])
    grown = [row["name"] for row in told if row["ratio"] > limit(row["name"])]
    for row in told:
        print(json.dumps(row))
    if grown and not given.write:
        raise SystemExit(f"grown: {', '.join(grown)}. If that is meant, run benchmarks/quick.py --write and say why.")


def rows(found: dict[str, float], known: dict[str, float]) -> list[dict[str, Any]]:
    """One for each counter; a new one is compared with itself."""
    told: list[dict[str, Any]] = []
    for name, ours in found.items():
        theirs = known.get(name, ours)
        unit = name.partition(": ")[2]
        told.append(
            {"name": name, "ours": round(ours, 3), "theirs": theirs, "ratio": round(ours / theirs, 4), "unit": unit, "n": 1}
        )
    return told


if __name__ == "__main__":
    main()

"""The spine benchmark: our main job against the hand loop and against Ray Data, side by side in one run.

    make bench-spine            or: python benchmarks/spine.py --rows 4000000 --rounds 5

A part of `make bench-peers` by itself, with the same contenders and the same clock (peers/turns.py). Contenders take turns; medians
of the rounds are compared. Start-up and shut-down are apart everywhere: rows per second count from the moment that a worker (ours:
the first, theirs: all) holds the model to the last row published. The last lines are one JSON object each, with `name`, `ours`,
`theirs`, `ratio`, `unit`, `n`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from peers.cases import Case
from peers.lines import Pair, measured, printed

OTHERS = {"hand": "hand loop, two processes", "hand-1": "hand loop, one process", "ray-data": "Ray Data"}  # Arrow batches: faster


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench"))
    ask.add_argument("--rows", type=int, default=4_000_000)
    ask.add_argument("--copies", type=int, default=6, help="score the files so many times: a window of seconds, not of one")
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    case = Case("tabular", "", given.rows, given.copies)
    found = measured([case], ["ray", "inline", *OTHERS], given.folder, given.rounds)
    pairs = [Pair(f"spine {mine} / {title}", case, mine, other) for mine in ("ray", "inline") for other, title in OTHERS.items()]
    printed(found, pairs)


if __name__ == "__main__":
    main()

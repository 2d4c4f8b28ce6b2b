"""The forest benchmark: boosted trees and a random forest, trained on the spot, beside Ray Data and the library that trained them.

    make bench-forest           or: python benchmarks/forest.py --rounds 5 --kinds lightgbm,xgboost,sklearn

A part of `make bench-peers` by itself, with the same contenders and the same clock (peers/turns.py), and with more rows for those
who can. Contenders take turns; medians of the rounds are compared. Start-up, loading and compiling are apart everywhere. The scores
of all contenders are compared row by row before the clock runs. Slow contenders score fewer rows (see forest_data.py); rates are
compared. The last lines are one JSON object each, with `name`, `ours`, `theirs`, `ratio`, `unit`, `n`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from forest_data import KINDS
from peers.cases import Case
from peers.lines import Pair, agreements, measured, printed

FAST, SLOW = ("ray", "inline", "bare"), ("library", "library-1", "ray-data")
PAIRS = (
    ("ray", "ray-data"), ("inline", "ray-data"), ("ray", "library"), ("inline", "library"),
    ("bare", "library"), ("bare", "library-1"), ("ray", "bare"),
)  # fmt: skip


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench"))
    ask.add_argument("--kinds", default=",".join(KINDS))
    ask.add_argument("--rows", type=int, help="of each kind; a small number is a smoke test")
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    for kind in given.kinds.split(","):
        many = Case("forest", kind, given.rows or KINDS[kind].rows)
        few = Case("forest", kind, min(many.rows, KINDS[kind].slow_rows))
        found = measured([few, many], [*FAST, *SLOW], given.folder, given.rounds, only={few.name: (*FAST, *SLOW), many.name: FAST})
        agreements(found, few, [name for name in (*FAST, *SLOW) if name != "library"])
        pairs = [
            Pair(f"forest {kind} {mine} / {other}", many, mine, other, few if other in SLOW else many) for mine, other in PAIRS
        ]
        printed(found, pairs)


if __name__ == "__main__":
    main()

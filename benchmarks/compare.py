"""Our jobs beside what their users would use instead: the same work, model, data, cores and outputs, in one run, in turn.

    make bench-peers            or: python benchmarks/compare.py --rounds 5
    make bench-peers QUICK=1    a few rows and one round: do all contenders run, and do they agree?

Takes some two hours on two cores. Every measurement is a line of benchmarks/results/peers-<date>/raw.jsonl as soon as it is made:
say the same command again after an interruption and it goes on (--into names the folder of an earlier day). At the end, or with
--tell alone, the medians are written into docs/performance.md and into a plot beside the raw lines. How everything is measured:
peers/turns.py.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from peers import page
from peers.cases import FULL, QUICK, ROOT, TEXTS, lines_of, prepare
from peers.contenders import CONTENDERS
from peers.turns import FOREIGN, Log, Turns


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="a smoke test: writes no page")
    ask.add_argument("--rounds", type=int, help="timed ones: 5, or 1 if quick; one more is not timed")
    ask.add_argument("--families", default="tabular,text,forest")
    ask.add_argument("--contenders", default=",".join(CONTENDERS))
    ask.add_argument("--folder", type=Path, default=ROOT / ".bench", help="data, models and what contenders write")
    ask.add_argument("--data", type=Path, default=TEXTS, help="the folder with clinc_oos and twenty_newsgroups")
    ask.add_argument("--into", type=Path, help="the folder of raw.jsonl")
    ask.add_argument("--tell", action="store_true", help="measure nothing; write the page from what was measured")
    given = ask.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the contender at work is ended, too
    today = f"peers-{'quick-' if given.quick else ''}{datetime.now(UTC).date()}"
    into = given.into or (given.folder if given.quick else ROOT / "benchmarks/results") / today
    log = Log(into.absolute() / "raw.jsonl")
    every = QUICK if given.quick else FULL
    cases = [case for case in every if case.family in given.families.split(",")]
    if not given.tell:
        places = {case.name: prepare(case, given.folder.absolute(), given.data) for case in cases}
        out = given.folder.absolute() / "peers-out"
        Turns(log, out, places, {}).go(
            cases, given.contenders.split(","), (1 if given.quick else page.ROUNDS) if given.rounds is None else given.rounds
        )
    lines = lines_of(log.lines(), every)
    told = page.table(lines)
    print(told)
    if given.quick:
        return
    lacking = page.lacking(lines, [case.name for case in FULL])
    if lacking:
        print(f"The page is not written: not all have {page.ROUNDS} rounds: {', '.join(lacking[:3])} … {len(lacking)} in all")
    else:
        picture = [str(FOREIGN), str(ROOT / "benchmarks/peers/picture.py"), str(log.path), str(log.path.with_name("peers.svg"))]
        subprocess.run(picture, check=True)
        page.write(ROOT / "docs/performance.md", told, log.path.with_name("peers.svg"))


if __name__ == "__main__":
    main()

"""What the checks cost: the spine benchmark with a contract of some thirty rules against the same run without.

    make bench-checks            or: python benchmarks/checks.py --rows 4000000 --rounds 5

The bundle's own input schema is compiled in both: "off" is a run without a contract of its own. Rounds take turns; medians are
compared. Wall time comes first; core-seconds (of the command and its children, start-up included) are the steadier figure. To
extend: add settings to `CHECKS`; whatever stands there is on in one run and off in the other.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from spine_data import CATEGORIES, NUMBERS, WORDS, write_data, write_model

_KEY = "id"


def contract() -> dict[str, Any]:
    """20 rules of columns, 8 across columns, 2 on the partition; none is broken by more than a handful of rows."""
    columns: dict[str, Any] = {_KEY: {"dtype": "int64", "nullable": False, "role": "id"}}
    for place, name in enumerate(NUMBERS):
        reach = 12 * (1 + place / 4)
        columns[name] = {"dtype": "float32", "nullable": bool(place % 2), "min": place - reach, "max": place + reach}
    columns |= {name: {"dtype": "int64", "nullable": False, "min": 0, "max": WORDS - 1} for name in CATEGORIES}
    across = {
        "order": "x00 <= x15 + 1000",
        "either": "x01 >= -50 OR c1 > 5",
        "sum": "x02 + x03 < 1000",
        "less": "c0 <= 999",
        "range": "x04 BETWEEN -100 AND 100",
        "not_both": "NOT (x05 > 50 AND c2 > 900)",
        "when": "CASE WHEN c3 > 500 THEN x06 < 100 ELSE x06 < 90 END",
        "there": "x07 IS NULL OR x07 > -500",
    }
    rules = {name: {"sql": text} for name, text in across.items()}
    return {"columns": columns, "rules": rules, "limits": {}, "unique": [_KEY], "min_rows": 1}


CHECKS = ["contract=checks"]


def written(folder: Path) -> Path:
    """A folder for --config-dir with the contract of this benchmark."""
    place = folder / "conf" / "contract"
    place.mkdir(parents=True, exist_ok=True)
    said = contract() | {"max_rows": None, "freshness_hours": None, "coerce": True}
    (place / "checks.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    return folder / "conf"


def once(engine: str, checks: bool, data: Path, bundle: Path, folder: Path) -> tuple[float, float]:
    """(rows per second, core-seconds per million rows) of one run of the command."""
    workspace = folder / f"workspace-checks-{engine}"
    shutil.rmtree(workspace, ignore_errors=True)
    words = ["source=parquet", f"source.path={data}", "source.carry=[id]", f"model.bundle={bundle}", f"workspace={workspace}"]
    words += [f"engine={engine}", f"--config-dir={folder / 'conf'}", "--json", *(CHECKS if checks else [])]
    before = _cpu()
    done = subprocess.run([sys.executable, "-m", "scoring", "run", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"scoring run {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    record = json.loads(done.stdout)
    return record["rates"]["rows_per_second"], (_cpu() - before) / record["rows"]["in"] * 1e6


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=4_000_000)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--engines", nargs="+", default=["ray", "inline"])
    given = ask.parse_args()
    data, bundle = write_data(given.folder, given.rows).absolute(), write_model(given.folder).absolute()
    folder = written(given.folder.absolute()).parent
    found: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for turn in range(given.rounds):
        for engine in given.engines:
            for checks in (turn % 2 == 0, turn % 2 == 1):
                rate, cores = once(engine, checks, data, bundle, folder)
                found.setdefault((engine, checks), []).append((rate, cores))
                state = "on " if checks else "off"
                print(f"round {turn + 1}: {engine:6} checks {state} {rate:>12,.0f} rows/s {cores:.3f} core-s/M rows", flush=True)
    print(json.dumps({"cores": os.cpu_count(), "rows": given.rows}))
    for place, unit in ((1, "core-seconds per million rows"), (0, "rows/s")):
        for engine in given.engines:
            on, off = (statistics.median(one[place] for one in found[engine, checks]) for checks in (True, False))
            row = {"name": f"checks on / off, {engine}", "ours": round(on, 3), "theirs": round(off, 3), "ratio": round(on / off, 3)}
            print(json.dumps(row | {"unit": unit, "n": given.rounds}))


if __name__ == "__main__":
    main()

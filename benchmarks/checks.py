"""What the checks cost: the spine benchmark with everything on against the same run with everything off.

    make bench-checks            or: python benchmarks/checks.py --rows 8000000 --rounds 5

On: a contract of 32 rules, privacy on two carried columns (50,000 customers pseudonymised, a date generalised), a summary over 20
columns and the score against a baseline, the gate over their verdicts. Off: `watch=off` and no contract but the bundle's own input
schema. `--parts` also takes each by itself. Rounds take turns; medians are compared. Core-seconds (of the command and, with
engine=inline, all it does; start-up included) are the steadier figure; wall time decides.
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

CARRIED = ("id", "customer", "born")
PARTS = {
    "off": ["watch=off"],
    "on": ["contract=checks"],
    "contract": ["contract=rules", "watch=off"],
    "privacy": ["contract=privacy", "watch=off"],
    "summary": [],
}


def rules() -> dict[str, Any]:
    """21 columns, 8 rules across columns, 3 on the partition; none is broken by more than a handful of rows."""
    columns: dict[str, Any] = {"id": {"dtype": "int64", "nullable": False, "role": "id"}}
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
    across_rules = {name: {"sql": text} for name, text in across.items()}
    return {"columns": columns, "rules": across_rules, "limits": {}, "unique": ["id"], "min_rows": 1, "max_rows": 10**9}


def people() -> dict[str, Any]:
    return {
        "customer": {"dtype": "string", "pii": "direct", "treatment": "pseudonymise", "purpose": "benchmark"},
        "born": {"dtype": "date32", "pii": "quasi", "treatment": "generalise", "unit": "year"},
    }


def written(folder: Path) -> None:
    """Contracts for --config-dir."""
    place = folder / "conf" / "contract"
    place.mkdir(parents=True, exist_ok=True)
    whole = rules()
    made = {
        "rules": whole,
        "privacy": {"columns": people()},
        "checks": whole | {"columns": whole["columns"] | people()},
    }
    for name, contract in made.items():
        (place / f"{name}.yaml").write_text(yaml.safe_dump(contract, sort_keys=False))


def make_baseline(data: Path, bundle: Path) -> None:
    one = min(data.glob("*.parquet"))
    subprocess.run(
        [sys.executable, "-m", "scoring", "baseline", str(one), f"bundle={bundle}"], check=True, stdout=subprocess.DEVNULL
    )


def once(engine: str, part: str, data: Path, bundle: Path, folder: Path) -> tuple[float, float]:
    """(rows per second, core-seconds per million rows) of one run of the command."""
    workspace = folder / f"workspace-checks-{engine}"
    shutil.rmtree(workspace, ignore_errors=True)
    words = ["source=parquet", f"source.path={data}", f"source.carry=[{','.join(CARRIED)}]"]
    words += [f"model.bundle={bundle}", f"workspace={workspace}"]
    words += [f"engine={engine}", f"--config-dir={folder / 'conf'}", "--json", *PARTS[part]]
    before = _cpu()
    environment = os.environ | {"SCORING_PRIVACY_KEY": "5e" * 32}
    done = subprocess.run([sys.executable, "-m", "scoring", "run", *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"scoring run {' '.join(words)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    record = json.loads(done.stdout)
    return record["rates"]["rows_per_second"], (_cpu() - before) / record["rows"]["in"] * 1e6


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=8_000_000)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--engines", nargs="+", default=["ray", "inline"])
    ask.add_argument("--parts", nargs="+", choices=PARTS, default=["off", "on"])
    given = ask.parse_args()
    folder = given.folder.absolute()
    data = write_data(folder, given.rows, people=True)
    bundle = write_model(folder / "checks")
    written(folder)
    make_baseline(data, bundle)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(given.rounds):
        for engine in given.engines:
            for part in given.parts[:: 1 if turn % 2 else -1]:
                rate, cores = once(engine, part, data, bundle, folder)
                found.setdefault((engine, part), []).append((rate, cores))
                print(f"round {turn + 1}: {engine:6} {part:8} {rate:>12,.0f} rows/s {cores:.3f} core-s/M rows", flush=True)
    for place, unit in ((1, "core-seconds per million rows"), (0, "rows/s")):
        for engine in given.engines:
            off = statistics.median(one[place] for one in found[engine, "off"])
            for part in (p for p in given.parts if p != "off"):
                on = statistics.median(one[place] for one in found[engine, part])
                row = {"name": f"checks {part} / off, {engine}", "ours": round(on, 3), "theirs": round(off, 3)}
                print(json.dumps(row | {"ratio": round(on / off, 3), "unit": unit, "n": given.rounds}))


if __name__ == "__main__":
    main()

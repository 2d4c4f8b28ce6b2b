"""`scoring plan` over a dataset that makes so many slices: time and memory of the process, as a shell would see them.

    python benchmarks/scaling/planning.py --slices 1000000

The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from many import GROUP_ROWS, write_data, write_model


def measure(folder: Path, slices: int) -> dict[str, float]:
    data, bundle = write_data(folder, slices), write_model(folder)
    workspace = folder / "plan-workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    words = ["source=parquet", f"source.path={data}", f"source.slice_rows={GROUP_ROWS}", "source.carry=[id]"]
    words += [f"model.bundle={bundle}", f"workspace={workspace}", "engine=inline", "--json"]
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "scoring", "plan", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode or json.loads(said)["slices"] != slices:
        raise SystemExit(f"exit code {process.returncode}: {said[:500]}")
    return {"slices": slices, "seconds": seconds, "cpu_s": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1024}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/scale"))
    ask.add_argument("--slices", type=int, default=1_000_000)
    given = ask.parse_args()
    print(json.dumps(measure(given.folder.absolute(), given.slices)))


if __name__ == "__main__":
    main()

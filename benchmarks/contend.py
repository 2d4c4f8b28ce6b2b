"""One contender, one task, in this process: what `compare.py` starts for each measurement. Prints one JSON object.

python benchmarks/contend.py ray-data '{"family": "tabular", …}'
"""

from __future__ import annotations

import argparse
import json
import warnings
from importlib import import_module

from peers.contenders import CONTENDERS
from peers.task import WORKERS, Task, times


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("contender", choices=[name for name, one in CONTENDERS.items() if one.call])
    ask.add_argument("task", type=Task.read)
    given = ask.parse_args()
    warnings.simplefilter("ignore")
    module, _, function = CONTENDERS[given.contender].call.partition(":")
    ended = getattr(import_module(f"peers.{module}"), function)(given.task)
    found = ended if isinstance(ended, dict) else {"ended": ended}
    ready, first = times(given.task.marks, "ready"), times(given.task.marks, "first")
    said = {"ready": ready[min(len(ready), WORKERS) - 1], "first": first[0] if first else None, "workers": len(first)}
    print(json.dumps(said | found))


if __name__ == "__main__":
    main()

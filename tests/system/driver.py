"""Drivers to kill: reads jobs from standard input, one line of JSON each, and runs each in a fork of itself.

Forking after the imports makes a new driver cost milliseconds. Prints the child's pid, then how it ended; a test may kill it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import nullcontext, suppress

import ray  # noqa: F401 - imported once, before the forks, like all that follows
from workload import Quiet, plain_job

from scoring.errors import ScoringError
from scoring.jobs.backfill import backfill
from scoring.jobs.requeue import requeue
from scoring.jobs.run import run
from scoring.parts import part
from scoring.settings import Job, build

with suppress(ImportError):
    import pandas  # noqa: F401 - pyarrow looks for it where it is installed


def attempt(given: dict[str, object]) -> int:
    """`verb` says what to do, a run if nothing is said; `words` are those of a backfill."""
    verb, words = given.pop("verb", "run"), given.pop("words", {})
    try:
        made = build(Job, given)
        if verb == "backfill":
            account, _ = backfill(made, "", words, lambda: nullcontext(Quiet()))  # type: ignore[arg-type]
            print(f"{account.counts} {account.message}", file=sys.stderr)
            return account.exit_code
        record = requeue(made, "", Quiet(), lambda: None) if verb == "requeue" else run(made, "", Quiet())
    except ScoringError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 70
    print(f"{record.status} {record.message} {record.rows}", file=sys.stderr)
    return {"published": 0, "published-with-warnings": 0, "held": 65, "paused": 75}.get(record.status, 70)


def main() -> None:
    build(Job, plain_job("w", "s", "b"))
    part("sources", "parquet")
    for module in ("tabular", "module"):
        part("models", module)
    for line in sys.stdin:
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            os.close(0)
            code = attempt(json.loads(line))
            sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

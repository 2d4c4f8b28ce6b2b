"""Whether those who are told can slow a run: the same run with nobody to tell, and with each sort of trouble in telling.

    make bench-telling            or: python benchmarks/telling.py --rows 6000000 --rounds 5

Measured is the time from the call to the record on disk, when everything is published; telling and the page come after it and are
shown apart. All that is told meanwhile (START at once, RUNNING and the textfile every second) goes on beside the run. Cases take
turns; `added_s` are the quartiles of the differences to the run without, in the same round: what telling adds does not grow with
the run; `cpu_s` is the CPU time of the process that tells. In the first round it is checked
that each case published the same scores, said what was not delivered, and that the next run delivers it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from receiver import closed, hanging, receiver
from spine_data import write_data, write_model

from scoring.jobs import live, telling, witness
from scoring.jobs.reporting import Page
from scoring.jobs.run import run
from scoring.respond.progress import ProgressWatcher
from scoring.settings import Job, build
from scoring.sinks.reader import read_scores
from scoring.types import RunRecord

RUN = "the-run"
OFF = "nobody to tell"


@contextmanager
def answering(status: int) -> Iterator[str]:
    with receiver(status) as there:
        yield there.url


@contextmanager
def down() -> Iterator[str]:
    yield closed()


@contextmanager
def broken(folder: Path) -> Iterator[str]:
    """The libraries of lineage and of the page raise when the processes that tell import them."""
    for name in ("openlineage", "jinja2"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('a bug')\n")
    with receiver() as there:
        sys.path.insert(0, str(folder))
        try:
            yield there.url
        finally:
            sys.path.remove(str(folder))


@contextmanager
def no_outbox(workspace: Path) -> Iterator[str]:
    """Nothing can be kept there, as on a full disk: a file is in the place of the folder."""
    workspace.mkdir(parents=True)
    (workspace / "outbox").write_text("")
    try:
        yield closed()
    finally:
        (workspace / "outbox").unlink()


def cases(folder: Path) -> dict[str, Callable[[Path], AbstractContextManager[str | None]]]:
    return {
        OFF: lambda workspace: nullcontext(None),
        "a receiver that works": lambda workspace: answering(200),
        "a receiver that is down": lambda workspace: down(),
        "a receiver that hangs": lambda workspace: hanging(),
        "a receiver that answers 500": lambda workspace: answering(500),
        "an outbox that takes nothing": no_outbox,
        "code that raises": lambda workspace: broken(folder / "broken"),
    }


@dataclass(frozen=True)
class Took:
    published: float
    cpu: float
    told: float
    line: str


class Times(ProgressWatcher):
    """When the record was on disk."""

    def __init__(self) -> None:
        super().__init__(None)
        self.ended = 0.0

    def end(self, record: RunRecord) -> None:
        self.ended = time.monotonic()
        super().end(record)


def job(workspace: Path, data: Path, bundle: Path, url: str | None, limit_s: float = 5.0) -> Job:
    respond: dict[str, Any] = {"lineage": {"enabled": False}, "report": False}
    if url is not None:
        lineage = {"url": f"{url}/api/v1/lineage", "every_s": 1.0}
        respond = {
            "limit_s": limit_s,
            "lineage": lineage,
            "report": True,
            "metrics": {"textfile": str(workspace.with_suffix(".prom"))},
        }
    return build(
        Job,
        {
            "workspace": str(workspace),
            "run_id": RUN,
            "source": {"kind": "parquet", "path": str(data), "carry": ["id"]},
            "model": {"bundle": str(bundle)},
            "engine": {"kind": "inline"},
            "hardware": {"device": "cpu"},
            "release": {"max_bad_share": None},
            "respond": respond,
        },
    )


def once(given: Job) -> Took:
    began, used = time.monotonic(), _of_children()
    with Times() as watcher:
        record = witness.witnessed(run)(given, "", watcher)
    used = _of_children() - used
    assert record.status.startswith("published"), record
    page, told = Page(given, record), telling.tell(given, record)
    lines = [page.line("scoring"), told.line() if told else ""]
    return Took(watcher.ended - began, used, time.monotonic() - watcher.ended, "; ".join(filter(None, lines)))


def _of_children() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def scores(workspace: Path) -> str:
    return hashlib.sha256(read_scores(str(workspace)).select("score").collect()["score"].to_numpy().tobytes()).hexdigest()


def delivered_by_the_next(given: Job, workspace: Path, data: Path, bundle: Path) -> str:
    with answering(200) as url:
        again = job(workspace, data, bundle, url, limit_s=60.0)
        told = telling.tell(again, run(again, "", ProgressWatcher(None)))
    assert told is not None
    assert not list((workspace / "outbox").rglob("*.json")), "something still waits"
    return told.line()


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=6_000_000)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--only", default="", help="a word of the cases beside nobody to tell")
    given = ask.parse_args()
    folder = given.folder.absolute()
    data, bundle = write_data(folder, given.rows), write_model(folder / "telling")
    live._SOON_S = 0.0  # type: ignore[attr-defined]  # the run is short; one of an hour has this behind it at once, too
    workspace = folder / "workspace-telling"
    known = {name: case for name, case in cases(folder).items() if name == OFF or given.only in name}
    shutil.rmtree(workspace, ignore_errors=True)
    once(job(workspace, data, bundle, None))  # imports, and files that were never read
    found: dict[str, list[Took]] = {}
    same = ""
    for turn in range(given.rounds):
        for name in list(known)[:: 1 if turn % 2 else -1]:
            shutil.rmtree(workspace, ignore_errors=True)
            with known[name](workspace) as url:
                wanted = job(workspace, data, bundle, url)
                took = once(wanted)
            found.setdefault(name, []).append(took)
            said = f"round {turn + 1}: {name:28} {took.published:6.2f} s, then {took.told:5.2f} s"
            print(f"{said} (load {os.getloadavg()[0]:.1f}) {took.line if not turn else ''}", flush=True)
            if not turn:
                same = same or scores(workspace)
                assert scores(workspace) == same, f"{name}: other scores"
                if url is not None:
                    print(f"         the next run: {delivered_by_the_next(wanted, workspace, data, bundle)}", flush=True)
    shutil.rmtree(workspace, ignore_errors=True)
    off = statistics.median(took.published for took in found[OFF])
    for name in (n for n in known if n != OFF):
        on, after = (statistics.median(getattr(took, field) for took in found[name]) for field in ("published", "told"))
        row = {"name": f"telling, {name} / {OFF}", "ours": round(on, 3), "theirs": round(off, 3), "ratio": round(on / off, 3)}
        added = [took.published - alone.published for took, alone in zip(found[name], found[OFF], strict=True)]
        quarters = statistics.quantiles(added, n=4) if len(added) > 1 else added * 3
        cpu = statistics.median(took.cpu for took in found[name])
        row |= {"added_s": [round(seconds, 3) for seconds in quarters], "cpu_s": round(cpu, 2)}
        print(json.dumps(row | {"unit": "s until published", "n": given.rounds, "told_after_s": round(after, 2)}))


if __name__ == "__main__":
    main()

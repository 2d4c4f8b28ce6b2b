"""Run in a child process: plan and read every file named on stdin, one JSON line of outcome for each. A crash ends the output."""

import json
import sys

import pyarrow as pa

from scoring.errors import SourceError
from scoring.parts import part
from scoring.settings import Csv, Source
from scoring.sources.discover import partitions
from scoring.sources.slices import plan


def outcome(path: str, kind: str) -> tuple[str, int]:
    module = part("sources", kind)
    settings = Source(kind=kind, path=path, csv=Csv())
    rows = 0
    try:
        for partition in partitions(settings, module.SUFFIXES):
            for work in plan(partition, settings):
                if work.fault:
                    return "fault", 0
                for fragment in work.fragments:
                    for window in module.read(fragment, None, 4096, settings):
                        assert len(window.positions) == window.batch.num_rows
                        rows += window.batch.num_rows + len(window.rejected)
                        with pa.ipc.new_stream(pa.BufferOutputStream(), window.batch.schema) as sink:  # touches every value
                            sink.write_batch(window.batch)
    except SourceError as error:
        return ("SourceError" if str(error).isprintable() else "SourceError of several lines"), rows
    return "rows", rows


if __name__ == "__main__":
    for line in sys.stdin:
        path, kind = json.loads(line)
        sys.stdout.write(json.dumps([path, kind, "started", 0]) + "\n")
        sys.stdout.flush()
        try:
            what, rows = outcome(path, kind)
        except BaseException as error:  # what must not happen is told, not raised
            what, rows = f"{type(error).__name__}: {error}", -1
        sys.stdout.write(json.dumps([path, kind, what, rows]) + "\n")
        sys.stdout.flush()

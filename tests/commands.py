"""Commands as a shell gives them, without what it costs to import everything for each: a process that forks, and each fork is one.

Reads a line of JSON for each: words, environment, standard input, files for stdout and stderr. Prints the exit code.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forker import Forker

HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Done:
    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


class Commands(Forker):
    def __init__(self, folder: Path, environment: dict[str, str], families: Path, modules: Path = HERE) -> None:
        """`modules` is a folder of modules that commands may name."""
        self._folder, self.environment = folder, dict(environment)
        command = [sys.executable, str(HERE / "commands.py"), str(families)]
        super().__init__(command, os.environ | {"PYTHONPATH": f"{ROOT}:{modules}:{families}"})

    def __call__(self, *words: str, given: str = "") -> Done:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        files = {name: str(self._folder / name) for name in ("out", "err", "in")}
        Path(files["in"]).write_text(given)
        self._process.stdin.write(json.dumps({"words": words, "environment": self.environment} | files) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Done(words, code, Path(files["out"]).read_text(), Path(files["err"]).read_text())


def _become(asked: dict[str, Any]) -> None:
    for number, name in enumerate(("in", "out", "err")):
        mode = os.O_RDONLY if name == "in" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(asked[name], mode, 0o600), number)
    os.environ.update(asked["environment"])
    tempfile.tempdir = None  # it was looked up in the environment before
    sys.argv = ["scoring", *asked["words"]]
    from scoring.__main__ import main

    main()


def _serve() -> None:
    import scoring.__main__
    import scoring.jobs.run
    import scoring.models
    import scoring.respond.logs
    from scoring.parts import part

    scoring.models.__path__.append(sys.argv[1])
    for name in ("module", "tabular"):
        part("models", name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _become(json.loads(line))
            finally:
                os._exit(99)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()

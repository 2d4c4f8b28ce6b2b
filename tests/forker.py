"""A process that is given lines on stdin and forks for each: what all of its forks import is imported once."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self


class Forker:
    """A context manager: leaving it ends the process, by the end of its stdin."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], stderr: Any = None) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
        self._process = subprocess.Popen(command, text=True, env=dict(environment), **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

"""`scoring backfill` as a child process: its words, its lines as they come, and what its end means to whoever scheduled it.

The standard library only: this is imported where the rest of the package need not be installed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any, Literal

Verdict = Literal["done", "not-ready", "again", "failed", "refused"]
_REFUSED = (64, 65, 77, 78)  # the same line with the same data ends in the same way: a person is needed
_AGAIN = 75
_SAID = 5  # last lines of stderr that an error repeats
_LISTED = 20


@dataclass(frozen=True)
class Request:
    """Which intervals: `start` and `end` are half-open ISO 8601 instants, the other words those of docs/backfill.md."""

    start: str
    end: str
    which: str = "missing,stale"
    timezone: str | None = None

    def words(self) -> list[str]:
        zone = [f"timezone={self.timezone}"] if self.timezone else []
        return [f"start={iso(self.start)}", f"end={iso(self.end)}", f"which={self.which}", *zone]


def iso(said: str) -> str:
    """The instant without blanks: Hydra would ask for quotes. Raises: ValueError: it is no instant."""
    return datetime.fromisoformat(said).isoformat()


@dataclass(frozen=True)
class Ending:
    """`code` is the exit code, or minus the signal that ended the child; `account` is the JSON of the backfill, {} without one."""

    code: int
    account: Mapping[str, Any]
    last: Sequence[str]

    @property
    def verdict(self) -> Verdict:
        """What to do next. "not-ready" only if nothing but input is missing: then waiting helps, and nothing else."""
        if self.code == 0:
            return "done"
        if self.code in _REFUSED:
            return "refused"
        if self.code != _AGAIN:
            return "failed"
        open_ones = [one for one in self.intervals if one["exit_code"]]
        return "not-ready" if open_ones and all(one["action"] == "wait" for one in open_ones) else "again"

    @property
    def intervals(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.account.get("intervals", ())
        return found

    def facts(self) -> dict[str, Any]:
        """What is worth keeping beside a task: numbers and names, no list that grows with the range."""
        names = ("start", "end", "counts", "rows", "rate", "seconds", "cost", "runs", "exit_code")
        return {name: self.account[name] for name in names if name in self.account}

    def why(self) -> str:
        """One line for each interval that did not end well; without an account, what was said last."""
        told = [one for one in self.intervals if one["exit_code"]]
        lines = [f"{one['key'] or one['start']}: {one['status'] or one['action']}: {one['reason']}" for one in told[:_LISTED]]
        lines += [f"and {len(told) - _LISTED} more"] if len(told) > _LISTED else []
        return f"scoring backfill ended with exit code {self.code}. " + "; ".join(lines or self.last or ["It said nothing."])


@dataclass
class Command:
    """One call. `stop` may come from a signal handler, or from another thread, at any time."""

    executable: str
    overrides: Sequence[str]
    config_dir: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _child: subprocess.Popen[str] | None = None
    _stopped: bool = False

    def backfill(self, request: Request, say: Callable[[str], None]) -> Ending:
        """Wait for its end; `say` gets each line of stderr as it comes, progress among them.

        Raises:
            FileNotFoundError: there is no such command.
        """
        folder = [f"--config-dir={self.config_dir}"] if self.config_dir else []
        words = [self.executable, "backfill", *self.overrides, *request.words(), "--json", *folder]
        with self._started(words) as child, ThreadPoolExecutor(1) as reader:
            assert child.stdout is not None
            assert child.stderr is not None
            account = reader.submit(child.stdout.read)
            last = self._follow(child.stderr, say)
            return Ending(child.wait(), _parsed(account.result()), last)

    def _started(self, words: Sequence[str]) -> subprocess.Popen[str]:
        """In a session of its own: who kills the task's process group must not take the state of the run with it."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        text: dict[str, Any] = {"text": True, "encoding": "utf-8", "errors": "replace"}
        environment = {**os.environ, **self.environment}
        self._child = subprocess.Popen(words, env=environment, start_new_session=True, **pipes, **text)
        if self._stopped:
            self._child.terminate()
        return self._child

    def _follow(self, lines: IO[str], say: Callable[[str], None]) -> list[str]:
        """If the caller is interrupted the child is told, and waited for: it finishes what it has in hand."""
        last: list[str] = []
        try:
            for line in lines:
                say(line.rstrip("\n"))
                last = [*last, line.strip()][-_SAID:]
        except BaseException:
            self.stop()
            raise
        return last

    def stop(self) -> None:
        """SIGTERM, once: what is in hand is finished and kept. A second one would end it at once."""
        first, self._stopped = not self._stopped, True
        if first and self._child is not None:
            with suppress(ProcessLookupError):
                self._child.terminate()


def _parsed(text: str) -> Mapping[str, Any]:
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}

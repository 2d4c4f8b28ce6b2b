"""A receiver that is a program of the user's: the event on its stdin, a time limit, no shell. Configuration is trusted as code."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from scoring.respond.outbox import Message

_LAST_S = 1.0  # for the kernel to end it


@dataclass(frozen=True)
class Command:
    """`words` are the program and its arguments. What it says is not kept: it may say anything."""

    name: str
    words: tuple[str, ...]

    def send(self, message: Message, limit_s: float) -> None:
        """Raises: OSError: it cannot be started; TimeoutError; RuntimeError: its exit code was not 0."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(self.words, stdin=subprocess.PIPE, start_new_session=True, **quiet)  # type: ignore[call-overload]
        try:
            process.communicate(message.body.encode(), timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            _ended(process)
        if process.returncode:
            raise RuntimeError(f"the command ended with {process.returncode}")


def _ended(process: subprocess.Popen[bytes]) -> None:
    """With all that it started, whether it went well or not: nothing is left behind by a run."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_S)

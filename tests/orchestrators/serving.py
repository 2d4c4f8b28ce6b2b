"""Orchestrators as processes of a test: started, asked over HTTP, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def serving(commands: Mapping[str, list[str]], environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Each in a session of its own, so that nothing of it outlives the test; what they say is in `folder`."""
    started = []
    try:
        for name, command in commands.items():
            with open(folder / f"{name}.log", "wb") as log:
                given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
                started.append(subprocess.Popen(command, env=dict(environment), cwd=folder, start_new_session=True, **given))
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in started:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def asked(url: str, data: Any = None, token: str = "", method: str | None = None) -> Any:
    """Raises: OSError: nobody answers, or refuses."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = None if data is None else json.dumps(data).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=60) as answer:
        return json.load(answer)


def once(look: Callable[[], T | None], what: str, seconds: float = 300) -> T:
    """What `look` finds as soon as it finds something. A server that does not answer yet has found nothing."""
    end, last = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        try:
            found = look()
        except OSError as error:
            found, last = None, str(error)
        if found is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not seen in {seconds:.0f} s: {what} {last}")

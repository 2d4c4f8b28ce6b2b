"""After a run: tell whoever is configured. Cannot fail a run, change its exit code, or hold it longer than `respond.limit_s`.

All of it happens in a child process, after everything is published and the workspace is free again: a thread cannot be ended, and
some things only end with their process (a name that no server resolves, a disk that does not answer, a bug that loops). The child
keeps every message in the outbox before it sends any, and says on its stdout what became of each; so what this process knows, and
says, is true wherever the child was ended. A run is marked untold when it begins: if its messages could not even be made or kept,
the next run makes them. `live.py` tells while the run goes on.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from scoring.errors import ConfigError
from scoring.jobs import alerting, asked
from scoring.redact import holds_secret, redacted
from scoring.respond import addresses
from scoring.respond.delivery import Outcome, reason
from scoring.settings import Job, Respond
from scoring.stores import open_store
from scoring.types import RunRecord

_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from scoring.respond.teller import main; main()"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_PARENT = re.compile(r".+/[^/]+/[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GRACE_S = 0.2  # for a child that ends itself in time to be seen to
_LAST_S = 1.0  # for the kernel to end it, and for a store to take told.json


@dataclass(frozen=True)
class Told:
    """What became of the messages; `why` says what became of the telling itself, "" if it went its way."""

    run_id: str
    seconds: float
    receivers: Mapping[str, Mapping[str, Any]]
    why: str = ""

    def line(self) -> str:
        """One line for people; "" if there was nobody to tell."""
        done = [f"{name} {found['delivered']}" for name, found in self.receivers.items() if found["delivered"]]
        waits = [
            f"{name}: {found['waits']} wait in outbox ({found['why']})" for name, found in self.receivers.items() if found["waits"]
        ]
        lost = [f"{name}: {found['why']}" for name, found in self.receivers.items() if found["lost"]]
        missing = [*([self.why] if self.why else []), *waits, *lost]
        gone = [f"{one['given_up']} for {name} ({one['why_given_up']})" for name, one in self.receivers.items() if one["given_up"]]
        told = [f"told: {', '.join(done)}"] if done else []
        not_told = [f"not told: {'; '.join(missing)}. The next run tries again"] if missing else []
        return "; ".join([*told, *not_told, *([f"given up: {', '.join(gone)}"] if gone else [])])


def refuse(settings: Respond) -> None:
    """Before a run: what could never be told.

    Raises:
        ConfigError: a library is missing, or an address, a name or a path cannot work.
    """
    lineage, metrics = settings.lineage, settings.metrics
    alerts, retraining = settings.alerts, settings.retraining
    for setting, name in (
        ("lineage", lineage.token_env),
        ("metrics", metrics.token_env),
        ("alerts.alertmanager", alerts.alertmanager.token_env),
        ("retraining", retraining.token_env),
    ):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", name):
            raise ConfigError(f"respond.{setting}.token_env is no name of an environment variable. Say in which one the token is.")
        holds_secret(name)
    if alerts.notify.urls_env is not None:
        holds_secret(alerts.notify.urls_env)
    for wanted, package, setting, off in (
        (lineage.enabled, "openlineage", "lineage", "respond.lineage.enabled=false"),
        (metrics.textfile or metrics.pushgateway, "prometheus_client", "metrics", "no respond.metrics"),
    ):
        if wanted and find_spec(package) is None:
            library = {"openlineage": "openlineage-python"}.get(package, "prometheus-client")
            raise ConfigError(f"respond.{setting} needs {library}, which is not installed. Install it, or say {off}.")
    for name, address in (("lineage.url", lineage.url), ("metrics.pushgateway", metrics.pushgateway)):
        if address is not None and (why := addresses.wrong(address)):
            raise ConfigError(f"respond.{name}: {why}")
    if settings.name is not None and not _NAME.fullmatch(settings.name):
        raise ConfigError(f"respond.name: {settings.name!r} is no name. Use up to 100 letters, digits, '_', '.', '-'.")
    if lineage.parent is not None and not _PARENT.fullmatch(lineage.parent):
        raise ConfigError(f"respond.lineage.parent: {lineage.parent!r} is not namespace/job/run id (a UUID).")
    if metrics.textfile is not None and not metrics.textfile.endswith(".prom"):
        raise ConfigError(
            f"respond.metrics.textfile: {metrics.textfile!r} must end with .prom: node_exporter reads no other files."
        )
    alerting.refuse(settings)


def tell(job: Job, record: RunRecord, said: Sequence[str] = ()) -> Told | None:
    """Everybody; None where nobody is to be told. `said` is the command line, "run" and its words. Raises nothing."""
    if not asked.wanted(job.respond):
        return None
    began = time.monotonic()
    try:
        given = {
            "workspace": job.workspace,
            "name": asked.name(job),
            "respond": asdict(job.respond),
            "record": asdict(record),
            "said": redacted(said),
            "folder": os.getcwd(),
            "until": began + job.respond.limit_s,
        }
        output, why = _child(json.dumps(given), began + job.respond.limit_s)
        told = Told(record.run_id, round(time.monotonic() - began, 3), _summed(output), why)
    except Exception as error:
        told = Told(record.run_id, round(time.monotonic() - began, 3), {}, reason(error))
    if record.started:  # a run that did nothing goes by the name of the last that did something
        _keep(job.workspace, told)
    return told


def _child(given: str, until: float) -> tuple[str, str]:
    """What it said, and why it did not end by itself. The group is ended with it."""
    command = [sys.executable, "-I", "-c", _CHILD, *sys.path]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
    try:
        output, _ = process.communicate(given + "\n", timeout=max(until + _GRACE_S - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            output, _ = process.communicate(timeout=_LAST_S)
        except subprocess.TimeoutExpired as left:  # it hangs in the kernel
            output = left.output.decode(errors="replace") if isinstance(left.output, bytes) else ""
        return output or "", "it took too long and was ended"
    return output, "" if process.returncode == 0 else f"the process that tells ended with {process.returncode}"


def _summed(output: str) -> dict[str, dict[str, Any]]:
    """The last word on each message, by receiver. A line that was cut off says nothing."""
    last: dict[tuple[str, str], Outcome] = {}
    for line in output.splitlines():
        with suppress(ValueError, TypeError):
            outcome = Outcome(**json.loads(line))
            last[outcome.to, outcome.id] = outcome
    found: dict[str, dict[str, Any]] = {}
    for outcome in sorted(last.values(), key=lambda one: one.to):
        one = found.setdefault(outcome.to, {"delivered": 0, "waits": 0, "lost": 0, "given_up": 0, "why": "", "why_given_up": ""})
        one[outcome.state] += 1
        why = "why_given_up" if outcome.state == "given_up" else "why"
        one[why] = one[why] or outcome.why
    return found


def _keep(workspace: str, told: Told) -> None:
    """told.json beside the record. A store that does not answer is left behind."""

    def keep() -> None:
        with suppress(Exception):
            open_store(workspace).replace(f"runs/{told.run_id}/told.json", json.dumps(asdict(told), indent=2).encode())

    thread = threading.Thread(target=keep, name="told", daemon=True)
    thread.start()
    thread.join(_LAST_S)

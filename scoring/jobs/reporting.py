"""The page of a run, made when it has ended, in a process of its own: whatever happens there, the run is over and published."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from scoring.jobs.report import NAME
from scoring.respond.delivery import reason
from scoring.settings import Job
from scoring.types import RunRecord

_CHILD = "import sys; sys.path[:] = sys.argv[3:]; from scoring.jobs.report import write_report; write_report(*sys.argv[1:3])"


class Page:
    """Begun where a run did something and `respond.report` is on. Raises nothing, ever."""

    def __init__(self, job: Job, record: RunRecord) -> None:
        self._workspace, self._run, self._why = job.workspace, record.run_id, ""
        self._until = time.monotonic() + job.respond.limit_s
        self._process: subprocess.Popen[bytes] | None = None
        if job.respond.report and record.started:
            command = [sys.executable, "-I", "-c", _CHILD, job.workspace, record.run_id, *sys.path]
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            try:
                self._process = subprocess.Popen(command, start_new_session=True, **quiet)  # type: ignore[call-overload]
            except OSError as error:
                self._why = reason(error)

    def line(self, called: str) -> str:
        """Wait, for `respond.limit_s` since it began. Where the page is, or why there is none; "" if none was wanted."""
        if self._process is not None:
            self._why = self._ended(self._process)
        elif not self._why:
            return ""
        if not self._why:
            return f"report:     {self._workspace}/runs/{self._run}/{NAME}"
        return f"no report: {self._why}. To make it: {called} report {self._run} workspace={self._workspace}"

    def _ended(self, process: subprocess.Popen[bytes]) -> str:
        try:
            code = process.wait(max(self._until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            return "it took too long and was ended"
        return "" if code == 0 else f"the process that makes it ended with {code}"

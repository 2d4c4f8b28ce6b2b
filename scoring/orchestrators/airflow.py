"""`ScoringOperator`: a data interval of Airflow 3 is scored and published, or goes on where it was. docs/orchestrators.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from scoring.orchestrators.command import Command, Ending, Request

_START = "{{ data_interval_start | default('', true) }}"
_END = "{{ data_interval_end | default('', true) }}"
_NOT_READY = "{{ 'skip' if dag_run.run_type == 'backfill' else 'retry' }}"


class ScoringOperator(BaseOperator):
    """Score what is missing or stale of a data interval; returns counts, rows and run ids (XCom).

    How it ends: exit code 0 is success; 64, 65 (held by a gate), 77 and 78 fail without a retry, for a retry would find the same;
    75 and all others fail as any task does, with the task's `retries` and `retry_delay`. Input that is not ready yet is tried again
    too, and skipped in a backfill of Airflow: what did not come in history does not come in half an hour.

    Args:
        overrides: settings as on the command line, such as ["job=churn-nightly"].
        executable: the `scoring` command, which may stand in an environment of its own.
        config_dir: folder with YAML of your own.
        start, end: half-open instants; the data interval.
        which: which intervals are due, as in docs/backfill.md.
        timezone: whose days the intervals are, UTC without it; that of the DAG's timetable.
        not_ready: "retry" or "skip".
        env: variables for the command, beside those of the worker.
    """

    template_fields: Sequence[str] = ("overrides", "config_dir", "start", "end", "which", "not_ready", "env")
    template_fields_renderers: Mapping[str, str] = {"env": "json"}
    ui_color = "#d9ead3"

    def __init__(
        self,
        *,
        overrides: Sequence[str],
        executable: str = "scoring",
        config_dir: str | None = None,
        start: str = _START,
        end: str = _END,
        which: str = "missing,stale",
        timezone: str | None = None,
        not_ready: str = _NOT_READY,
        env: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.overrides, self.executable, self.config_dir = list(overrides), executable, config_dir
        self.start, self.end, self.which, self.timezone = start, end, which, timezone
        self.not_ready, self.env = not_ready, dict(env or {})
        self._command: Command | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Raises: AirflowFailException: no retry helps; AirflowSkipException; AirflowException: a retry may help."""
        request = self._request()
        self._command = Command(self.executable, self.overrides, self.config_dir, self.env)
        try:
            ending = self._command.backfill(request, lambda line: self.log.info("%s", line))
        except FileNotFoundError:
            raise AirflowFailException(
                f"executable={self.executable} is no command on this worker. Say the path of `scoring`, such as "
                "/opt/scoring/.venv/bin/scoring."
            ) from None
        self._raise(ending)
        self.log.info("%s", ending.facts())
        return ending.facts()

    def on_kill(self) -> None:
        """A task that is cleared, marked, or whose worker is drained: the run finishes what it has in hand, and keeps its state."""
        if self._command is not None:
            self._command.stop()

    def _request(self) -> Request:
        if self.not_ready not in ("retry", "skip"):
            raise AirflowFailException(f"not_ready={self.not_ready!r} is not known. Say 'retry' or 'skip'.")
        try:
            empty = datetime.fromisoformat(self.start) == datetime.fromisoformat(self.end)
        except ValueError:
            raise AirflowFailException(
                f"start={self.start!r} end={self.end!r}: no two instants. A run without a logical date has no data interval: "
                "say start=… and end=…."
            ) from None
        if empty:
            raise AirflowFailException(
                f"The data interval is empty: it begins and ends at {self.start}. A cron string makes such a timetable: say "
                'schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"), or start=… and end=….'
            )
        return Request(self.start, self.end, self.which, self.timezone)

    def _raise(self, ending: Ending) -> None:
        verdict = ending.verdict
        if verdict == "done":
            return
        if verdict == "refused":
            raise AirflowFailException(ending.why())
        if verdict == "not-ready" and self.not_ready == "skip":
            raise AirflowSkipException(ending.why())
        raise AirflowException(ending.why())

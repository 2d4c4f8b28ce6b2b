"""Whether all files of a partition are there yet, by the rules of `source.ready`. Looks; at footers only where rows are counted."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scoring.errors import ConfigError, SourceError
from scoring.parts import part
from scoring.settings import Source
from scoring.sources.discover import local
from scoring.sources.guard import translated
from scoring.types import Partition


class Readiness:
    """The watermark is read once: partitions that are judged together are judged by the same."""

    def __init__(self, source: Source) -> None:
        self._source, self._rules = source, source.ready
        self._complete: datetime | str | None = None
        if self._rules.watermark is not None:
            self._complete = _watermark(local(self._rules.watermark))

    @property
    def binds(self) -> bool:
        rules = self._rules
        return any(rule is not None for rule in (rules.success_file, rules.watermark, rules.min_rows, rules.max_age_hours))

    def lacking(self, partition: Partition, end: datetime | None) -> str:
        """Why a partition is not ready, "" if it is. `end` is that of its interval, None where its key names none.

        Raises:
            ConfigError: a rule asks for an interval, or for rows, where nobody can know them.
        """
        return self._marked(partition) or self._passed(partition, end) or self._fresh(partition, end) or self._filled(partition)

    def _marked(self, partition: Partition) -> str:
        name = self._rules.success_file
        folders = sorted({os.path.dirname(file.path) for file in partition.files}) if name else []
        bare = [folder for folder in folders if not os.path.isfile(os.path.join(folder, name or ""))]
        return f"{bare[0]} has no {name}" if bare else ""

    def _passed(self, partition: Partition, end: datetime | None) -> str:
        if self._rules.watermark is None:
            return ""
        if isinstance(self._complete, str):
            return self._complete
        assert self._complete is not None
        if self._complete >= _known(end, partition.key, "watermark"):
            return ""
        return f"the watermark is at {self._complete.isoformat(timespec='seconds')}"

    def _fresh(self, partition: Partition, end: datetime | None) -> str:
        most = self._rules.max_age_hours
        if most is None:
            return ""
        due = _known(end, partition.key, "max_age_hours") - timedelta(hours=most)
        newest = max(datetime.fromtimestamp(_written(file.version), UTC) for file in partition.files)
        return "" if newest >= due else f"its newest file is of {newest.isoformat(timespec='seconds')}, before it was over"

    def _filled(self, partition: Partition) -> str:
        least = self._rules.min_rows
        if least is None:
            return ""
        rows = self._promised(partition)
        return "" if rows >= least else f"{rows:,} rows, source.ready.min_rows wants {least:,}"

    def _promised(self, partition: Partition) -> int:
        """By footers; files that cannot be read promise nothing: they are quarantined when they are scored."""
        kind, total = part("sources", self._source.kind), 0
        for file in partition.files:
            try:
                with translated():
                    rows = kind.footer(file, self._source).rows
            except ConfigError:
                raise
            except SourceError:
                continue
            if rows is None:
                raise ConfigError(
                    f"source.ready.min_rows: {file.path} does not say how many rows it has; only Parquet and Arrow files do. "
                    "Use success_file or watermark."
                )
            total += rows
        return total


def _known(end: datetime | None, key: str, rule: str) -> datetime:
    if end is None:
        raise ConfigError(f"source.ready.{rule} needs days or hours, and {key} names none: folders date=2026-01-31[/hour=05] do.")
    return end


def _watermark(path: str) -> datetime | str:
    """The instant; why nothing is complete, where there is none yet. Raises: ConfigError: it is no instant."""
    try:
        text = Path(path).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return f"there is no watermark {path}"
    except OSError as error:
        raise ConfigError(f"source.ready.watermark: {path}: {error.strerror}.") from None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"source.ready.watermark: {path} does not hold an instant such as 2026-01-31T00:00:00+00:00.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def _written(version: str) -> float:
    """Seconds since 1970: files are versioned by size and time."""
    return int(version.rsplit("-", 1)[1]) / 1e9

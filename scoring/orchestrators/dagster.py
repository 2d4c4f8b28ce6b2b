"""`ScoringResource`: a partitioned asset of Dagster is scored and published, or goes on where it was. docs/orchestrators.md."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import dagster as dg

from scoring.orchestrators.command import Command, Ending, Request

_BACKFILL = "dagster/backfill"  # the tag of runs that a backfill made


class ScoringResource(dg.ConfigurableResource):  # type: ignore[type-arg,unused-ignore]
    """The `scoring` command. `executable` may stand in an environment of its own; `overrides` are settings as on the command line.

    `config_dir` is a folder with YAML of your own, `environment` has variables for the command beside those of this process.
    """

    overrides: list[str]
    executable: str = "scoring"
    config_dir: str | None = None
    environment: dict[str, str] = {}  # noqa: RUF012 - a field of pydantic: each instance gets its own

    def backfill(
        self,
        context: dg.AssetExecutionContext,
        which: str = "missing,stale",
        not_ready: Literal["retry", "skip"] | None = None,
        max_retries: int = 3,
        seconds_to_wait: float = 1800,
    ) -> Iterator[dg.MaterializeResult]:
        """Score what is missing or stale of the partitions of this run: one, or a range with `BackfillPolicy.single_run()`.

        The asset needs time partitions and `output_required=False`. How it ends: exit code 0 yields a materialization; 64, 65 (held
        by a gate), 77 and 78 fail without a retry, for a retry would find the same; 75 and input that is not ready are tried again,
        `max_retries` times after `seconds_to_wait`; all others fail, with the retry policy of the asset. In a backfill of Dagster,
        partitions whose input is not ready stay missing and the run succeeds, unless `not_ready` says otherwise. Of a range that
        failed in part, the partitions that were published are materialized nevertheless.

        Raises:
            dagster.Failure, dagster.RetryRequested: as above.
        """
        definition = context.assets_def.partitions_def
        if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
            raise dg.Failure(f"{context.asset_key.to_user_string()} has no time partitions.", allow_retries=False)
        window = context.partition_time_window
        request = Request(window.start.isoformat(), window.end.isoformat(), which, definition.timezone)
        ending = self._called(context, request)
        skips = (not_ready or ("skip" if _BACKFILL in context.run.tags else "retry")) == "skip"
        if ending.verdict == "done":
            yield dg.MaterializeResult(metadata=_metadata(ending))
            return
        _materialize_what_is_there(context, definition, ending)
        if ending.verdict == "not-ready" and skips:
            context.log.warning(ending.why())
            return
        if ending.verdict in ("again", "not-ready"):
            context.log.warning(ending.why())
            raise dg.RetryRequested(max_retries=max_retries, seconds_to_wait=seconds_to_wait)
        raise dg.Failure(ending.why(), metadata=_metadata(ending), allow_retries=ending.verdict != "refused")

    def _called(self, context: dg.AssetExecutionContext, request: Request) -> Ending:
        command = Command(self.executable, self.overrides, self.config_dir, self.environment)
        try:
            return command.backfill(request, context.log.info)
        except FileNotFoundError:
            raise dg.Failure(
                f"executable={self.executable} is no command here. Say the path of `scoring`, such as "
                "/opt/scoring/.venv/bin/scoring.",
                allow_retries=False,
            ) from None


def _materialize_what_is_there(context: Any, definition: dg.TimeWindowPartitionsDefinition, ending: Ending) -> None:
    """Of several partitions, those whose intervals all ended well."""
    ended = [(datetime.fromisoformat(one["start"]), one["exit_code"]) for one in ending.intervals]
    for key in context.partition_keys:
        window = definition.time_window_for_partition_key(key)
        codes = [code for start, code in ended if window.start <= start < window.end]
        if codes and not any(codes):
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=key, metadata=_metadata(ending)))


def _metadata(ending: Ending) -> dict[str, Any]:
    facts = ending.facts()
    numbers = {f"rows/{name}": count for name, count in facts.get("rows", {}).items()}
    return numbers | {"scoring_runs": facts.get("runs", []), "intervals": facts.get("counts", {}), "exit_code": ending.code}

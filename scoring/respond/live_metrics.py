"""How far a run is, for Prometheus: gauges of their own names, so that those of the last run, its success above all, stay.

They vanish with the run. `scoring_live_updated_timestamp_seconds` tells a run from a file that nobody could remove.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from scoring.respond.metrics import Families, Samples, exposed


def live_text(name: str, progress: Mapping[str, Any]) -> str:
    """From progress.json, in the text format of Prometheus."""
    return exposed(name, live_families(progress))


def live_families(progress: Mapping[str, Any]) -> Families:
    outcomes: Samples = {(outcome,): float(progress[outcome]) for outcome in ("scored", "quarantined", "suppressed")}
    slices: Samples = {(state,): float(progress["slices"][state]) for state in ("planned", "done")}
    eta = progress["eta_seconds"]
    return {
        "scoring_live_rows": ("Rows of the run that goes on, by what became of them.", ("outcome",), outcomes),
        "scoring_live_planned_rows": ("Rows that were found so far.", (), {(): float(progress["rows"]["planned"])}),
        "scoring_live_rows_per_second": ("Rows read per second of the last minute.", (), {(): progress["rows_per_second"]}),
        "scoring_live_remaining_seconds": ("Time left, at the slower of two guesses.", (), {(): max(eta)} if eta else {}),
        "scoring_live_slices": ("Slices of the run that goes on.", ("state",), slices),
        "scoring_live_lanes": ("Lanes that the run was planned with.", (), {(): float(progress["lanes"])}),
        "scoring_live_updated_timestamp_seconds": (
            "When the run last said how far it is.",
            (),
            {(): datetime.fromisoformat(progress["updated"]).timestamp()},
        ),
    }

"""Who is to be told, from settings that were checked already."""

from __future__ import annotations

from typing import Any

from scoring.respond.delivery import Http, Receiver, TextFile
from scoring.settings import Lineage, Metrics, OutboxLimits, Respond


def respond(plain: dict[str, Any]) -> Respond:
    """Settings from their plain form, as a process is given them."""
    kinds: dict[str, Any] = {"lineage": Lineage, "metrics": Metrics, "outbox": OutboxLimits}
    return Respond(**plain | {name: kind(**plain[name]) for name, kind in kinds.items()})


def lineage_receiver(settings: Respond) -> Receiver | None:
    lineage = settings.lineage
    return Http("lineage", lineage.url, "POST", lineage.token_env) if lineage.enabled and lineage.url else None


def receivers(settings: Respond, name: str) -> list[Receiver]:
    """All of them; `name` is that of the job."""
    metrics, lineage = settings.metrics, lineage_receiver(settings)
    found = [lineage] if lineage else []
    if metrics.textfile:
        found.append(TextFile("textfile", metrics.textfile))
    if metrics.pushgateway:
        from scoring.respond.metrics import group

        found.append(Http("pushgateway", group(metrics.pushgateway, name), "PUT", metrics.token_env))
    return found

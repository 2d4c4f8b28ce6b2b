"""Who is to be told, from settings that were checked already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scoring.respond.delivery import Http, Receiver, TextFile
from scoring.respond.once import Once
from scoring.settings import Alertmanager, AlertRule, Alerts, Lineage, Logs, Metrics, Notify, OutboxLimits, Respond, Retraining
from scoring.stores import Store


def respond(plain: dict[str, Any]) -> Respond:
    """Settings from their plain form, as a process is given them; `build` would bring pydantic, which takes a while."""
    alerts = plain["alerts"]
    rules = {name: AlertRule(**_tuples(rule)) for name, rule in alerts["rules"].items()}
    inner = {"alertmanager": Alertmanager(**alerts["alertmanager"]), "notify": Notify(**alerts["notify"]), "rules": rules}
    kinds: dict[str, Any] = {"lineage": Lineage, "metrics": Metrics, "outbox": OutboxLimits, "logs": Logs, "retraining": Retraining}
    made = {name: kind(**_tuples(plain[name])) for name, kind in kinds.items()}
    return Respond(**plain | made | {"alerts": Alerts(**alerts | inner)})


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}


def lineage_receiver(settings: Respond) -> Receiver | None:
    lineage = settings.lineage
    return Http("lineage", lineage.url, "POST", lineage.token_env) if lineage.enabled and lineage.url else None


def receivers(settings: Respond, name: str, store: Store) -> list[Receiver]:
    """All of them; `name` is that of the job."""
    metrics, lineage = settings.metrics, lineage_receiver(settings)
    found = [lineage] if lineage else []
    if metrics.textfile:
        found.append(TextFile("textfile", metrics.textfile))
    if metrics.pushgateway:
        from scoring.respond.metrics import group

        found.append(Http("pushgateway", group(metrics.pushgateway, name), "PUT", metrics.token_env))
    return [*found, *(Once(receiver, store) for receiver in _of_alerts(settings))]


def _of_alerts(settings: Respond) -> Iterator[Receiver]:
    """Alertmanager and events as well: an old alert that came again would fire again."""
    alerts, retraining = settings.alerts, settings.retraining
    if alerts.enabled and alerts.alertmanager.url:
        from scoring.respond.alerts.tell import ALERTMANAGER, PATH

        yield Http(ALERTMANAGER, alerts.alertmanager.url.rstrip("/") + PATH, "POST", alerts.alertmanager.token_env)
    if alerts.enabled and alerts.notify.urls_env:
        from scoring.respond.alerts import notify

        yield from notify.receivers(alerts.notify.urls_env)
    if retraining.enabled and retraining.url:
        yield Http("retraining-http", retraining.url, "POST", retraining.token_env)
    if retraining.enabled and retraining.command:
        from scoring.respond.retraining.command import Command

        yield Command("retraining-command", retraining.command)

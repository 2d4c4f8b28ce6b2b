"""Before a run: alerts and retraining events that could never be told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from scoring.errors import ConfigError
from scoring.respond import addresses
from scoring.respond.alerts import quiet, rules
from scoring.settings import Alerts, Respond, Retraining


def refuse(settings: Respond) -> None:
    """Raises: ConfigError: a rule, an address, a variable, a program or a library with which nothing could be told."""
    for setting, why in (*_alerts(settings.alerts), *_retraining(settings.retraining)):
        if why:
            raise ConfigError(f"respond.{setting}: {why}")


def _alerts(alerts: Alerts) -> Iterator[tuple[str, str]]:
    if not alerts.enabled:
        return
    yield "alerts.rules", rules.wrong(alerts)
    if alerts.alertmanager.url is not None:
        yield "alerts.alertmanager.url", addresses.wrong(alerts.alertmanager.url)
    yield "alerts.notify", quiet.wrong(alerts.notify)
    name = alerts.notify.urls_env
    if name is None:
        return
    if "://" in name:
        yield "alerts.notify.urls_env", "this is an address, and addresses of people are secret. Name the variable that holds it."
    if find_spec("apprise") is None:
        yield "alerts.notify", "it needs apprise, which is not installed. Install scoring[notify], or leave urls_env out."
    if not os.environ.get(name, "").strip():
        yield "alerts.notify.urls_env", f"the environment variable {name} is not set. Put apprise's URLs there, or leave it out."


def _retraining(retraining: Retraining) -> Iterator[tuple[str, str]]:
    if not retraining.enabled:
        return
    if retraining.drifted > retraining.of_last:
        said = f"drifted={retraining.drifted} of_last={retraining.of_last}"
        yield "retraining", f"{said} can never be. Say of_last={retraining.drifted} or more."
    if retraining.url is not None:
        yield "retraining.url", addresses.wrong(retraining.url)
    if retraining.command and shutil.which(retraining.command[0]) is None:
        yield "retraining.command", f"there is no program {retraining.command[0]!r}. Name one that can be run."
    if find_spec("cloudevents") is None:
        yield "retraining", "it needs cloudevents, which is not installed. Install it, or say respond.retraining.enabled=false."

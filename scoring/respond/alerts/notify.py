"""The door to apprise: a message to people, by whichever of some hundred services a URL names.

Its URLs hold secrets. They come from one environment variable, in the process that tells, and stand nowhere else: a receiver is
known by its place in it, and what apprise says of a failure is not passed on.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass

from scoring.respond.outbox import Message


@dataclass(frozen=True)
class Notification:
    """One URL of the variable `urls_env`, by its place."""

    name: str
    urls_env: str
    place: int

    def send(self, message: Message, limit_s: float) -> None:
        """Raises: RuntimeError: it is no address, or was not delivered."""
        from apprise import Apprise  # takes a while, and few want it

        told = json.loads(message.body)
        one = Apprise()
        if not one.add(urls(self.urls_env)[self.place]):
            raise RuntimeError(f"address {self.place + 1} is none that apprise knows")
        if not one.notify(told["body"], title=told["title"], notify_type=told["type"], body_format="text", timeout=limit_s):
            raise RuntimeError(f"address {self.place + 1} did not take it")


def urls(urls_env: str) -> list[str]:
    """What the variable holds, separated by blanks or new lines."""
    return re.split(r"\s+", found) if (found := os.environ.get(urls_env, "").strip()) else []


def receivers(urls_env: str) -> tuple[Notification, ...]:
    """One for each URL, so that one that fails costs the others nothing."""
    return tuple(Notification(f"notify-{place + 1}", urls_env, place) for place in range(len(urls(urls_env))))

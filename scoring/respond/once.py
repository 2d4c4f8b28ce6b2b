"""A receiver that is not sent again what it took: for those who cannot tell a second time from the first.

A run whose telling was cut off is told again as a whole, to all. What was taken is noted in `<workspace>/control/taken`; only a
crash between the answer and the note lets a message come twice.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from scoring.errors import StoreError
from scoring.respond.delivery import Receiver
from scoring.respond.outbox import Message
from scoring.stores import Store

FOLDER = "control/taken"
_KEPT = 100  # notes for each receiver: far more than are ever told again


@dataclass(frozen=True)
class Once:
    """`receiver`, with a memory in `store`."""

    receiver: Receiver
    store: Store

    @property
    def name(self) -> str:
        return self.receiver.name

    def send(self, message: Message, limit_s: float) -> None:
        folder = f"{FOLDER}/{self.name}"
        with suppress(StoreError, OSError):
            if self.store.exists(f"{folder}/{message.id}.json"):
                return
        self.receiver.send(message, limit_s)
        with suppress(StoreError, OSError):
            self.store.put(f"{folder}/{message.id}.json", b"{}")
            for old in list(self.store.list(folder))[:-_KEPT]:
                self.store.remove(old)

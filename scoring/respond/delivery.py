"""Bringing messages to receivers: HTTP or a file, in order, until a receiver fails or time is up. What was brought leaves the
outbox.

Each receiver has a thread of its own, so that one that hangs keeps nothing from the others. A redirect is no delivery: it would
turn a POST into a GET, and carry the token to another host.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from scoring.errors import told
from scoring.respond.outbox import Message, Outbox

_SAYING_S = 0.2  # for a receiver's thread to say that it got no answer
_THIS_MESSAGE_ALONE = (400, 409, 413, 415, 422)  # the receiver works, but does not want what it was sent


class Receiver(Protocol):
    """`send` raises whatever goes wrong; it should not take longer than `limit_s`."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message, limit_s: float) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """`state` is delivered; waits: it is in the outbox; lost: neither delivered nor kept, and the next run makes it again; or
    given_up: removed from the outbox. `why` holds no address and no value.
    """

    to: str
    id: str
    state: str
    why: str = ""


@dataclass(frozen=True)
class Http:
    name: str
    url: str
    method: str
    token_env: str

    def send(self, message: Message, limit_s: float) -> None:
        request = urllib.request.Request(
            self.url, message.body.encode(), {"Content-Type": message.content_type}, method=self.method
        )
        if token := os.environ.get(self.token_env):
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=limit_s) as answer:
            answer.read(1)


@dataclass(frozen=True)
class TextFile:
    """Readers see the old content or the new."""

    name: str
    path: str

    def send(self, message: Message, limit_s: float) -> None:
        own = Path(f"{self.path}.{os.getpid()}.tmp")  # node_exporter reads *.prom only
        try:
            own.write_text(message.body)
            own.chmod(0o644)  # the exporter is another user
            own.replace(self.path)
        finally:
            own.unlink(missing_ok=True)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: object, **more: object) -> None:
        return None


def deliver(
    receivers: Sequence[Receiver], fresh: Sequence[Message], outbox: Outbox, until: float, say: Callable[[Outcome], None]
) -> None:
    """Returns at `until` (monotonic seconds) at the latest, whatever the receivers do; `say` is called from several threads."""
    threads = [threading.Thread(target=_bring, args=(one, fresh, outbox, until, say), daemon=True) for one in receivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))


def _bring(receiver: Receiver, fresh: Sequence[Message], outbox: Outbox, until: float, say: Callable[[Outcome], None]) -> None:
    """Everything fresh is kept before anything is sent: whatever ends this process, the next one finds it."""
    mine = {m.id: m for m in fresh if m.to == receiver.name}
    unkept = {m.id: why for m in mine.values() if (why := _kept(m, outbox, say)) is not None}
    try:
        mine = {m.id: m for m in outbox.waiting(receiver.name)} | mine
    except Exception as error:  # the outbox cannot be listed: what was made just now can still be sent
        say(Outcome(receiver.name, "", "waits", f"outbox: {reason(error)}"))
    stopped = ""
    for message in (mine[n] for n in sorted(mine)):
        if (held := _held(message)) and message.id not in unkept:
            say(Outcome(receiver.name, message.id, "waits", held))
            continue
        why, refused = (stopped, False) if stopped else _sent(receiver, message, until)
        if not why:
            say(Outcome(receiver.name, message.id, "delivered"))
            if message.id not in unkept:
                _forgotten(message, outbox)
            continue
        stopped = stopped or ("" if refused else why)
        kept = message.id not in unkept
        say(
            Outcome(receiver.name, message.id, "waits" if kept else "lost", why if kept else f"{why}; outbox: {unkept[message.id]}")
        )


def _kept(message: Message, outbox: Outbox, say: Callable[[Outcome], None]) -> str | None:
    """Why it could not be kept."""
    try:
        outbox.keep(message)
    except Exception as error:
        say(Outcome(message.to, message.id, "lost", f"outbox: {reason(error)}"))
        return reason(error)
    say(Outcome(message.to, message.id, "waits", "not delivered in time"))  # stands if nothing more can be said
    return None


def _held(message: Message) -> str:
    """Why it is not to be sent yet; a time that cannot be read holds nothing."""
    try:
        early = bool(message.after) and datetime.now(UTC) < datetime.fromisoformat(message.after)
    except (ValueError, TypeError):
        return ""
    return f"held until {message.after}" if early else ""


def _sent(receiver: Receiver, message: Message, until: float) -> tuple[str, bool]:
    """Why it was not, and whether that is the message's fault alone; "" if it was."""
    left = until - time.monotonic() - _SAYING_S
    if left <= 0:
        return "no time was left", False
    try:
        receiver.send(message, left)
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}", error.code in _THIS_MESSAGE_ALONE
    except Exception as error:
        return reason(error), False
    return "", False


def _forgotten(message: Message, outbox: Outbox) -> None:
    """Where that fails it is delivered once more, with the same id."""
    try:
        outbox.remove(message)
    except Exception:
        return


def reason(error: BaseException) -> str:
    """In words, without addresses or values: urllib wraps what the system said."""
    inner = error.reason if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException) else error
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return f"{type(inner).__name__}: {told(inner)}"

"""Where logs go and how a line looks: JSON in a file of the run, text or JSON on stderr. The only file that knows structlog.

What is said comes from `scoring/log.py`. Saying it costs a place in a queue; a thread makes the lines and writes them, so that a
slow disk or a full one, or a reader who hung up, is nobody's trouble (law 6). Beyond what the queue holds, lines are dropped and
counted. Lanes with a process of their own write a file of their own, `runs/<run id>/lanes/`: no line passes through Ray.
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import structlog

from scoring import log
from scoring.settings import Logs as Settings
from scoring.stores import LocalStore, Store, open_store

NAME = "log.jsonl"
_ROOM = 20_000  # lines that wait
_TICK_S, _BUCKET_TICK_S = 0.25, 5.0  # between writes
_PART_S = 60.0  # of a part, where nothing can be appended to
_LAST_S = 2.0  # for what waits, when all is over
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_ORDER = ("timestamp", "level", "event", "logger", "run_id", "partition", "slice_id", "attempt", "lane")

Say = Callable[[str], None]  # a line for people; may not raise


class Logs:
    """Listens as long as it is entered. What was said before `begin` goes to the file as well, once that is known."""

    def __init__(self, settings: Settings, say: Say | None = None, colours: bool = False, room: int = _ROOM) -> None:
        """`say` prints lines for people, `room` is how many may wait."""
        self._handlers: list[_Waiting] = []
        self._file: _File | None = None
        if settings.file:
            self._file = _File()
            self._handlers.append(_Waiting(_LEVELS[settings.level], _formatter("json", False), self._file.write, True, room))
        if say is not None and settings.stderr != "none":
            shown = _Waiting(_LEVELS[settings.stderr_level], _formatter(settings.stderr, colours), _lines(say), False, room)
            if settings.stderr == "text":
                shown.addFilter(_not_said_otherwise)
            self._handlers.append(shown)
        self._before = logging.NOTSET

    def __enter__(self) -> Self:
        root = logging.getLogger(log.ROOT)
        self._before = root.level
        if self._handlers:
            root.setLevel(min([root.level or logging.CRITICAL, *(one.level for one in self._handlers)]))
        for one in self._handlers:
            root.addHandler(one)
            one.start(_TICK_S, held=one.held)
        return self

    def begin(self, run_id: str, store: Store, name: str = NAME) -> None:
        """The file's place is known."""
        if self._file is not None:
            self._file.open(store, f"runs/{run_id}/{name}")
            for one in self._handlers:
                one.start(_TICK_S if isinstance(store, LocalStore) else _BUCKET_TICK_S)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        root = logging.getLogger(log.ROOT)
        for one in self._handlers:
            root.removeHandler(one)
            one.close()
        root.setLevel(self._before)


@dataclass(frozen=True)
class Logged:
    """A lane factory: builds by `build`, and where that is not in the driver's process, has the lane's words written to a file."""

    build: Callable[[Any], Any]
    settings: Settings
    workspace: str
    run_id: str
    driver: tuple[str, int]

    @classmethod
    def of(cls, build: Callable[[Any], Any], settings: Settings, workspace: str, run_id: str) -> Logged:
        return cls(build, settings, workspace, run_id, _here())

    def __call__(self, kind: Any) -> Any:
        if _here() != self.driver and self.settings.file:
            with suppress(Exception):
                logs = Logs(self.settings)
                logs.__enter__()  # for as long as the process lives
                name = re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join(map(str, _here())))
                logs.begin(self.run_id, open_store(self.workspace), f"lanes/{name}.jsonl")
        with log.about(run_id=self.run_id):
            return self.build(kind)


def _here() -> tuple[str, int]:
    return platform.node(), os.getpid()


class _Waiting(logging.Handler):
    """Records on their way to `write`, which gets lines as one text. `held`: nothing is written before it is started."""

    def __init__(self, level: int, formatter: logging.Formatter, write: Say, held: bool, room: int) -> None:
        super().__init__(level)
        self.setFormatter(formatter)
        self.held = held
        self._write, self._dropped = write, 0
        self._queue: queue.Queue[logging.LogRecord] = queue.Queue(room)
        self._news, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, tick_s: float, held: bool = False) -> None:
        if self._thread is None and not held:
            self._thread = threading.Thread(target=self._run, args=(tick_s,), name="log", daemon=True)
            self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._queue.put_nowait(record)
            self._news.set()
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        self._closing.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(_LAST_S)
        super().close()

    def _run(self, tick_s: float) -> None:
        """What is said first is written at once, for a lane may be killed; what follows, together."""
        over = False
        while not over:
            self._news.wait()
            self._news.clear()
            over = self._closing.is_set()
            with suppress(Exception):
                if text := self._text():
                    self._write(text)
            self._closing.wait(tick_s)

    def _text(self) -> str:
        lines = []
        if self._dropped:
            lost = logging.LogRecord(f"{log.ROOT}.respond", logging.WARNING, "", 0, "log.dropped", (), None)
            setattr(lost, log.FACTS, {"event": "log.dropped", "lines": self._dropped})
            lines, self._dropped = [self.format(lost)], 0
        with suppress(queue.Empty):
            while True:
                record = self._queue.get_nowait()
                with suppress(Exception):  # a line that cannot be made costs itself only
                    lines.append(self.format(record))
        return "".join(f"{line}\n" for line in lines)


class _File:
    """Appends, on a disk; elsewhere writes parts, `log-<time>.jsonl`. Raises whatever a store raises."""

    def __init__(self) -> None:
        self._store: Store | None = None
        self._key, self._name, self._part, self._due = "", "", "", 0.0

    def open(self, store: Store, key: str) -> None:
        if self._store is None:
            self._key, self._store = key, store

    def write(self, text: str) -> None:
        if isinstance(self._store, LocalStore):
            path = self._store.path(self._key)
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(path, mode, 0o666), "ab", buffering=0) as file:
                file.write(text.encode())
        elif self._store is not None:
            self._to_bucket(self._store, text)

    def _to_bucket(self, store: Store, text: str) -> None:
        """The newest part is written again with what was added to it, until its time is over."""
        now = time.monotonic()
        if now >= self._due:
            self._part, self._due = "", now + _PART_S
            self._name = f"{self._key.removesuffix('.jsonl')}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.jsonl"
        self._part += text
        store.replace(self._name, self._part.encode())


def _not_said_otherwise(record: logging.LogRecord) -> bool:
    """For people: how a run ended is what the command says last."""
    return getattr(record, log.FACTS, {}).get("event") not in ("run.end", "run.failed", "run.told")


def _lines(say: Say) -> Say:
    def write(text: str) -> None:
        say(text.rstrip("\n"))

    return write


def _formatter(form: str, colours: bool) -> logging.Formatter:
    last: Any = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=colours)
    steps = [_event, structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
    return structlog.stdlib.ProcessorFormatter(processors=steps)


def _event(logger: Any, method: str, made: Any) -> dict[str, Any]:
    """A LogRecord as structlog has events; keys in the order in which people look for them."""
    record: logging.LogRecord = made["_record"]
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    facts = getattr(record, log.FACTS, {"event": made["event"]})
    found = {**facts, "timestamp": moment, "level": record.levelname.lower(), "logger": record.name}
    ordered = {name: found[name] for name in _ORDER if name in found}
    return {**ordered, **found, **{name: made[name] for name in ("_record", "_from_structlog")}}

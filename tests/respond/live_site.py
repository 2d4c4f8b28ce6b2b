"""A live page without a server: its application asked as a server would ask it, over a workspace written by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from scoring.respond.ui.access import Access
from scoring.respond.ui.losses import Lost
from scoring.respond.ui.server import application
from scoring.respond.ui.views import Place
from scoring.stores import Store

PAGES = ("", "live", "runs", "partitions", "drift", "quarantine", "ledger")


@dataclass
class Answer:
    code: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str:
        return "; ".join(value for key, value in self.headers if key == name)


@dataclass
class Site:
    app: Any
    headers: dict[str, str] = field(default_factory=lambda: {"host": "127.0.0.1:8750"})

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """`path` as it stands in the request, with its query; `cookie_` and the like: headers."""
        parts = urlsplit(f"http://x{path}")
        given = self.headers | {key.rstrip("_").replace("_", "-"): value for key, value in headers.items()}
        from urllib.parse import unquote

        kept: Any = {"client": ("127.0.0.1", 1), "server": ("x", 80)}
        scope = kept | {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(parts.path), "raw_path": parts.path.encode(), "query_string": parts.query.encode(), "root_path": "",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items()],
        }  # fmt: skip
        found = Answer(0, [])

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.code = message["status"]
                found.headers = [(k.decode(), v.decode("latin-1")) for k, v in message["headers"]]
            else:
                found.body += message.get("body", b"")

        asyncio.run(self.app(scope, receive, send))
        return found


def site(store: Store, **access: Any) -> Site:
    place = Place("w", "/w/0", store, lambda one: Lost(0, {}, {}, ()))
    return Site(application([place], Access(**access)))


def manifest(key: str, version: int = 1, run_id: str = "r1", **more: Any) -> dict[str, Any]:
    counts = {"scored": 8, "quarantined": 2, "suppressed": 0}
    given = {"key": key, "version": version, "run_id": run_id, "fingerprint": "f", "parts": {"model": "m"}, "input_digest": "i"}
    given |= {"model": {"name": "m", "version": "1", "digest": "d"}, "counts": counts, "files": [], "quarantine": [], "checks": []}
    return given | {"created": "2026-01-02T00:00:00+00:00", "override": None} | more


def record(run_id: str = "r1", status: str = "published", partitions: Any = (), **more: Any) -> dict[str, Any]:
    rows = {"in": 10, "scored": 8, "quarantined": 2, "suppressed": 0}
    given = {"run_id": run_id, "status": status, "rows": rows, "partitions": list(partitions), "rates": {"rows_per_second": 1.0}}
    given |= {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00", "reasons": {"admit:x:range": 2}}
    return given | {"model": {"name": "m", "version": "1"}, "message": ""} | more


def part(key: str, status: str = "published", version: int = 1, checks: Any = ()) -> dict[str, Any]:
    rows = {"in": 10, "scored": 8, "quarantined": 2, "suppressed": 0}
    return {"key": key, "status": status, "rows": rows, "version": version, "checks": list(checks)}


def put(store: Store, name: str, value: Any) -> None:
    store.replace(name, value if isinstance(value, bytes) else json.dumps(value).encode())

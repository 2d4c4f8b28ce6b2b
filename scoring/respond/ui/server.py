"""Pages over HTTP: addresses to views, errors to pages, one process until it is told to end. The only file that knows a framework
and its server; in front of it stands `access`.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from scoring.errors import ScoringError, bug
from scoring.respond.manual import clean
from scoring.respond.ui import pages, views
from scoring.respond.ui.access import Access, Door
from scoring.respond.ui.views import MissingPageError, Place, Shown

_MOST_AT_ONCE, _END_S, _LONGEST_HEAD = 64, 2, 16 << 10
# The report is a file of the workspace: whatever stands in it may style itself, and do nothing else.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)
View = Callable[[Place, Request], Shown]
_VIEWS: dict[str, tuple[str, View]] = {
    "": ("overview.html", lambda place, request: views.overview(place)),
    "live": ("live.html", lambda place, request: views.live(place, request.query_params.get("run", ""))),
    "runs": ("runs.html", lambda place, request: views.runs_page(place, _page(request))),
    "runs/{run}": ("run.html", lambda place, request: views.run_page(place, request.path_params["run"], _page(request))),
    "partitions": ("partitions.html", lambda p, r: views.partitions_page(p, r.query_params.get("until", ""), _page(r))),
    "partition": ("partition.html", lambda place, request: views.partition_page(place, request.query_params.get("key", ""))),
    "drift": ("drift.html", lambda place, request: views.drift_page(place, _page(request))),
    "quarantine": ("quarantine.html", lambda place, request: views.quarantine_page(place)),
    "ledger": ("ledger.html", lambda place, request: views.ledger_page(place, _page(request))),
}
_FILES = {"style.css": "text/css", "ui.css": "text/css", "ui.js": "text/javascript", "icon.svg": "image/svg+xml"}


def application(places: Sequence[Place], access: Access) -> Door:
    """An ASGI application."""
    site = _Site(places)
    routes = [Route("/", site.start)]
    routes += [Route(f"/w/{{place:int}}/{path}", site.shows(page, view)) for path, (page, view) in _VIEWS.items()]
    routes += [Route("/w/{place:int}/runs/{run}/report.html", site.report)]
    routes += [Route(f"/{name}", _file(name, kind)) for name, kind in _FILES.items()]
    handlers: Any = {HTTPException: site.refused, Exception: site.broken}
    return Door(Starlette(routes=routes, exception_handlers=handlers), access, _form)


class _Site:
    """Endpoints run in threads: views read files."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def start(self, request: Request) -> Response:
        if len(self._places) == 1:
            return RedirectResponse(self._places[0].base + "/", 307)
        found = []
        for place in self._places:
            try:
                newest, why = place.newest(views.utc()), ""
            except (ScoringError, OSError) as error:
                newest, why = [], _line(error)
            found.append((place, newest[0] if newest else None, why))
        facts = {"places": self._places, "place": None, "found": found, "now": views.utc()}
        return HTMLResponse(pages.render("places.html", facts))

    def shows(self, page: str, view: View) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            place = self._place(request)
            try:
                facts = view(place, request)
            except MissingPageError as error:
                return self._said(str(error), 404, place)
            except (ScoringError, OSError) as error:
                return self._said(f"The workspace cannot be read now: {_line(error)}", 503, place)
            return HTMLResponse(pages.render(page, {"places": self._places, "place": place, **facts}))

        return endpoint

    def report(self, request: Request) -> Response:
        place = self._place(request)
        try:
            found = views.report(place, request.path_params["run"])
        except MissingPageError as error:
            return self._said(str(error), 404, place)
        except (ScoringError, OSError) as error:
            return self._said(f"The report cannot be read now: {_line(error)}", 503, place)
        return Response(found, media_type="text/html", headers={"content-security-policy": _REPORT_POLICY})

    def refused(self, request: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        return self._said("There is no such page." if code == 404 else "This cannot be answered.", code, None)

    def broken(self, request: Request, error: Exception) -> Response:
        return self._said(f"This page has a fault: {clean(bug(error))}. The workspace is as it was.", 500, None)

    def _place(self, request: Request) -> Place:
        number = int(request.path_params["place"])
        if number >= len(self._places):
            raise HTTPException(404)
        return self._places[number]

    def _said(self, why: str, code: int, place: Place | None) -> Response:
        facts = {"places": self._places, "place": place, "why": why, "now": views.utc()}
        return HTMLResponse(pages.render("said.html", facts), code)


def serve(app: Door, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Answer until SIGTERM or SIGINT, then finish what is in hand, for two seconds at most. `ready` is called once before."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,  # addresses may hold a token
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_AT_ONCE,
        timeout_graceful_shutdown=_END_S,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
    )
    server = _Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.end)
    ready()
    asyncio.run(server.serve(sockets=[listening]))


class _Server(uvicorn.Server):
    """uvicorn raises a signal again when it has ended; here it is the ordinary way to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        content = pages.style() if name == "style.css" else pages.static(name)
        return Response(content, media_type=kind)

    return endpoint


def _form(to: str, wrong: bool) -> str:
    return pages.render("login.html", {"to": to, "wrong": wrong})


def _page(request: Request) -> int:
    """Raises: MissingPageError: no number of a page."""
    said = request.query_params.get("page", "1")
    if not (said.isascii() and said.isdecimal() and 1 <= len(said) <= 6 and int(said)):
        raise MissingPageError("There is no such page.")
    return int(said)


def _line(error: BaseException) -> str:
    return clean(" ".join(str(error).split()))

"""Who may look: the name a browser asked for, the token, GET and HEAD only; and what every answer says to browsers.

A page on another host cannot read from here by pointing its name at this machine (DNS rebinding): addresses, "localhost" and the
names of this machine are answered, nothing else. The token opens a session in a cookie; it stands in no address and no log.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from scoring.respond.manual import clean

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
LOGIN = "/login"
OPEN = frozenset({"/style.css", "/ui.css", "/icon.svg"})  # what the form needs
_TO = re.compile(r"/w/[^\\\s]*|/")
_MOST_BYTES = 4096  # of a form
_DELAY_S = 0.5  # after a wrong token


@dataclass(frozen=True)
class Access:
    """`names` are hosts that are answered beside addresses and "localhost". No `token`: everybody on this machine may look."""

    names: Collection[str] = ()
    token: str | None = None
    cookie: str = "scoring_ui"
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def knows(self, host: str) -> bool:
        """Of a Host header."""
        name = re.sub(r":\d*$", "", host).strip("[]").rstrip(".").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or name in self.names
        return True

    def admits(self, request: Request) -> bool:
        return self.token is None or _same(request.cookies.get(self.cookie, ""), self.session)

    def opens(self, given: str) -> bool:
        return self.token is not None and _same(given, self.token)


class Door:
    """In front of everything. `form(to, wrong)` is the page that asks for the token."""

    def __init__(self, app: App, access: Access, form: Callable[[str, bool], str]) -> None:
        self._app, self._access, self._form = app, access, form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def dressed(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {key.lower() for key, _ in message["headers"]}
                more = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        request = Request(scope, receive)
        answer = await self._answer(request)
        await (answer or self._app)(scope, receive, dressed)

    async def _answer(self, request: Request) -> Response | None:
        """What is said here; None: go in."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._access.knows(hosts[0]):
            asked = clean(", ".join(hosts), 100)
            said = f"This server is not known as {asked!r}. Say name=… to scoring ui if it should be.\n"
            return PlainTextResponse(said, 421)
        logs_in = request.url.path == LOGIN and self._access.token is not None
        if request.method == "POST" and logs_in:
            return await self._log_in(request)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Nothing can be changed here: GET and HEAD only.\n", 405, {"allow": "GET, HEAD"})
        if self._access.token is not None and "token" in request.query_params:
            return await self._opened(request.query_params["token"], _without_token(request), request)
        if self._access.admits(request) or request.url.path in OPEN:
            return None
        to = "/" if logs_in else request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return HTMLResponse(self._form(to, False), 401)

    async def _log_in(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _MOST_BYTES:
                return PlainTextResponse("Too much.\n", 413)
        form = parse_qs(body.decode("utf-8", "replace"))
        return await self._opened(form.get("token", [""])[0], form.get("to", ["/"])[0], request)

    async def _opened(self, token: str, to: str, request: Request) -> Response:
        if not self._access.opens(token):
            await asyncio.sleep(_DELAY_S)
            return HTMLResponse(self._form(to, True), 403)
        answer = RedirectResponse(to if _TO.fullmatch(to) else "/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(self._access.cookie, self._access.session, httponly=True, samesite="strict", secure=secure)
        return answer


def _without_token(request: Request) -> str:
    rest = [(key, value) for key, value in parse_qsl(request.url.query) if key != "token"]
    return request.url.path + (f"?{urlencode(rest)}" if rest else "")


def _same(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(), wanted.encode())

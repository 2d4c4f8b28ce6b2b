"""The live page of workspaces, served until it is ended. Bound to this machine unless `host` is given, and then behind a token."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from scoring.errors import AddressError, ConfigError
from scoring.jobs.arguments import Given
from scoring.jobs.quarantine import counted
from scoring.jobs.workspace import existing
from scoring.respond.report.facts import Example
from scoring.sinks.manifest import PublicFile, read
from scoring.stores import Store

if TYPE_CHECKING:
    from scoring.respond.ui.access import Access
    from scoring.respond.ui.losses import Look
    from scoring.respond.ui.partitions import Published
    from scoring.respond.ui.views import Place

HERE, PORT, TOKEN_ENV = "127.0.0.1", 8750, "SCORING_UI_TOKEN"
_LEAST_TOKEN = 16  # characters
_MOST_ROWS = 500_000  # of a quarantine that are counted for one page
_HIGHEST_PORT = 65_535


@dataclass(frozen=True)
class Served:
    """Where the page is; `token_env` names the variable that holds the token, "" where none is asked for."""

    address: str
    workspaces: tuple[str, ...]
    token_env: str


def serve(given: Given, tell: Callable[[Served], None]) -> int:
    """Serve until SIGTERM or SIGINT; `tell` is called when requests are taken.

    Raises:
        UsageError: no workspace. ConfigError: there is no such workspace, no token, or the extra `ui` is not installed.
        AddressError: the address cannot be had.
    """
    given.needed("workspace")
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise ConfigError(f"scoring ui needs {' and '.join(missing)}. Install the extra: pip install 'scoring[ui]'.")
    from scoring.respond.ui import server

    host, port = given.get("host") or HERE, given.number("port", PORT)
    token_env = given.get("token_env") or TOKEN_ENV
    token = _token(host, token_env)
    places = [_place(n, workspace) for n, workspace in enumerate(given.all("workspace"))]
    with _listen(host, port) as listening:
        port = int(listening.getsockname()[1])
        app = server.application(places, _access(host, given.get("name"), port, token))
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        served = Served(address, tuple(place.store.root for place in places), token_env if token else "")
        server.serve(app, listening, lambda: tell(served))
    return 0


def _token(host: str, token_env: str) -> str | None:
    """Raises: ConfigError: one is needed and missing, or it can be guessed."""
    token = os.environ.get(token_env, "")
    if not token and not _loopback(host):
        raise ConfigError(
            f"host={host} can be reached from other machines: put a token into the environment variable {token_env} "
            f"({_LEAST_TOKEN} characters or more), or leave host out and come by ssh -L {PORT}:{HERE}:{PORT}."
        )
    if token and len(token) < _LEAST_TOKEN:
        raise ConfigError(f"{token_env} has {len(token)} characters; a token needs {_LEAST_TOKEN} or more.")
    return token or None


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdecimal())


def _access(host: str, name: str | None, port: int, token: str | None) -> Access:
    from scoring.respond.ui.access import Access

    names = {host.lower(), name.lower()} if name else {host.lower()}
    if not _loopback(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return Access(names, token, f"scoring_ui_{port}")  # cookies of one host are shared by its ports


def _listen(host: str, port: int) -> socket.socket:
    """Raises: ConfigError: no port. AddressError: taken, not ours, or not to be found."""
    if port > _HIGHEST_PORT:
        raise ConfigError(f"port={port} is no port. Say one from 1 to {_HIGHEST_PORT}, or 0 for any.")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror or str(error)
        raise AddressError(f"{host}:{port} cannot be served at: {why}. Say another with port=…, port=0 for any.") from None


def _place(number: int, workspace: str) -> Place:
    from scoring.respond.ui.views import Place

    store = existing(workspace)
    return Place(store.root.rstrip("/").rsplit("/", 1)[-1] or store.root, f"/w/{number}", store, _look(store))


def _look(store: Store) -> Look:
    """The quarantine of one published version, values masked as `scoring quarantine` masks them."""
    from scoring.respond.ui.losses import EXAMPLES, Lost

    def look(one: Published) -> Lost:
        manifest = read(store, f"scores/_manifests/{one.key}/v{one.version:05d}.json")
        files = _some(manifest.quarantine)
        found = counted(store, [replace(manifest, quarantine=files)], EXAMPLES)
        examples = tuple(Example(s.rule, s.file, s.row, s.value) for s in found.samples)
        return Lost(found.rows, found.reasons, found.files, examples, len(files) < len(manifest.quarantine))

    return look


def _some(files: tuple[PublicFile, ...]) -> tuple[PublicFile, ...]:
    """As many as a page has time for, one at least."""
    rows = 0
    for n, file in enumerate(files):
        rows += file.rows
        if rows > _MOST_ROWS and n:
            return files[:n]
    return files


def render(found: Served) -> str:
    said = [f"{', '.join(found.workspaces)}", f"Open {found.address}"]
    if found.token_env:
        said.append(f"It asks for the token in {found.token_env}.")
    here = found.address.startswith(("http://127.", "http://localhost", "http://[::1]"))
    if not here:
        said.append("Nothing is encrypted on the way: put it behind a proxy with TLS, or come by ssh -L.")
    return "\n".join([*said, "Ctrl-C ends it."])

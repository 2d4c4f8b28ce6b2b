"""Addresses that stand in the configuration, which is kept with the run: nothing secret may be in them."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from scoring.redact import is_secret


def wrong(address: str) -> str:
    """What is the matter with it; "" if nothing is."""
    try:
        parts = urlsplit(address)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return "this is no address. Say http://host:port/path."
    if not whole:
        return "this is no address. Say http://host:port/path."
    if parts.username is not None or parts.password is not None or any(is_secret(key) for key in parse_qs(parts.query)):
        return "an address may hold no secret. Put the token in the environment: token_env names its variable."
    return ""

"""A configuration without its secrets: what is kept with a run may be read by whoever may read the scores."""

from __future__ import annotations

import re
from typing import Any

import yaml

HIDDEN = "***"
_WORDS = {"password", "passwd", "pwd", "secret", "secrets", "token", "tokens", "key", "keys", "apikey", "credential", "credentials"}
_NOT_SECRET = ("key_env", "token_env", "key_id")  # settings that name a variable of the environment, or a key
_NAMES = ("columns", "rules", "limits")  # of a contract: what is below has names of its own, not of settings
_ANYWHERE = ("password", "secret", "apikey")
_PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")
_REFERENCE = re.compile(r"\$\{[^}]*\}")  # resolved at run time, from the environment: says where, not what


def redact(config: str) -> str:
    """The same YAML (comments and order of keys aside) with secret values and user names in URLs replaced by "***"."""
    try:
        found = yaml.safe_load(config)
    except yaml.YAMLError:
        return f"# could not be parsed, so that nothing of it is shown: {len(config)} characters\n"
    return yaml.safe_dump(_clean(found), sort_keys=False)


def is_secret(name: str) -> bool:
    """Whether a key of this name holds a secret: "api_key", "accessToken", "DB-PASSWORD"; not "tokenizer", not "monkey"."""
    if name in _NOT_SECRET:
        return False
    words = {part.lower() for part in _PARTS.findall(name)}
    return bool(words & _WORDS) or any(part in name.lower().replace("_", "") for part in _ANYWHERE)


def _named(key: str, value: Any, secret: bool) -> Any:
    """The value of a key. A column that is called "card_token" is no secret: without its rules a run could not be repeated."""
    if key in _NAMES and isinstance(value, dict) and not secret:
        return {name: _clean(inner) for name, inner in value.items()}
    return _clean(value, secret or is_secret(key))


def _clean(value: Any, secret: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _named(str(key), inner, secret) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, secret) for inner in value]
    if secret and value is not None:
        return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else HIDDEN
    return _USERINFO.sub(HIDDEN + "@", value) if isinstance(value, str) else value

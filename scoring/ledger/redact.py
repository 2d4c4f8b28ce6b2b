"""Configurations, command lines and texts without secrets: what is kept with a run may be read by whoever may read the scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

HIDDEN = "***"
_WORDS = {"password", "passwd", "pwd", "secret", "secrets", "token", "tokens", "key", "keys", "apikey", "credential", "credentials"}
_ANYWHERE = ("password", "secret", "apikey")
_PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_USERINFO = re.compile(r"(?<=://)[^/\s@]+@")
_LEAST_SECRET = 6  # characters: shorter values would turn up in any text
_FOLDERS = ("PWD", "OLDPWD")  # of every shell, and no passwords
_REFERENCE = re.compile(r"\$\{[^}]*\}")  # resolved at run time, from the environment: says where, not what


def redact(config: str) -> str:
    """The same YAML (comments and order of keys aside) with secret values and user names in URLs replaced by "***"."""
    try:
        found = yaml.safe_load(config)
    except yaml.YAMLError:
        return f"# could not be parsed, so that nothing of it is shown: {len(config)} characters\n"
    return yaml.safe_dump(_clean(found), sort_keys=False)


def scrubbed(text: str, environment: Mapping[str, str]) -> str:
    """Without the values of variables whose names say that they are secret."""
    named = {name: value for name, value in environment.items() if name not in _FOLDERS and is_secret(name)}
    secrets = {value for value in named.values() if len(value) >= _LEAST_SECRET}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return text


def redacted(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """A command line without what is secret by its name, user names in URLs, and values of secret variables."""
    return [scrubbed(_redacted(word), environment) for word in words]


def _redacted(word: str) -> str:
    name, equals, value = word.partition("=")
    hidden = equals and value and is_secret(name) and not name.endswith("_env")
    return f"{name}={HIDDEN}" if hidden else _USERINFO.sub(HIDDEN + "@", word)


def is_secret(name: str) -> bool:
    """Whether a key of this name holds a secret: "api_key", "accessToken", "DB-PASSWORD"; not "tokenizer", not "monkey"."""
    words = {part.lower() for part in _PARTS.findall(name)}
    return bool(words & _WORDS) or any(part in name.lower().replace("_", "") for part in _ANYWHERE)


def _clean(value: Any, secret: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _clean(inner, secret or is_secret(str(key))) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, secret) for inner in value]
    if secret and value is not None:
        return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else HIDDEN
    return _USERINFO.sub(HIDDEN + "@", value) if isinstance(value, str) else value

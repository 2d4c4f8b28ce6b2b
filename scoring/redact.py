"""Texts and configurations without secrets: what is kept, said or logged may be read by whoever may read the scores.

Three ways to know a secret: by the name of its key ("api_key: …", "password=…"), by its place in an address (user, signature), and
by its value, where an environment variable holds it whose name says so or which the configuration names as the one with a secret.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import yaml

HIDDEN = "***"
_LEAST = 6  # characters: shorter values would turn up in any text
_WORDS = {"password", "passwd", "pwd", "secret", "secrets", "token", "tokens", "key", "keys", "apikey", "credential", "credentials"}
_NOT_SECRET = ("key_env", "token_env", "urls_env", "key_id")  # settings that name a variable of the environment, or a key
_NAMES = ("columns", "rules", "limits")  # of a contract: what is below has names of its own, not of settings
_ANYWHERE = ("password", "secret", "apikey")
_PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_REFERENCE = re.compile(r"\$\{[^}]*\}")  # resolved at run time, from the environment: says where, not what
_SIGNED = re.compile(r"(?i)([?&;][\w.%-]*(?:sig|signature|token|secret|password|credential|key)[\w.%-]*=)[^&;\s'\"#\\]+")
_LIKELY = re.compile(r"(?i)pass|pwd|secret|token|key|cred|sig")  # before what costs more
_BEARER = re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{8,}")
_ASSIGNED = re.compile(
    r"(?i)([\w.-]*(?:password|passwd|pwd|secret|token|(?:api|access|secret)[_-]?key|credentials?))=[^\s,;&'\"\\]+"
)
_FOLDERS = ("PWD", "OLDPWD")  # of every shell, and no passwords
_POINTS = re.compile(r"(?i)[_-](env|path|file)$")  # TOKEN_FILE says where a secret is, not what
_PLAIN = re.compile(r"(?!.*\d{5})[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")

_named: set[str] = set()  # variables that hold secrets whatever they are called
_known: tuple[tuple[int, int, int] | None, tuple[str, ...]] = (None, ())  # when the secrets were looked up, and what they are


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


def scrub(text: str, more: Mapping[str, str] = MappingProxyType({})) -> str:
    """A text for people or logs without secrets: values of secret variables of the environment, users and signatures in addresses,
    what stands behind "Bearer" and behind a secret name and "=". `more` are variables beside those of the environment.
    """
    for value in (*_values(), *sorted(_secrets(more), key=len, reverse=True)):
        if value in text:
            text = text.replace(value, HIDDEN)
    if "=" in text and _LIKELY.search(text):
        text = _ASSIGNED.sub(rf"\1={HIDDEN}", _SIGNED.sub(rf"\1{HIDDEN}", text))
    if "://" in text:
        text = _USERINFO.sub(HIDDEN + "@", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", text) if " " in text else text


def scrubbed(value: Any, more: Mapping[str, str] = MappingProxyType({})) -> Any:
    """A plain value with all its texts scrubbed; keys of mappings stay."""
    if isinstance(value, dict):
        return {key: scrubbed(inner, more) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(scrubbed(inner, more) for inner in value)
    return scrub(value, more) if isinstance(value, str) else value


def redacted(words: Sequence[str], more: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """The words of a command line, scrubbed, and without the values of keys whose names say that they are secret."""
    parts = [(word, *word.partition("=")[::2]) for word in words]
    return [f"{name}={HIDDEN}" if value and _hides(name, value) else scrub(word, more) for word, name, value in parts]


def _hides(name: str, value: str) -> bool:
    """Whether a secret stands behind this name; also one given in place of the name of its variable."""
    return not _VARIABLE.fullmatch(value) if name.endswith("_env") else _secret(name)


def holds_secret(variable: str) -> None:
    """This variable of the environment holds a secret, whatever it is called: its value is scrubbed from now on."""
    _named.add(variable)


def are_plain(names: Iterable[str]) -> bool:
    """Whether names of columns that a file was found to have may be said. The header line of a file without one is a row of data,
    and keys of JSON may be anybody's: where one of them is no plain name, none is said.
    """
    return all(_PLAIN.fullmatch(name) for name in names)


def variable(name: str) -> str:
    """The name of a variable, to be said. Where a secret stands in place of the name, it is not."""
    return name if _VARIABLE.fullmatch(name) else "that is named there"


def _values() -> tuple[str, ...]:
    """Longest first: one secret may begin another. Looked up once a second, or when there are more variables: it costs 60 us."""
    global _known
    made_of = (int(time.monotonic()), len(os.environ), len(_named))
    if _known[0] != made_of:
        found = _secrets(os.environ)
        spelled = {way for value in found for way in (value, quote(value, safe=""), repr(value)[1:-1], *_keys(value))}
        _known = made_of, tuple(sorted(spelled, key=len, reverse=True))
    return _known[1]


def _secrets(variables: Mapping[str, str]) -> set[str]:
    return {value for name, value in variables.items() if len(value) >= _LEAST and (_secret(name) or name in _named)}


def _keys(ring: str) -> Iterator[str]:
    """Of a ring of keys, id:key,id:key, each: it may be shown alone."""
    for one in ring.split(",") if "," in ring else ():
        if len(key := one.rpartition(":")[2].strip()) >= _LEAST:
            yield key


def veiled(value: str) -> str:
    """A stand-in for a value that too few rows share to be named: the same for the same value, in every slice."""
    return f"#{hashlib.sha256(value.encode()).hexdigest()[:16]}"


@lru_cache(maxsize=1024)
def _secret(name: str) -> bool:
    return is_secret(name) and name not in _FOLDERS and not _POINTS.search(name)


def _named_value(key: str, value: Any, secret: bool) -> Any:
    """The value of a key. A column that is called "card_token" is no secret: without its rules a run could not be repeated."""
    if key in _NAMES and isinstance(value, dict) and not secret:
        return {name: _clean(inner) for name, inner in value.items()}
    return _clean(value, secret or is_secret(key))


def _clean(value: Any, secret: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _named_value(str(key), inner, secret) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner, secret) for inner in value]
    if secret and value is not None:
        return value if isinstance(value, str) and _REFERENCE.fullmatch(value) else HIDDEN
    return scrub(value) if isinstance(value, str) else value

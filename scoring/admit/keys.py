"""The keys of pseudonyms: from the environment of the process that needs them, never from a file, never through a pickle.

One variable holds the key in use and, behind commas, older ones with their ids ("key,k0:oldkey"). Each process of a run reads its
own environment: lanes of a private Ray inherit the driver's, nodes of somebody else's cluster must have the variable set.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import NoReturn

from scoring.errors import ConfigError
from scoring.redact import holds_secret, variable
from scoring.settings import Privacy

LEAST_BYTES = 32  # as long as the digest: RFC 2104, section 3
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_HEX = re.compile(r"([0-9A-Fa-f]{2})+")


class KeyRing:
    """Keys by id; `current` makes new pseudonyms. Neither shown nor pickled."""

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        self._keys, self.current = dict(keys), current

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def key(self, key_id: str) -> bytes:
        return self._keys[key_id]

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Keys are not pickled: each process reads its own environment.")


def key_ring(privacy: Privacy, environment: Mapping[str, str] = os.environ) -> KeyRing:
    """The keys that `contract.privacy` names.

    Raises:
        ConfigError: no such variable, or a key that is no hex or base64, or too short. There is no key to fall back to.
    """
    name, current = variable(privacy.key_env), privacy.key_id
    holds_secret(privacy.key_env)
    if not _ID.fullmatch(current):
        raise ConfigError(f"contract.privacy.key_id: {current!r} is no id. Use up to 32 letters, digits, '_', '.', '-'.")
    text = environment.get(privacy.key_env, "").strip()
    if not text:
        raise ConfigError(
            f"The environment variable {name} is not set; contract.privacy needs a key in it: {LEAST_BYTES} random bytes or more, "
            "as hex or base64, on every machine that scores (openssl rand -hex 32)."
        )
    first, *older = text.split(",")
    keys: dict[str, bytes] = {}
    for n, said in enumerate((first, *older)):
        key_id, colon, key = said.strip().rpartition(":")
        key_id = key_id if colon else current if n == 0 else ""
        if not _ID.fullmatch(key_id) or key_id in keys:
            raise ConfigError(f"{name}: key number {n + 1} needs an id of its own in front of it: id:key.")
        keys[key_id] = _decoded(key, f"{name}, key {key_id}")
    if current not in keys:
        raise ConfigError(f"{name} holds keys {', '.join(keys)}, and contract.privacy.key_id is {current}.")
    return KeyRing(keys, current)


def _decoded(text: str, where: str) -> bytes:
    """Never shows what it was given."""
    try:
        plain = text.strip()
        key = bytes.fromhex(plain) if _HEX.fullmatch(plain) else base64.b64decode(plain.translate({45: 43, 95: 47}), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{where}: neither hex nor base64.") from None
    if len(key) < LEAST_BYTES:
        raise ConfigError(f"{where}: {len(key)} bytes, at least {LEAST_BYTES} are needed (openssl rand -hex 32).")
    return key

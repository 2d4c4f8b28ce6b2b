"""May a partition that is published already be scored again? Same identity and input: no need. Otherwise only if asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scoring.errors import ChangedError

_WORDS = {
    "model": "the model",
    "contract": "the contract",
    "precision": "model.precision",
    "source": "how the source is read",
    "format": "the output format",
    "code": "the code of the model's module",
}


@dataclass(frozen=True)
class Decision:
    """To score a partition in place of the version `replaces`, 0 where it has none. `why` names what has changed."""

    replaces: int = 0
    why: tuple[str, ...] = ()


def named(published: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """What differs between two identities, in words."""
    return [_WORDS.get(name, name) for name in sorted({*published, *wanted}) if published.get(name) != wanted.get(name)]


def decide(
    key: str,
    published: Mapping[str, str] | None,
    published_input: str,
    wanted: Mapping[str, str],
    wanted_input: str,
    on_change: str,
) -> Literal["score", "skip"]:
    """`published` and `wanted` are the named parts of an identity (name -> digest); None: the partition is new.

    Raises:
        ChangedError: something changed and `on_change` is "refuse"; the message names what.
    """
    if published is None:
        return "score"
    changed = named(published, wanted)
    if published_input != wanted_input:
        changed.append("the input files")
    if not changed:
        return "skip"
    if on_change == "rescore":
        return "score"
    raise ChangedError(
        f"{key} is published already and {' and '.join(changed)} changed since. "
        "Nothing was scored. Add release.on_change=rescore to replace it, or use another workspace."
    )

"""From a plain dict to a settings class, or one line on what is wrong: unknown keys, types, bounds of numbers, empty texts.

pydantic is imported here alone, in `build`, which only the driver calls: lanes and bare GPU machines need none.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from scoring.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Within:
    """Limits of a number, both inclusive unless `above` says that the lower one is not."""

    least: float
    most: float = float("inf")
    above: bool = False

    def refusal(self, found: float) -> str | None:
        """What a number should be, if this one is not (NaN never is)."""
        if self.least <= found <= self.most and not (self.above and found == self.least):
            return None
        if self.most < float("inf"):
            return f"between {self.least:g} and {self.most:g}"
        return f"{'above' if self.above else 'at least'} {self.least:g}"


AtLeastOne = Annotated[int, Within(1)]
AtLeastNone = Annotated[int, Within(0)]
Share = Annotated[float, Within(0, 1)]
NotNegative = Annotated[float, Within(0)]
Positive = Annotated[float, Within(0, above=True)]


_NEVER_EMPTY = (
    *("workspace", "path", "kind", "bundle", "address", "key_env", "key_id", "subject", "suppress", "purpose"),
    *("url", "token_env", "namespace", "parent", "textfile", "pushgateway"),
    *("urls_env", "quiet", "timezone", "metric"),
    *("success_file", "watermark"),
)


def build(cls: type[T], data: dict[str, Any], where: str = "") -> T:
    """Check a plain dict against a settings class.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, a wrong type, a number out of bounds or an empty
        text where something has to be said, named by its full path.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    _refuse_unknown(cls, data, where)
    try:
        built = TypeAdapter(with_config(ConfigDict(extra="forbid"))(cls)).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(p) for p in (*([where] if where else ()), *first["loc"]))
        found = "" if first["type"] == "missing" else f" Found: {first['input']!r}."
        raise ConfigError(f"{path}: {first['msg'].rstrip('.').replace('valid tuple', 'list: [a,b]')}.{found}") from None
    for refusal in _refusals(built, where):
        raise ConfigError(refusal)
    return built


def _refusals(built: Any, where: str) -> Iterator[str]:
    """What no type can say: bounds, and texts that must not be empty (an empty path would mean the current folder)."""
    hints = get_type_hints(type(built), include_extras=True)
    for one in fields(built):
        value, path = getattr(built, one.name), f"{where}.{one.name}" if where else one.name
        if is_dataclass(value):
            yield from _refusals(value, path)
        elif isinstance(value, (tuple, dict)):
            for n, inner in value.items() if isinstance(value, dict) else enumerate(value):
                yield from _refusals(inner, f"{path}.{n}") if is_dataclass(inner) else ()
        elif value == "" and one.name in _NEVER_EMPTY:
            yield f"{path} is empty. Say {path}=… (a variable of the shell that is not set leaves nothing behind the =)."
        elif value is not None:
            yield from (f"{path} must be {said}, not {value!r}." for w in _bounds(hints[one.name]) if (said := w.refusal(value)))


def _bounds(hint: Any) -> list[Within]:
    said = [m for part in (hint, *get_args(hint)) for m in getattr(part, "__metadata__", ())]
    return [m for m in dict.fromkeys(said) if isinstance(m, Within)]


def _refuse_unknown(cls: type, data: dict[str, Any], where: str) -> None:
    hints = get_type_hints(cls)
    known = {f.name: hints[f.name] for f in fields(cls)}
    for key, value in data.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
            raise ConfigError(f"{path} is not a setting.{hint}")
        if is_dataclass(known[key]) and isinstance(value, dict):
            _refuse_unknown(known[key], value, path)
        elif isinstance(value, dict) and is_dataclass(each := (get_args(known[key]) or (None,))[-1]):
            for name, inner in value.items():
                _refuse_unknown(each, inner, f"{path}.{name}") if isinstance(inner, dict) else None  # type: ignore[arg-type]

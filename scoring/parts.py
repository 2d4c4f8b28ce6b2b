"""Find a part by the name a config gives it: room "sources", name "parquet" -> scoring/sources/parquet.py.

A name with a dot is a module of the user's own. No registry, no decorators: the file is the registration.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from scoring.errors import ConfigError


def part(room: str, name: str) -> ModuleType:
    """Import the module that `name` stands for in `room`.

    Raises:
        ConfigError: there is no such module; the message lists the names there are.
    """
    path = name if "." in name else f"scoring.{room}.{name}"
    try:
        found = find_spec(path)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigError(f"No part {name!r} in {room!r}: there is no module {path}. Known: {', '.join(names(room))}.")
    return import_module(path)


def names(room: str) -> list[str]:
    """The parts of a room that can be chosen by a short name, sorted."""
    folder = import_module(f"scoring.{room}").__path__
    return sorted({p.stem for entry in folder for p in Path(entry).glob("*.py") if p.stem != "__init__"})

"""What the command line says of itself: groups and settings, read from the configuration files and their comments.

And how it says it: commands that can be pasted, names of files that cannot steer a terminal.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from scoring.respond.verbs import VERBS, form

GROUPS = ("source", "model", "hardware", "engine", "contract", "watch", "sink", "release", "respond", "job")


def usage() -> str:
    """All verbs."""
    wide = max(map(len, VERBS))
    verbs = "\n".join(f"  scoring {verb:{wide}} {one.said}" for verb, one in VERBS.items())
    return f"Commands:\n{verbs}\nEach takes --help, and --json where it reports."


def manual(verb: str) -> str:
    """One verb: for jobs, with all groups and settings."""
    if not VERBS[verb].job:
        return f"scoring {verb}: {VERBS[verb].said}\n  scoring {form(verb)}"
    lines = [f"scoring {verb}: {VERBS[verb].said}"]
    lines += ["", f"Words of its own: {' '.join(f'{word}=…' for word in VERBS[verb].words)}"] if VERBS[verb].words else []
    lines += ["", "Groups, chosen as group=name:"]
    lines += [f"  {group:10} {', '.join(choices(group))}" for group in GROUPS]
    lines += ["", "Settings, overridden as key=value:"]
    for group in ("", *GROUPS[:-1]):
        lines += _documented(_root() / group / f"{_shown(group)}.yaml" if group else _root() / "run.yaml", group)
    own = "".join(f"--{switch}, " for switch in VERBS[verb].switches)
    more = "--cfg job (show the settings), --multirun, --config-dir=… (groups of your own)."
    return "\n".join([*lines, "", f"Options: {own}--json, --verbose, {more}"])


def choices(group: str) -> list[str]:
    """The names that a group can have."""
    return sorted(path.stem for path in (_root() / group).glob("*.yaml"))


def _shown(group: str) -> str:
    """The one that is taken where nothing is said, or else the first."""
    taken = re.search(rf"^  - {group}: (\w+)$", (_root() / "run.yaml").read_text(), re.MULTILINE)
    return taken[1] if taken else choices(group)[0]


def _root() -> Path:
    return Path(import_module("scoring.conf").__path__[0])


def _documented(file: Path, group: str) -> list[str]:
    """Keys of a YAML file with the comment that explains them; nested keys with their path."""
    lines, above = [], [group] if group else []
    for line in file.read_text().splitlines():
        if not (found := re.match(r"( *)(\w+): *([^#]*?) *(?:# *(.*))?$", line)) or found[2] in ("hydra", "defaults"):
            continue
        depth = len(found[1]) // 2
        if not group and depth:
            continue
        above = [*above[: depth + bool(group)], found[2]]
        if found[3] or found[4]:
            lines.append(f"  {'.'.join(above):34} {found[3]:14} {found[4] or ''}".rstrip())
    return lines


def paths(cls: Any, before: str = "") -> list[str]:
    """Every setting of a settings class, with its full name."""
    hints = get_type_hints(cls)
    found = []
    for field in fields(cls):
        path = f"{before}{field.name}"
        found += [path, *(paths(hints[field.name], f"{path}.") if is_dataclass(hints[field.name]) else [])]
    return found


def program(called: str) -> str:
    """How we were called (`argv[0]`), so that commands which we print can be pasted."""
    path = Path(called)
    if path.name == "__main__.py":
        return f"{_near(Path(sys.executable))} -m scoring"
    if not path.is_file():  # from Python, where there is no command
        return "scoring"
    found = shutil.which(path.name)
    return path.name if found and Path(found).samefile(path) else _near(path)


def _near(path: Path) -> str:
    here = path.absolute()
    return shlex.quote(str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here))


def clean(text: str, most: int = 300) -> str:
    """File names and reasons come from foreign data: no control characters reach a terminal, and no more than `most` characters."""
    return "".join(c if c.isprintable() else "�" for c in text)[:most]

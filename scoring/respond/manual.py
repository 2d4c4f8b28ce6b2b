"""What the command line says of itself: verbs, groups, settings, read from the configuration files and their comments."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

VERBS = {
    "run": "score what is not scored yet and publish it",
    "plan": "say what a run would do, without doing it",
    "doctor": "say what this machine offers and what a run would use [workspace=…]",
    "verify": "check that what was published is still what was published: workspace=…",
    "quarantine": "show quarantined rows by reason and file: workspace=…",
    "demo-data": "make the data and the model of the demo: out=… [rows=…]",
}
GROUPS = ("source", "model", "hardware", "engine", "contract", "sink", "release", "job")


def usage() -> str:
    """All verbs."""
    verbs = "\n".join(f"  scoring {verb:12} {said}" for verb, said in VERBS.items())
    return f"Commands:\n{verbs}\nEach takes --help, and --json where it reports."


def manual(verb: str) -> str:
    """One verb: for jobs, with all groups and settings."""
    if verb not in ("run", "plan"):
        return f"scoring {verb}: {VERBS[verb]}"
    lines = [f"scoring {verb}: {VERBS[verb]}", "", "Groups, chosen as group=name:"]
    lines += [f"  {group:10} {', '.join(choices(group))}" for group in GROUPS]
    lines += ["", "Settings, overridden as key=value:"]
    for group in ("", *GROUPS[:-1]):
        lines += _documented(_root() / group / f"{choices(group)[0]}.yaml" if group else _root() / "run.yaml", group)
    return "\n".join(
        [*lines, "", "Options: --json, --cfg job (show the settings), --multirun, --config-dir=… (groups of your own)."]
    )


def choices(group: str) -> list[str]:
    """The names that a group can have."""
    return sorted(path.stem for path in (_root() / group).glob("*.yaml"))


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

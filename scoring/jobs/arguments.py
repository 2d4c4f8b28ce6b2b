"""The words of a command line, and the folders they name: what may be said is checked here, before Hydra or a job sees it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from scoring.errors import ConfigError, UsageError
from scoring.respond.verbs import VERBS, form

_MAX_YAML_BYTES, _MAX_ALIASES = 1 << 20, 64


@dataclass(frozen=True)
class Said:
    """`words` are overrides; `own` are the verb's own words, name=value; `flags` are spelled as given ("--json")."""

    flags: frozenset[str]
    words: list[str]
    config_dir: str | None
    own: dict[str, str] = field(default_factory=dict)


def flags(rest: list[str], own: tuple[str, ...] = (), switches: tuple[str, ...] = ()) -> Said:
    """`own` are the words that are not for Hydra; they may be said as options too. `switches` are options of the verb.

    Raises:
        UsageError: an option that there is not, or one without its value.
    """
    said, words, config_dir, mine = set(), [], None, {}
    pending = iter(rest)
    for word in pending:
        name, equals, value = word.partition("=")
        if name.removeprefix("--") in own and (equals or word.startswith("--")):
            mine[name.removeprefix("--")] = value if equals else next(pending, "")
        elif name == "--config-dir":
            config_dir = value or next(pending, "")
            if not config_dir:
                raise UsageError("--config-dir needs a folder: --config-dir=…")
        elif name == "--cfg":
            said.add("--cfg")
            if (value or next(pending, "")) != "job":
                raise UsageError("--cfg shows one thing: --cfg job.")
        elif word in ("--json", "-m", "--multirun", "-v", "--verbose", *(f"--{switch}" for switch in switches)):
            said.add(word)
        elif word.startswith("-"):
            more = "".join(f"--{switch}, " for switch in switches)
            raise UsageError(
                f"{word} is not an option. Options: {more}--json, --verbose, --cfg job, --multirun, --config-dir=…, --help."
            )
        else:
            words.append(word)
    return Said(frozenset(said), words, config_dir, mine)


@dataclass(frozen=True)
class Given:
    """What was said to a verb without Hydra."""

    verb: str
    words: dict[str, str]
    switches: frozenset[str]
    more: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of words that were said several times, all but the first

    def get(self, name: str) -> str | None:
        return self.words.get(name)

    def all(self, name: str) -> tuple[str, ...]:
        """What was said of a word that may be said several times, in order."""
        return (*([self.words[name]] if name in self.words else []), *self.more.get(name, ()))

    def needed(self, name: str) -> str:
        """Raises: UsageError: it was not said."""
        if not self.words.get(name):
            said = name.upper() if name in VERBS[self.verb].places else f"{name}=…"
            raise UsageError(f"scoring {self.verb} needs {said}: scoring {form(self.verb)}")
        return self.words[name]

    def number(self, name: str, default: int) -> int:
        """Raises: UsageError: not a whole number."""
        text = self.words.get(name, str(default))
        if not text.isdecimal():
            raise UsageError(f"{name}={text} is not a whole number.")
        return int(text)


def words(verb: str, rest: list[str]) -> Given:
    """The words of a verb without Hydra: places in order, name=value or --name value, and --switches.

    Raises:
        UsageError: a word or an option that the verb does not take, or an option without its value.
    """
    one = VERBS[verb]
    said: dict[str, str] = {}
    switches: set[str] = set()
    more: dict[str, tuple[str, ...]] = {}
    places, pending = list(one.places), iter(rest)
    for word in pending:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("-") and name in (*one.switches, "json") and not equals:
            switches.add(name)
        elif name in one.words and (equals or word.startswith("--")):
            value = value if equals else next(pending, "")
            if name in said and name in one.several:
                more[name] = (*more.get(name, ()), value)
            else:
                said[name] = value
        elif word.startswith("-"):
            options = ", ".join(f"--{s}" for s in (*one.switches, "json"))
            raise UsageError(f"scoring {verb} takes no option but {options}: {word}.")
        elif places:
            said[places.pop(0)] = word
        else:
            raise UsageError(f"scoring {verb} does not know {name!r}. Say scoring {form(verb)}.")
    return Given(verb, said, frozenset(switches), more)


def safe_folder(folder: str) -> Path:
    """Raises: ConfigError: not a folder, or a YAML file in it that is not plain and small."""
    path = Path(folder).absolute()
    if not path.is_dir():
        raise ConfigError(f"--config-dir: there is no folder {path}.")
    for file in sorted(path.rglob("*.yaml")):
        if file.stat().st_size > _MAX_YAML_BYTES:
            raise ConfigError(f"{file} has more than {_MAX_YAML_BYTES:,} bytes.")
        try:
            text = file.read_text("utf-8")
            tokens = list(yaml.scan(text))
            deque(yaml.parse(text), maxlen=0)  # its syntax; nothing is built from it
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not YAML: {first_line(error)}") from None
        if sum(isinstance(t, yaml.AliasToken) for t in tokens) > _MAX_ALIASES:
            raise ConfigError(f"{file} has more than {_MAX_ALIASES} aliases.")
        if any(isinstance(t, yaml.TagToken) for t in tokens):
            raise ConfigError(f"{file} has YAML tags, which are not allowed.")
    return path


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

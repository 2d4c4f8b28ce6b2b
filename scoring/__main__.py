"""The command line: verbs, settings from Hydra, exit codes. The only file that knows Hydra, prints results and ends the process."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import yaml
from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scoring.errors import ConfigError, ScoringError, UsageError
from scoring.respond.manual import VERBS, choices, manual, paths, usage
from scoring.settings import Job, build
from scoring.types import RunRecord

_STATUS_CODES = {"held": 65, "paused": 75, "failed": 70}
_CAUSE_CODES = {"input": 75, "disk": 75, "memory": 75, "store": 69, "start": 78}
_MAX_YAML_BYTES, _MAX_ALIASES = 1 << 20, 64
_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")


def run(overrides: list[str]) -> RunRecord:
    """Run a job from Python: `run(["source=parquet", "source.path=…", "model.bundle=…", "workspace=…"])`.

    Raises:
        ScoringError: as the command would exit with its code.
    """
    from scoring.jobs.run import run as score
    from scoring.respond.progress import ProgressWatcher

    job, config = settings(overrides, None)
    return score(job, config, ProgressWatcher(None))


def settings(overrides: Sequence[str], config_dir: str | None) -> tuple[Job, str]:
    """Settings from Hydra groups and overrides, checked whole, and the configuration as written (nothing resolved).

    Raises:
        ConfigError: one line: what, where, and the nearest thing that exists.
    """
    config = composed(overrides, config_dir)
    written = OmegaConf.to_yaml(config, resolve=False)
    if foreign := sorted(set(_RESOLVER.findall(written)) - {"oc.env"}):
        raise ConfigError(f"${{{foreign[0]}:…}} is not allowed in a configuration; only ${{oc.env:NAME}} is.")
    if "_target_" in written:
        raise ConfigError("_target_ is not allowed in a configuration: parts are chosen by name.")
    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise ConfigError(f"{missing[0]} is missing. Say {missing[0]}=…")
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from None
    return build(Job, plain), written  # type: ignore[arg-type]


def composed(overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    wanted = [_added(o) for o in overrides]
    if config_dir:
        wanted.append(f"hydra.searchpath=[file://{_safe_folder(config_dir)}]")
    try:
        with initialize_config_module("scoring.conf", version_base="1.3"):
            return compose("run", wanted)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explained(error)) from None


def main() -> None:
    """Entry point of the `scoring` command; ends the process with the exit codes of errors.py."""
    code = _guarded(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of readers must not abort a finished process (they can, at interpreter exit)


def _guarded(arguments: list[str]) -> int:
    try:
        return _command(arguments)
    except ScoringError as error:
        _say(f"scoring: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get("SCORING_DEBUG"):
            raise
        with tempfile.NamedTemporaryFile("w", prefix="scoring-error-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        _say(f"scoring: internal error: {type(error).__name__}: {_first_line(error)}. Details: {log.name}")
        return 70


def _command(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb in ("-h", "--help", "help"):
        print(usage())
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        raise UsageError(
            f"{verb!r} is not a command.{f' Did you mean {near[0]!r}?' if near else ''}\n{usage()}" if verb else usage()
        )
    if "--help" in rest or "-h" in rest:
        print(manual(verb))
        return 0
    return _job(verb, rest) if verb in ("run", "plan") else _plain(verb, rest)


def _job(verb: str, rest: list[str]) -> int:
    """run and plan: Hydra overrides, --cfg job, --multirun, --config-dir, --json."""
    flags, overrides, config_dir = _flags(rest)
    if flags & {"-m", "--multirun"}:
        parsed = OverridesParser.create().parse_overrides(overrides)
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
        return max(_one(verb, batch, config_dir, flags) for batch in batches)
    return _one(verb, overrides, config_dir, flags)


def _one(verb: str, overrides: Sequence[str], config_dir: str | None, flags: set[str]) -> int:
    if "--cfg" in flags:
        print(OmegaConf.to_yaml(composed(overrides, config_dir), resolve=False), end="")
        return 0
    job, config = settings(overrides, config_dir)
    if verb == "plan":
        from scoring.jobs import plan

        return _report(plan.plan(job), plan.render, "--json" in flags)
    return _run(job, config, [*overrides, *([f"--config-dir={config_dir}"] if config_dir else [])], "--json" in flags)


def _run(job: Job, config: str, overrides: Sequence[str], as_json: bool) -> int:
    from scoring.jobs.run import run as score
    from scoring.respond import summary
    from scoring.respond.progress import ProgressWatcher

    stop = _Signals()
    record = score(job, config, ProgressWatcher(sys.stderr), stop.why)
    if as_json:
        print(record.to_json())
    else:
        print(summary.render(record, job.workspace, _program()))
    if record.status in ("paused", "failed"):
        _say(f"State is kept. To go on: {_program()} run {' '.join(_quoted(o) for o in overrides)}")
    if stop.number is not None and record.status == "paused":
        return 128 + stop.number
    return 0 if record.status.startswith("published") else _CAUSE_CODES.get(record.cause, _STATUS_CODES[record.status])


def _plain(verb: str, rest: list[str]) -> int:
    flags, words, _ = _flags(rest)
    given = dict(word.partition("=")[::2] for word in words)
    as_json = "--json" in flags
    match verb:
        case "doctor":
            from scoring.jobs import doctor

            return _report(doctor.doctor(given.get("workspace")), doctor.render, as_json)
        case "verify":
            from scoring.jobs import verify

            found = verify.verify(_needed(given, "workspace", verb))
            return _report(found, verify.render, as_json) or (65 if found.problems else 0)
        case "quarantine":
            from scoring.jobs import quarantine

            return _report(quarantine.quarantine(_needed(given, "workspace", verb)), quarantine.render, as_json)
        case _:
            from scoring.jobs import demo

            demo.make(Path(_needed(given, "out", verb)), **({"rows": int(given["rows"])} if "rows" in given else {}))
            return 0


class _Signals:
    """Ctrl-C and SIGTERM ask the run to stop; a second one ends it at once."""

    def __init__(self) -> None:
        self.number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._received)

    def why(self) -> str | None:
        return None if self.number is None else f"Stopped by {signal.Signals(self.number).name}."

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            for process in psutil.Process().children(recursive=True):  # some of Ray's would stay for a minute
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            os._exit(128 + number)
        self.number = number
        _say("Stopping: what is in hand may finish; again to stop at once.")


def _flags(rest: list[str]) -> tuple[set[str], list[str], str | None]:
    flags, words, config_dir = set(), [], None
    pending = iter(rest)
    for word in pending:
        name, _, value = word.partition("=")
        if name == "--config-dir":
            config_dir = value or next(pending, "")
        elif name == "--cfg":
            flags.add("--cfg")
            if (value or next(pending, "")) != "job":
                raise UsageError("--cfg shows one thing: --cfg job.")
        elif word in ("--json", "-m", "--multirun"):
            flags.add(word)
        elif word.startswith("-"):
            raise UsageError(f"{word} is not an option. Options: --json, --cfg job, --multirun, --config-dir=…, --help.")
        else:
            words.append(word)
    return flags, words, config_dir


def _report(found: Any, render: Callable[[Any], str], as_json: bool) -> int:
    print(json.dumps(asdict(found), indent=2) if as_json else render(found))
    return 0


def _needed(given: dict[str, str], name: str, verb: str) -> str:
    if not given.get(name):
        raise UsageError(f"scoring {verb} needs {name}=…")
    return given[name]


def _added(override: str) -> str:
    """Columns of a contract are the user's names: they are added, not overridden."""
    return f"++{override}" if override.startswith("contract.columns.") else override


def _safe_folder(folder: str) -> Path:
    """Raises: ConfigError: not a folder, or a YAML file in it that is not plain and small."""
    path = Path(folder).absolute()
    if not path.is_dir():
        raise ConfigError(f"--config-dir: there is no folder {path}.")
    for file in sorted(path.rglob("*.yaml")):
        if file.stat().st_size > _MAX_YAML_BYTES:
            raise ConfigError(f"{file} has more than {_MAX_YAML_BYTES:,} bytes.")
        try:
            tokens = list(yaml.scan(file.read_text()))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not YAML: {_first_line(error)}") from None
        if sum(isinstance(t, yaml.AliasToken) for t in tokens) > _MAX_ALIASES:
            raise ConfigError(f"{file} has more than {_MAX_ALIASES} aliases.")
        if any(isinstance(t, yaml.TagToken) for t in tokens):
            raise ConfigError(f"{file} has YAML tags, which are not allowed.")
    return path


def _explained(error: Exception) -> str:
    """Hydra's message on one line, with the nearest setting or option where there is one."""
    text = " ".join(str(error).split())
    if found := re.search(r"Could not override '([^']+)'", text):
        near = difflib.get_close_matches(found[1], paths(Job), 1)
        return f"{found[1]} is not a setting.{f' Did you mean {near[0]!r}?' if near else ' See scoring run --help.'}"
    if found := re.search(r"You must specify '(\w+)'.*?Available options: (.*)", text):
        return f"{found[1]} is missing. Say {found[1]}=… ({', '.join(found[2].split())})."
    if found := re.search(r"Could not find '(\w+)/([^']+)'", text):
        options = choices(found[1])
        return f"{found[1]}={found[2]} is not known. Known: {', '.join(options)}." if options else text
    return text


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _program() -> str:
    """How we were called, so that commands which we print can be pasted."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{_near(Path(sys.executable))} -m scoring"
    found = shutil.which(called.name)
    return called.name if found and Path(found).samefile(called) else _near(called)


def _near(path: Path) -> str:
    here = path.absolute()
    return _quoted(str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here))


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else "'" + word.replace("'", "'\\''") + "'"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

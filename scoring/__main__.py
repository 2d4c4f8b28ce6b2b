"""The command line: verbs, settings from Hydra, exit codes. The only file that knows Hydra and ends the process at its end."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from scoring.deferred import put_off_pandas
from scoring.errors import ConfigError, ScoringError, UsageError, bug
from scoring.jobs import terminal
from scoring.jobs.arguments import Said, first_line, flags, safe_folder, words
from scoring.redact import scrub
from scoring.respond.manual import clean, manual, paths, usage
from scoring.respond.verbs import VERBS, named
from scoring.settings import Job, build
from scoring.types import RunRecord

_RESOLVER = re.compile(r"\$\{\s*([^:{}]*?)\s*[:{]")  # also of a name that is itself looked up
_FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*(\w+)")
_LEAST_SECRET = 4  # characters: shorter values would turn up in any message


def run(overrides: list[str]) -> RunRecord:
    """Run a job from Python: `run(["source=parquet", "source.path=…", "model.bundle=…", "workspace=…"])`.

    Raises:
        ScoringError: as the command would exit with its code.
    """
    from scoring.jobs import telling, witness
    from scoring.jobs.run import run as score
    from scoring.respond.logs import Logs
    from scoring.respond.progress import ProgressWatcher

    job, config = settings(overrides, None)
    telling.refuse(job.respond)
    with Logs(job.respond.logs) as logs, ProgressWatcher(None) as watcher:
        said = ["run", *overrides]
        record = witness.witnessed(score, said, logs)(job, config, watcher)
        witness.tell(job, record, said)
    return record


def settings(overrides: Sequence[str], config_dir: str | None) -> tuple[Job, str]:
    """Settings from Hydra groups and overrides, checked whole, and the configuration as written (nothing resolved).

    Raises:
        ConfigError: one line: what, where, and the nearest thing that exists.
    """
    return _built(composed(overrides, config_dir))


def kept(text: str) -> Job:
    """The settings of a run from the configuration that was kept with it; references to the environment are resolved as it is now.

    Raises:
        ConfigError: as `settings`, or it is no configuration.
    """
    try:
        config = OmegaConf.create(text)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"not a configuration ({first_line(error)})") from None
    if not isinstance(config, DictConfig) or not config:
        raise ConfigError("it is empty")
    return _built(config)[0]


def _built(config: DictConfig) -> tuple[Job, str]:
    written = OmegaConf.to_yaml(config, resolve=False)
    if foreign := sorted(set(_RESOLVER.findall(written)) - {"oc.env"}):
        raise ConfigError(f"${{{foreign[0]}:…}} is not allowed in a configuration; only ${{oc.env:NAME}} is.")
    if "_target_" in _keys(OmegaConf.to_container(config)):
        raise ConfigError("_target_ is not allowed in a configuration: parts are chosen by name.")
    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise ConfigError(f"{', '.join(missing)}: missing. Say {' '.join(f'{key}=…' for key in missing)}")
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_explained(error)) from None
    try:
        return build(Job, plain), written  # type: ignore[arg-type]
    except ConfigError as error:
        raise ConfigError(_masked(str(error), written)) from None


def composed(overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    if steering := next((o for o in overrides if re.match(r"[+~]*hydra\b", o)), None):
        raise ConfigError(f"{steering}: hydra's own settings are not part of a job. Folders of your own come by --config-dir=…")
    wanted = [_added(o) for o in overrides]
    if config_dir is not None:
        wanted.append(f"hydra.searchpath=[file://{safe_folder(config_dir)}]")
    try:
        with _hydra_apart(), initialize_config_module("scoring.conf", version_base="1.3"):
            return compose("run", wanted)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:  # yaml: a key that stands twice
        raise ConfigError(_explained(error)) from None


def main() -> None:
    """Entry point of the `scoring` command; ends the process with the exit codes of errors.py."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files may be no text at all
    code = _guarded(sys.argv[1:])
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # threads of readers must not abort a finished process (they can, at interpreter exit)


def _guarded(arguments: list[str]) -> int:
    try:
        return _command(arguments)
    except ScoringError as error:
        terminal.say("scoring: " + "\n".join(clean(line, most=2_000) for line in str(error).splitlines()))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # a panic of Polars is no Exception
        if os.environ.get("SCORING_DEBUG"):
            raise
        with tempfile.NamedTemporaryFile("w", prefix="scoring-error-", suffix=".log", delete=False) as log:
            places = traceback.format_tb(error.__traceback__)  # where, not with which values
            log.writelines(["Traceback (most recent call last):\n", *places, f"{scrub(bug(error))}\n"])
        terminal.say(f"scoring: internal error: {clean(bug(error))}. Details: {log.name}")
        return 70


def _command(arguments: list[str]) -> int:
    verb, rest = named(arguments)
    if verb in ("-h", "--help", "help"):
        terminal.show(usage())
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        raise UsageError(
            f"{verb!r} is not a command.{f' Did you mean {near[0]!r}?' if near else ''}\n{usage()}" if verb else usage()
        )
    if "--help" in rest or "-h" in rest:
        terminal.show(manual(verb))
        return 0
    put_off_pandas()
    return _job(verb, rest) if VERBS[verb].job else _plain(verb, rest)


def _job(verb: str, rest: list[str]) -> int:
    """run, plan, backfill, bench and requeue: Hydra overrides, --cfg job, --multirun, --config-dir, --json, --verbose."""
    said = flags(rest, VERBS[verb].words, VERBS[verb].switches)
    if verb == "bench" and "--cfg" not in said.flags:
        return _bench(said)
    return _sweep(verb, said) if said.flags & {"-m", "--multirun"} else _one(verb, said.words, said)


def _sweep(verb: str, said: Said) -> int:
    """One job after the other, each said before it begins; ends with the worst of the codes, and at once with a signal."""
    worst = 0
    for batch in _expanded(said.words):
        terminal.say(f"scoring {verb} {' '.join(shlex.quote(o) for o in batch)}")
        worst = max(worst, _one(verb, batch, said))
        if worst > 128:
            break
    return worst


def _expanded(words: list[str]) -> Sequence[Sequence[str]]:
    """The overrides of each job of a grid, in the order of Hydra's own sweeper."""
    try:
        parsed = OverridesParser.create().parse_overrides(words)
    except HydraException as error:
        raise ConfigError(_explained(error)) from None
    return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]


def _bench(said: Said) -> int:
    """A grid is always expanded, and measured as a whole: its jobs take turns."""
    from scoring.jobs import bench
    from scoring.respond.bench.table import render

    configurations = [(batch, settings(batch, said.config_dir)[0]) for batch in _expanded(said.words)]
    wanted = bench.asked(said.own, said.config_dir, configurations[0][1].workspace)
    stop = terminal.Signals()
    record = bench.bench(configurations, wanted, terminal.say, stop.why)
    terminal.report(record, render, "--json" in said.flags)
    if stop.number is not None:
        return 128 + stop.number
    return 0 if record.measured else ConfigError.exit_code


def _one(verb: str, overrides: Sequence[str], said: Said) -> int:
    folder = said.config_dir
    if "--cfg" in said.flags:
        terminal.show(OmegaConf.to_yaml(composed(overrides, folder), resolve=False).rstrip("\n"))
        return 0
    job, config = settings(overrides, folder)
    if said.flags & {"-v", "--verbose"}:
        job = replace(job, respond=replace(job.respond, logs=terminal.verbose(job.respond.logs)))
    if verb == "plan":
        from scoring.jobs import plan

        return terminal.report(plan.plan(job), plan.render, "--json" in said.flags)
    own = [f"{name}={value}" for name, value in said.own.items()]
    again = [verb, *overrides, *own, *([f"--config-dir={folder}"] if folder else [])]
    if verb == "backfill":
        return terminal.backfill(job, config, again, said)
    return terminal.run(_requeue(said) if verb == "requeue" else _score(), job, config, again, "--json" in said.flags)


def _score() -> terminal.Pass:
    from scoring.jobs.run import run as score

    return score


def _requeue(said: Said) -> terminal.Pass:
    from scoring.jobs.requeue import Choice, requeue

    return partial(requeue, choice=Choice(said.own.get("partition"), said.own.get("run"), said.own.get("reason", "")))


def _plain(verb: str, rest: list[str]) -> int:
    """A verb without Hydra: `command` of its file in `jobs` gives what it found and the exit code, `render` says it.

    One that does again what a run did is handed the way to the run's settings. One that stays has `serve`, which says what it has
    to say when it is ready.
    """
    given = words(verb, rest)
    module = import_module(f"scoring.jobs.{VERBS[verb].file or verb.replace(' ', '_').replace('-', '_')}")
    if VERBS[verb].stays:
        return int(module.serve(given, lambda found: terminal.report(found, module.render, "json" in given.switches)))
    found, code = module.command(given, kept) if VERBS[verb].again else module.command(given)
    terminal.report(found, module.render, "json" in given.switches)
    return int(code)


def _added(override: str) -> str:
    """Columns, rules and limits of a contract, checks of a policy and rules of alerts are names, not settings: they are added."""
    names = r"(contract\.(columns|rules|limits)|release\.policy|respond\.alerts\.rules)[.=]"
    return f"++{override}" if re.match(names, override) else override


def _explained(error: Exception) -> str:
    """Hydra's or OmegaConf's message on one line, with the nearest setting or option where there is one."""
    text = " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be understood. Say key=value; quote what is special to YAML: key='a, b'."
    if found := re.search(r"Could not override '([^']+)'", text):
        near = difflib.get_close_matches(found[1], paths(Job), 1)
        return f"{found[1]} is not a setting.{f' Did you mean {near[0]!r}?' if near else ' See scoring run --help.'}"
    if found := re.search(r"You must specify '(\w+)'.*?Available options: (.*)", text):
        return f"{found[1]} is missing. Say {found[1]}=… ({', '.join(found[2].split())})."
    if found := re.search(r"Could not find '(\w+)/([^']+)' Available options in '\w+': (.*?) Config search path", text):
        return f"{found[1]}={found[2]} is not known. Known: {', '.join(found[3].split())}."
    if found := re.search(r"Environment variable '([^']+)' not found", text):
        return f"{getattr(error, 'full_key', 'A setting')}: the environment variable {found[1]} is not set."
    return text


def _masked(text: str, written: str) -> str:
    """What came from the environment may be a secret: the message names the variable instead."""
    for name in _FROM_ENVIRONMENT.findall(written):
        value = os.environ.get(name, "")
        for shown in {value, repr(value)[1:-1]} if len(value) >= _LEAST_SECRET else ():
            text = text.replace(shown, f"${{oc.env:{name}}}")
    return text


def _keys(value: Any) -> set[str]:
    """All keys, however deep."""
    if isinstance(value, dict):
        return {str(key) for key in value}.union(*(_keys(inner) for inner in value.values()))
    return set().union(*(_keys(inner) for inner in value)) if isinstance(value, list) else set()


@contextmanager
def _hydra_apart() -> Iterator[None]:
    """A program that uses Hydra itself may call `scoring.run`: its Hydra is put aside meanwhile."""
    theirs, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = theirs  # another instance than before: Hydra puts copies back


if __name__ == "__main__":
    main()

"""Why a job cannot go on as asked.

ScoringError                 70  internal: a bug of ours, with the place
  UsageError                 64  the command line is not a command
  HeldError                  65  scores exist but a gate holds them back
  SourceError                69  rows cannot be read
    InputChangedError        75  a file is no longer what was planned: run again
  StoreError                 69  the workspace cannot be written or does not keep its promises
  AddressError               69  an address cannot be served at
  TemporaryError             75  run me again: nothing is lost
    BusyError                75  another run works on this workspace
      OvertakenError         75  another run published the partition meanwhile
    PausedError              75  stopped by policy, state kept
  RefusedError               77  approval or signature missing
  ConfigError                78  the configuration says something that cannot be
    ModelError               78  bundle missing, altered, unsafe, or not the model it says it is
    PlanError                78  the plan cannot work on this machine
    ChangedError             78  model, config, contract or input changed since the partition was published

The number is the process exit code (sysexits.h). A row that cannot be scored is not an error: it is a quarantined row.
"""

import re
import traceback
from pathlib import Path
from typing import ClassVar

_LONGEST = 300
_OPENING = re.compile(r"(?<!\w)[\"'`]")  # not the apostrophe of "couldn't"
_TAIL = re.compile(r"(\bgot \d+:).*")  # CSV readers show the line
_NUMBER = re.compile(r"(\bvalues?:? +|\bdata:? +)[^\s…]+|[+-]?\d[\d.,_:/eE+-]{5,}")


def told(error: BaseException) -> str:
    """The first line of a foreign error without what may be data: from the first quote to the last, shown lines, values, long
    numbers. Readers and models quote values, and what is said here goes to logs, receipts, the record and the terminal.
    """
    lines = str(error).strip().splitlines()
    text = "".join(c for c in (lines[0] if lines else "") if c.isprintable())
    if opened := _OPENING.search(text):
        closed = max(text.rfind(quote) for quote in "\"'`")
        text = text[: opened.start()] + "…" + (text[closed + 1 :] if closed > opened.start() else "")
    text = _NUMBER.sub(lambda found: (found[1] or "") + "…", _TAIL.sub(r"\1 …", text))
    return text[:_LONGEST] or type(error).__name__


def bug(error: BaseException) -> str:
    """An error that nobody expected: its type, what it says without data, and the place in the code."""
    places = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
    return f"{type(error).__name__}: {told(error)}{where}"


def unseen(error: BaseException) -> str:
    """An error of code that had rows in hand: its type and its place, nothing of what it says. No rule tells a name from a word."""
    places = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}{f' in {Path(places[-1].filename).name}:{places[-1].lineno}' if places else ''}"


class ScoringError(Exception):
    """The run cannot go on as asked. Subclasses carry the process exit code."""

    exit_code: ClassVar[int] = 70


class UsageError(ScoringError):
    exit_code = 64


class HeldError(ScoringError):
    exit_code = 65


class SourceError(ScoringError):
    exit_code = 69


class InputChangedError(SourceError):
    exit_code = 75


class StoreError(ScoringError):
    exit_code = 69


class AddressError(ScoringError):
    exit_code = 69


class TemporaryError(ScoringError):
    exit_code = 75


class BusyError(TemporaryError):
    pass


class OvertakenError(BusyError):
    pass


class PausedError(TemporaryError):
    pass


class RefusedError(ScoringError):
    exit_code = 77


class ConfigError(ScoringError):
    exit_code = 78


class ModelError(ConfigError):
    pass


class PlanError(ConfigError):
    pass


class ChangedError(ConfigError):
    pass

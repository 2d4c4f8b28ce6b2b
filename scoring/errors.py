"""Why a job cannot go on as asked.

ScoringError                 70  internal: a bug of ours, with the place
  UsageError                 64  the command line is not a command
  HeldError                  65  scores exist but a gate holds them back
  SourceError                69  rows cannot be read
    InputChangedError        75  a file is no longer what was planned: run again
  StoreError                 69  the workspace cannot be written or does not keep its promises
  TemporaryError             75  run me again: nothing is lost
    BusyError                75  another run works on this workspace
    PausedError              75  stopped by policy, state kept
  RefusedError               77  approval or signature missing
  ConfigError                78  the configuration says something that cannot be
    ModelError               78  bundle missing, altered, unsafe, or not the model it says it is
    PlanError                78  the plan cannot work on this machine
    ChangedError             78  model, config, contract or input changed since the partition was published

The number is the process exit code (sysexits.h). A row that cannot be scored is not an error: it is a quarantined row.
"""

from typing import ClassVar


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


class TemporaryError(ScoringError):
    exit_code = 75


class BusyError(TemporaryError):
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

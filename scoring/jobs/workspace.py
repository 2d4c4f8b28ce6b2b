"""A workspace that should be there already: verbs that only look make no folder, and take no wrong folder for an intact one."""

from __future__ import annotations

from pathlib import Path

from scoring.errors import ConfigError
from scoring.stores import Store, open_store


def if_there(workspace: str) -> Store | None:
    """The store of a workspace, unless that is a local folder which nobody has made yet.

    Raises:
        ConfigError: a scheme that is not known.
    """
    local = workspace.removeprefix("file://")
    return open_store(workspace) if "://" in local or Path(local).expanduser().is_dir() else None


def existing(workspace: str) -> Store:
    """The store of a workspace in which something ran.

    Raises:
        ConfigError: there is no such folder, or nothing ever ran in it.
    """
    store = if_there(workspace)
    if store is None:
        raise ConfigError(f"workspace: there is no folder {workspace}.")
    if not store.folders("runs"):
        raise ConfigError(
            f"workspace: nothing ever ran in {workspace}: it has no runs/. Name the folder that was given to scoring run."
        )
    return store

"""Who acts: the user of the operating system, as far as that can be known. No proof of identity, and the ledger claims none."""

from __future__ import annotations

import getpass
import os


def actor() -> str:
    """The user's name; "uid 1000" where the machine has no name for it (containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"

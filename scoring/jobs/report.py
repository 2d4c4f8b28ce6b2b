"""The report of a run as a file beside its record, and two runs side by side; made again, it is the same to the byte.

`write_report` is what the end of a run calls, after the record is written: what fails in it is no failure of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scoring.errors import ConfigError
from scoring.jobs.arguments import Given
from scoring.jobs.run_facts import gather
from scoring.jobs.workspace import existing
from scoring.stores import open_store

NAME = "report.html"


@dataclass(frozen=True)
class Written:
    """Where the page is, and what it says first."""

    path: str
    bytes: int
    sentence: str


def write_report(workspace: str, run_id: str) -> Written:
    """Write `runs/<run_id>/report.html`.

    Raises:
        ConfigError: there is no record of this run. StoreError: what it left cannot be read, or the page not be written.
    """
    from scoring.respond.report import account, page  # brings jinja2

    store = open_store(workspace)
    facts = gather(store, run_id)
    text, key = page.render(facts).encode(), f"runs/{run_id}/{NAME}"
    store.replace(key, text)
    return Written(f"{store.root}/{key}", len(text), account.sentence(facts))


def write_comparison(workspace: str, first: str, second: str) -> Written:
    """Write `runs/<second>/compare-<first>.html`. Raises: as `write_report`."""
    from scoring.respond.report import comparison, page

    store = open_store(workspace)
    both = gather(store, first), gather(store, second)
    text, key = page.compare(*both).encode(), f"runs/{second}/compare-{first}.html"
    store.replace(key, text)
    return Written(f"{store.root}/{key}", len(text), comparison.sentence(*both))


def command(given: Given) -> tuple[Written, int]:
    """Raises: ConfigError: as `write_report`, or `out` cannot be written."""
    workspace, run_id = given.needed("workspace"), given.needed("run")
    store, other = existing(workspace), given.get("compare")
    found = write_comparison(workspace, other, run_id) if other else write_report(workspace, run_id)
    if out := given.get("out"):
        name = found.path.removeprefix(f"{store.root}/")
        try:
            Path(out).write_bytes(store.get(name))
        except OSError as error:
            raise ConfigError(f"out={out} cannot be written ({error.strerror}). Name a file in a folder that is there.") from None
        found = Written(out, found.bytes, found.sentence)
    return found, 0


def render(found: Written) -> str:
    return f"{found.sentence}\nreport: {found.path} ({found.bytes:,} bytes)"

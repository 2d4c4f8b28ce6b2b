"""Which model answers for a past interval: the current one, a version that was named, or the one that answered then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path

from scoring.errors import ConfigError
from scoring.jobs.backfills.request import Request
from scoring.models import bundle
from scoring.release.intervals import of_key
from scoring.settings import Job
from scoring.sinks.publish import published
from scoring.stores import Store
from scoring.types import Interval


@dataclass(frozen=True)
class _Known:
    path: str
    version: str
    digest: str


class Models:
    """Bundles by interval.

    as-of: what version 1 of a partition was made with, for that is what readers saw at the time; where there is none, what
    version 1 of the newest interval before it was made with.
    Raises: ConfigError: a bundle that is needed is in none of the folders that were named.
    """

    def __init__(self, job: Job, store: Store | None, request: Request) -> None:
        self._job, self._request = job, request
        self._known = [*_named(job)]
        self._firsts = _firsts(store, request.where) if store and request.model == "as-of" else {}
        if request.pinned:
            self._pinned = self._by_version(request.pinned)

    def of(self, key: str, interval: Interval) -> str:
        """The folder of the bundle, "" where nobody knows what answered then."""
        if self._request.model == "current":
            return self._job.model.bundle
        if self._request.pinned:
            return self._pinned
        return self._as_of(key, interval)

    def _by_version(self, version: str) -> str:
        found = [one for one in self._known if one.version == version]
        if not found:
            there = ", ".join(sorted({one.version for one in self._known}))
            raise ConfigError(f"model=pinned:{version}: model.bundle and model.bundles have no such version. There are: {there}.")
        if len({one.digest for one in found}) > 1:
            raise ConfigError(f"model=pinned:{version}: {found[0].path} and {found[1].path} both say that they are this version.")
        return found[0].path

    def _as_of(self, key: str, interval: Interval) -> str:
        own = self._firsts.get((interval.start, key))
        earlier = [(start, name) for start, name in self._firsts if start < interval.start]
        first = own or (self._firsts[max(earlier)] if earlier else None)
        if first is None:
            return ""
        digest, version = first
        path = next((one.path for one in self._known if one.digest == digest), None)
        if path is None:
            raise ConfigError(
                f"model=as-of: {key} was answered by version {version} (digest {digest[:12]}), which neither "
                "model.bundle nor model.bundles has. Add its folder: model.bundles=[…]."
            )
        return path


def _named(job: Job) -> Iterator[_Known]:
    """Those that were named, and those of the workspace's registry, if it has one."""
    registry = Path(job.workspace.removeprefix("file://")).expanduser() / "registry"
    kept = sorted(str(path.parent) for path in registry.glob("*/*/model.yaml")) if "://" not in job.workspace else []
    for path in dict.fromkeys((job.model.bundle, *job.model.bundles, *kept)):
        found = bundle.read(path)
        yield _Known(path, found.version, found.digest)


def _firsts(store: Store, where: tzinfo) -> dict[tuple[datetime, str], tuple[str, str]]:
    """(start, key) -> (digest, version) of the model of version 1."""
    found = {}
    for manifest in published(store, every=True):
        named = of_key(manifest.key, where)
        if manifest.version == 1 and named is not None:
            found[named[1].start, manifest.key] = (manifest.model["digest"], manifest.model["version"])
    return found

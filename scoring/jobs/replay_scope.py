"""What a run published and with which settings, found again in its workspace: the manifests that name its files, its configuration,
who was on the list. A version that was replaced since is found as well: its staged files and its manifest stay.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from scoring.admit.keys import key_ring
from scoring.admit.privacy import naming
from scoring.engine import capacity
from scoring.errors import ConfigError
from scoring.jobs.preparation import identity_parts, whole_contract
from scoring.ledger import runs
from scoring.ledger.erasures import replaced
from scoring.ledger.suppressed import listed, pinned
from scoring.models.bundle import Bundle
from scoring.settings import Contract, Job
from scoring.sinks.manifest import Manifest, PublicFile, history, published
from scoring.stores import Store
from scoring.stores.names import MissingError

Kept = Callable[[str], Job]  # settings from a configuration as it was kept, references to the environment resolved


@dataclass(frozen=True)
class Published:
    """`manifest` is the newest version of a partition that names files of the run, `own` the newest that the run itself published;
    `files` are those that hold rows.
    """

    manifest: Manifest
    own: Manifest
    files: tuple[PublicFile, ...]


@dataclass(frozen=True)
class Scope:
    """`job` reads what the run read; `asked` is as the user wrote it. `requeued`: its input was the quarantine of others."""

    store: Store
    run_id: str
    asked: Job
    job: Job
    parts: tuple[Published, ...]
    requeued: bool
    notes: tuple[str, ...]
    explained: dict[str, set[str]]

    @property
    def files(self) -> tuple[tuple[Manifest, PublicFile], ...]:
        return tuple((part.manifest, file) for part in self.parts for file in part.files)


def scope(store: Store, run_id: str, partition: str | None, kept: Kept) -> Scope:
    """Raises: ConfigError: there is no such run, it published nothing (of this partition), or its settings cannot be had again."""
    if not store.exists(f"runs/{run_id}/run.json"):
        known = [name for name in store.folders("runs") if store.exists(f"runs/{name}/run.json")]
        near = difflib.get_close_matches(run_id, known, 3, 0.3) or known[-3:]
        raise ConfigError(f"There is no run {run_id!r} in {store.root}. Nearest: {', '.join(near)}.")
    newest, mine = _versions(store, run_id, partition)
    if not mine:
        status = (runs.record(store, run_id) or {}).get("status", "without a record")
        of = f" of {partition}" if partition is not None else ""
        raise ConfigError(f"Run {run_id} ({status}) published no scores{of}, so that there is nothing to hold against anything.")
    asked = _settings(store, run_id, kept)
    requeued = any(one.run_id == run_id for part in mine for one in part.manifest.requeued)
    engine = replace(asked.engine, kind="inline", faults=())
    job = replace(asked, workspace=store.root, engine=engine)
    if requeued:
        job = replace(job, source=replace(job.source, kind="quarantine", path=store.root, duplicates="keep"))
    notes = tuple(_notes(run_id, newest, mine))
    return Scope(store, run_id, asked, job, mine, requeued, notes, replaced(store))


def _versions(store: Store, run_id: str, partition: str | None) -> tuple[dict[str, Manifest], tuple[Published, ...]]:
    """The newest version of each partition, and what the run has in the newest that names a file of it."""
    newest: dict[str, Manifest] = {}
    own: dict[str, Manifest] = {}
    mine: dict[str, Published] = {}
    for manifest in published(store, every=True) if partition is None else history(store, partition):
        newest[manifest.key] = manifest
        if manifest.run_id == run_id:
            own[manifest.key] = manifest
        files = tuple(file for file in manifest.files if file.rows and file.staged.startswith(f"runs/{run_id}/"))
        if files:
            mine[manifest.key] = Published(manifest, own.get(manifest.key, manifest), files)
    return newest, tuple(mine[key] for key in sorted(mine))


def _notes(run_id: str, newest: dict[str, Manifest], mine: tuple[Published, ...]) -> Iterator[str]:
    for part in mine:
        manifest, now = part.manifest, newest[part.manifest.key]
        if now.version != manifest.version:
            yield (
                f"{manifest.key}: version {manifest.version}, which is compared here, was replaced; version {now.version} of run "
                f"{now.run_id} is what readers see"
            )
        others = sorted({file.staged.split("/")[1] for file in manifest.files} - {run_id})
        if others:
            yield f"{manifest.key}: other rows of it are of {', '.join(others)}, and are compared by scoring replay of that run"


def _settings(store: Store, run_id: str, kept: Kept) -> Job:
    try:
        text = store.get(f"runs/{run_id}/config.yaml").decode()
    except MissingError:
        raise ConfigError(f"{store.root}: runs/{run_id}/config.yaml is gone, and says what the run was asked to do.") from None
    try:
        return kept(text)
    except ConfigError as error:
        raise ConfigError(f"{store.root}: runs/{run_id}/config.yaml cannot be used again: {error}") from None


def with_bundle(scope: Scope, found: Bundle) -> Job:
    """The run's job with this bundle, and the contract that follows from it."""
    model = replace(scope.job.model, bundle=str(found.folder))
    return replace(scope.job, model=model, contract=whole_contract(scope.asked.contract, found))


def cores(job: Job, machine: capacity.Machine) -> int:
    """Of a lane, as the run had them, if this machine has as many."""
    return machine.cores if job.engine.kind == "inline" else min(job.hardware.cpus_per_lane, machine.cores)


def people(store: Store, run_id: str, contract: Contract) -> frozenset[str]:
    """Pseudonyms of all who are not compared: those on the run's own list, and whoever was erased since.

    Raises: ConfigError: the key that finds them is not in the environment.
    """
    names = set(listed(store))
    for key in store.list(f"runs/{run_id}"):
        if key.rsplit("/", 1)[1].startswith("suppressed-"):
            names |= pinned(store, key)
    if not names:
        return frozenset()
    if contract.privacy.subject is None:
        raise ConfigError("People are not to be scored again, and contract.privacy.subject of the run does not say who is who.")
    return naming(contract, key_ring(contract.privacy)).parse(sorted(names), f"runs/{run_id}")


def refuse_other_code(scope: Scope) -> None:
    """Code that the kept settings name is run only if the manifests say that the run named it.

    Raises: ConfigError.
    """
    now = rebuilt(scope)
    named = {"model": scope.asked.model.module, "source": scope.asked.source.kind if "." in scope.asked.source.kind else None}
    for part, module in named.items():
        if module is not None and recorded(scope, part) != {now[part]}:
            raise ConfigError(
                f"{scope.store.root}: runs/{scope.run_id}/config.yaml names the code {module}, and the manifests do not."
            )


def recorded(scope: Scope, name: str) -> set[str]:
    """The digests of a part of the run's identity, as its own manifests have them: one, unless a manifest was tampered with."""
    return {part.own.parts[name] for part in scope.parts if name in part.own.parts}


def rebuilt(scope: Scope) -> dict[str, str]:
    """The same parts, of the settings that were kept."""
    return identity_parts(scope.asked, scope.parts[0].own.model["digest"])

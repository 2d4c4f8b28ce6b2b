"""What a run and a plan both need first: the model's identity, the partitions, and which of them are still to be scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from scoring.admit import contracts, rows
from scoring.admit.rules import compile_rules
from scoring.engine import capacity
from scoring.models import bundle
from scoring.models.load import load
from scoring.parts import part
from scoring.release import change
from scoring.settings import Contract, Job, build
from scoring.sinks.publish import Identity, Manifest, published
from scoring.sinks.staged import refuse_clashes
from scoring.sources.discover import Found, discover
from scoring.stores import Store
from scoring.types import Partition, digest

PROVED_BYTES = 256 << 20
VERDICTS = ("limits", "min_rows", "max_rows", "freshness_hours")  # what decides whether rows go out, not what they are
FORMAT = "1"  # of published files; a new number makes old partitions differ


@dataclass(frozen=True)
class Prepared:
    """`todo` are to be scored, `standing` are published already and unchanged. `contract` is the bundle's and the job's in one."""

    identity: Identity
    lanes: capacity.LanePlan
    found: Found
    todo: tuple[Partition, ...]
    standing: tuple[Manifest, ...]
    contract: Contract


def prepare(job: Job, store: Store | None) -> Prepared:
    """Look at the bundle, the machine and the listing; open no data file. `store` is None where nothing was ever published.

    Raises:
        ConfigError: bundle, plan or path cannot work. SourceError: there is nothing to read.
        ChangedError: something that is published would be replaced without having been asked for.
    """
    model = bundle.read(job.model.bundle)
    contract = whole_contract(job.contract, model)
    _prove(job, model, contract)
    parts = identity_parts(job, model.digest)
    lanes = capacity.plan(capacity.measure(), job.hardware, job.engine)
    found = discover(job.source, part("sources", job.source.kind).SUFFIXES)
    standing = {manifest.key: manifest for manifest in (published(store) if store else ())}
    todo = tuple(p for p in found.partitions if _wanted(p, standing.get(p.key), parts, job.release.on_change))
    identity = Identity("", {"name": model.name, "version": model.version, "digest": model.digest}, parts, digest(parts))
    kept = [standing[p.key] for p in found.partitions if p not in todo]
    return Prepared(identity, lanes, found, todo, tuple(kept), contract)


def whole_contract(said: Contract, found: bundle.Bundle) -> Contract:
    """The inputs of the bundle, its contract.yaml if it has one, and what the job says. Raises: ConfigError."""
    own = build(Contract, found.contract(), str(found.folder / bundle.CONTRACT))
    return contracts.combined(Contract(columns=found.inputs), own, said)


def _prove(job: Job, found: bundle.Bundle, contract: Contract) -> None:
    """Compile the contract, and load a model of ordinary size once here, so that what cannot work is said before anything starts.

    A large model is left to the lanes, which prove it anyway.
    """
    rules = compile_rules(contract.columns, contract.coerce, contract.rules)
    contracts.check(contract, rules)
    rows.prove(rules.rows)
    if (found.folder / "weights.safetensors").stat().st_size <= PROVED_BYTES:
        refuse_clashes(job.source.carry, load(job.model.bundle, "cpu", job.model.module).outputs)


def identity_parts(job: Job, model_digest: str) -> dict[str, str]:
    """Digests of all that decides what a published row is. Batch size, lanes, devices and retries are not among it."""
    source = {k: v for k, v in asdict(job.source).items() if k not in ("path", "slice_rows")}
    model = {"digest": model_digest, "module": job.model.module}
    contract = {k: v for k, v in asdict(job.contract).items() if k not in VERDICTS}
    return {"model": digest(model), "contract": digest(contract), "source": digest(source), "format": FORMAT}


def _wanted(partition: Partition, manifest: Manifest | None, parts: dict[str, str], on_change: str) -> bool:
    published, its_input = (manifest.parts, manifest.input_digest) if manifest else (None, "")
    return change.decide(partition.key, published, its_input, parts, partition.input_digest, on_change) == "score"

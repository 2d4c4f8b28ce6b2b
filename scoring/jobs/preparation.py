"""What a run and a plan both need first: the model's identity, the partitions, and which of them are still to be scored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from importlib.util import find_spec

from scoring.admit import contracts, rows
from scoring.admit.privacy import Privacy
from scoring.admit.rules import compile_rules
from scoring.admit.treatments import described, refuse_keys, tagged
from scoring.engine import capacity
from scoring.errors import ConfigError
from scoring.jobs.suppressing import Suppressed, suppressed
from scoring.jobs.watching import baseline_of
from scoring.ledger.erasures import earlier_inputs
from scoring.models import bundle
from scoring.models.load import load
from scoring.parts import part
from scoring.release import change
from scoring.settings import Column, Contract, Job, build
from scoring.sinks.publish import Identity, Manifest, published
from scoring.sinks.staged import refuse_clashes
from scoring.sources.discover import Found, discover
from scoring.sources.slices import refuse_absent
from scoring.stores import Store
from scoring.types import Partition, digest
from scoring.watch.baseline import Baseline, fitted

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
    suppressed: Suppressed
    contract: Contract
    baseline: Baseline | None = None


def prepare(job: Job, store: Store | None) -> Prepared:
    """Look at the bundle, the machine and the listing. Opens no data file but, where columns are to be carried, the first, for its
    footer. `store` is None where nothing was ever published.

    Raises:
        ConfigError: bundle, plan, path or carried columns cannot work. SourceError: there is nothing to read.
        ChangedError: something that is published would be replaced without having been asked for.
    """
    identity, lanes, gone, contract = identify(job, store)
    parts = identity.parts
    baseline = baseline_of(job)
    fitted(baseline, contract.columns, (), job.watch, tagged(contract))
    found = discover(job.source, part("sources", job.source.kind).SUFFIXES)
    refuse_keys(contract, [p.key for p in found.partitions])
    standing = {manifest.key: manifest for manifest in (published(store) if store else ())}
    before = earlier_inputs(store, found.partitions) if store else {}
    todo = tuple(
        p for p in found.partitions if _wanted(p, standing.get(p.key), parts, job.release.on_change, before.get(p.key, ()))
    )
    if todo:
        refuse_absent(todo[0], job.source)
    kept = [standing[p.key] for p in found.partitions if p not in todo]
    return Prepared(identity, lanes, found, todo, tuple(kept), gone, contract, baseline)


def identify(job: Job, store: Store | None) -> tuple[Identity, capacity.LanePlan, Suppressed, Contract]:
    """What would make the scores, without a run id yet, on which lanes, who is left out, and the whole contract.

    Raises:
        ConfigError: bundle, contract or plan cannot work.
    """
    model = bundle.read(job.model.bundle)
    contract = whole_contract(job.contract, model)
    _prove(job, model, contract)
    parts = identity_parts(job, model.digest)
    gone = suppressed(contract, store)
    made_by = {"name": model.name, "version": model.version, "digest": model.digest}
    fingerprint = digest([parts, gone.chosen] if gone.chosen else parts)  # a run does not go on under another list of the user's
    identity = Identity("", made_by, parts, fingerprint, described(contract))
    return identity, capacity.plan(capacity.measure(), job.hardware, job.engine), gone, contract


def declared(job: Job) -> dict[str, Column]:
    """The columns that a row must have to be judged: the bundle's and the contract's."""
    return whole_contract(job.contract, bundle.read(job.model.bundle)).columns


def whole_contract(said: Contract, found: bundle.Bundle) -> Contract:
    """The inputs of the bundle, its contract.yaml if it has one, and what the job says. Raises: ConfigError."""
    own = build(Contract, found.contract(), str(found.folder / bundle.CONTRACT))
    return contracts.combined(Contract(columns=found.inputs), own, said)


def _prove(job: Job, found: bundle.Bundle, contract: Contract) -> None:
    """Compile the contract, tags and treatments too, and load a model of ordinary size once here, so that what cannot work is said
    before anything starts.

    A large model is left to the lanes, which prove it anyway.
    """
    if job.engine.kind == "ray" and job.engine.metrics_port and find_spec("opencensus") is None:
        raise ConfigError("engine.metrics_port needs ray[default], which is not installed. Install scoring[live], or leave it out.")
    rules = compile_rules(contract.columns, contract.coerce, contract.rules)
    contracts.check(contract, rules)
    rows.prove(rules.rows)
    Privacy(contract, job.source.carry)
    if (found.folder / "weights.safetensors").stat().st_size <= PROVED_BYTES:
        refuse_clashes(job.source.carry, load(job.model.bundle, "cpu", job.model.module).outputs)


def identity_parts(job: Job, model_digest: str) -> dict[str, str]:
    """Digests of all that decides what a published row is. Batch size, lanes, devices and retries are not among it."""
    source = {k: v for k, v in asdict(job.source).items() if k not in ("path", "slice_rows")}
    model = {"digest": model_digest, "module": job.model.module}
    contract = {k: v for k, v in asdict(job.contract).items() if k not in VERDICTS}
    for place in ("key_env", "suppress"):  # where things lie; who is on the list changes no row that was published
        del contract["privacy"][place]
    return {"model": digest(model), "contract": digest(contract), "source": digest(source), "format": FORMAT}


def _wanted(
    partition: Partition, manifest: Manifest | None, parts: dict[str, str], on_change: str, before: Collection[str]
) -> bool:
    """`before` are input digests that the partition had before people were erased from its files: those are no change."""
    published, its_input = (manifest.parts, manifest.input_digest) if manifest else (None, "")
    its_input = partition.input_digest if its_input in before else its_input
    return change.decide(partition.key, published, its_input, parts, partition.input_digest, on_change) == "score"

"""What a run and a plan both need first: the model's identity, the partitions, and which of them are still to be scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, tzinfo
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

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
from scoring.models.load import load_asked
from scoring.models.precision import slow_here
from scoring.parts import part
from scoring.release import change
from scoring.release.change import Decision
from scoring.release.intervals import of_key
from scoring.release.staleness import differs
from scoring.settings import Column, Contract, Job, build
from scoring.sinks.publish import Identity, Manifest, published
from scoring.sinks.staged import refuse_clashes
from scoring.sources.discover import Found, discover
from scoring.sources.guard import content_of
from scoring.sources.ready import Readiness
from scoring.sources.slices import refuse_absent
from scoring.stores import Store
from scoring.types import Partition, digest
from scoring.watch.baseline import Baseline, fitted

PROVED_BYTES = 256 << 20
VERDICTS = ("limits", "min_rows", "max_rows", "freshness_hours")  # what decides whether rows go out, not what they are
FORMAT = "1"  # of published files; a new number makes old partitions differ


@dataclass(frozen=True)
class Prepared:
    """`todo` are to be scored, by `decisions`; `standing` are published already and unchanged. `contract` is the bundle's and the
    job's in one. `unready` are not to be scored yet: key -> why.
    """

    identity: Identity
    lanes: capacity.LanePlan
    found: Found
    todo: tuple[Partition, ...]
    standing: tuple[Manifest, ...]
    suppressed: Suppressed
    contract: Contract
    baseline: Baseline | None = None
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    unready: Mapping[str, str] = field(default_factory=dict)


def prepare(job: Job, store: Store | None) -> Prepared:
    """Look at the bundle, the machine and the listing. Opens no data file but, where columns are to be carried, the first, for its
    footer. `store` is None where nothing was ever published.

    Raises:
        ConfigError: bundle, plan, path or carried columns cannot work. SourceError: there is nothing to read.
        ChangedError: something that is published would be replaced without having been asked for.
    """
    identity, lanes, gone, contract = identify(job, store)
    found = discover(job.source, part("sources", job.source.kind).SUFFIXES)
    baseline = checked(job, contract, found.partitions)
    stood = {manifest.key: manifest for manifest in (published(store) if store else ())}
    found = replace(found, partitions=fingerprinted(job, found.partitions, stood))
    standing = standing_of(store, found.partitions, stood)
    wanted = tuple(p for p in found.partitions if _wanted(p, standing.get(p.key), identity.parts, job.release.on_change))
    unready = not_ready(job, wanted)
    todo = tuple(p for p in wanted if p.key not in unready)
    if todo:
        refuse_absent(todo[0], job.source)
    kept = tuple(standing[p.key].manifest for p in found.partitions if p not in wanted)
    decisions = {p.key: decided(p, standing.get(p.key), identity.parts) for p in todo}
    return Prepared(identity, lanes, found, todo, kept, gone, contract, baseline, decisions, unready)


@dataclass(frozen=True)
class Published:
    """`made_of` is the digest of the input that the newest version counts as made of: that of now, if only erasures changed it."""

    manifest: Manifest
    made_of: str


def fingerprinted(job: Job, partitions: Sequence[Partition], stood: Mapping[str, Manifest]) -> tuple[Partition, ...]:
    """With the digests of their files, where `source.fingerprint` says so. A file is read only if nothing was published of it in
    this version. Raises: SourceError: a file cannot be read.
    """
    if job.source.fingerprint == "stat":
        return tuple(partitions)
    found = []
    for partition in partitions:
        known = _contents(stood.get(partition.key))
        files = (replace(f, content=known.get((f.path, f.version)) or content_of(f)) for f in partition.files)
        found.append(replace(partition, files=tuple(files)))
    return tuple(found)


def standing_of(store: Store | None, partitions: Sequence[Partition], stood: Mapping[str, Manifest]) -> dict[str, Published]:
    """What is published, by key; of partitions without input too. `stood` are the manifests."""
    known = {path: content for manifest in stood.values() for path, content in _contents(manifest).items()}
    before = earlier_inputs(store, partitions, known) if store else {}
    same = {p.key: {_by_stat(p), p.input_digest, *before.get(p.key, ())} for p in partitions}
    inputs = {p.key: p.input_digest for p in partitions}
    return {
        key: Published(manifest, inputs[key] if manifest.input_digest in same.get(key, ()) else manifest.input_digest)
        for key, manifest in stood.items()
    }


def _contents(manifest: Manifest | None) -> dict[tuple[str, str], str]:
    return {(path, version): content for path, version, content in (manifest.inputs if manifest else ())}


def _by_stat(partition: Partition) -> str:
    """The digest that it has where files are told apart by size and time."""
    return replace(partition, files=tuple(replace(file, content="") for file in partition.files)).input_digest


def checked(job: Job, contract: Contract, partitions: Sequence[Partition]) -> Baseline | None:
    """The baseline. Raises: ConfigError: it does not fit, or a partition key holds personal data."""
    baseline = baseline_of(job)
    fitted(baseline, contract.columns, (), job.watch, tagged(contract))
    refuse_keys(contract, [p.key for p in partitions])
    return baseline


def not_ready(job: Job, partitions: Sequence[Partition], where: tzinfo = UTC) -> dict[str, str]:
    """Partitions that are not to be scored yet, and why. Raises: ConfigError: a rule of `source.ready` cannot be judged."""
    rules = Readiness(job.source)
    ends = {p.key: of_key(p.key, where) for p in partitions}
    found = {p.key: rules.lacking(p, named[1].end if (named := ends[p.key]) else None) for p in partitions}
    return {key: why for key, why in found.items() if why}


def decided(partition: Partition, standing: Published | None, parts: Mapping[str, str]) -> Decision:
    """To score it in place of what stands."""
    if standing is None:
        return Decision()
    why = differs(standing.manifest.parts, standing.made_of, parts, partition.input_digest)
    return Decision(standing.manifest.version, why)


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
    return identity, _lanes(job), gone, contract


def _lanes(job: Job) -> capacity.LanePlan:
    lanes = capacity.plan(capacity.measure(), job.hardware, job.engine)
    why = () if capacity.on_cuda(lanes.kind, job.hardware) else slow_here(job.model.precision)
    return replace(lanes, reasons=(*lanes.reasons, *why))


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
        refuse_clashes(job.source.carry, load_asked(job.model).outputs)


def identity_parts(job: Job, model_digest: str) -> dict[str, str]:
    """Digests of all that decides what a published row is. Batch size, lanes, devices and retries are not among it."""
    source = {k: v for k, v in asdict(job.source).items() if k not in ("path", "slice_rows", "ready", "fingerprint")}
    model = {"digest": model_digest, "module": job.model.module}
    contract = {k: v for k, v in asdict(job.contract).items() if k not in VERDICTS}
    for place in ("key_env", "suppress"):  # where things lie; who is on the list changes no row that was published
        del contract["privacy"][place]
    parts = {"model": digest(model), "contract": digest(contract), "source": digest(source), "format": FORMAT}
    parts |= {"precision": job.model.precision} if job.model.precision != "auto" else {}  # published before there was a choice
    return parts | ({"code": _code(job.model.module)} if job.model.module else {})


def _wanted(partition: Partition, standing: Published | None, parts: dict[str, str], on_change: str) -> bool:
    made_by, made_of = (standing.manifest.parts, standing.made_of) if standing else (None, "")
    return change.decide(partition.key, made_by, made_of, parts, partition.input_digest, on_change) == "score"


def _code(module: str) -> str:
    """Digest of the file that holds a model's class; what that file imports is not in it. "" where it is no file."""
    spec = find_spec(module.partition(":")[0])
    path = Path(spec.origin) if spec and spec.origin else None
    return sha256(path.read_bytes()).hexdigest() if path and path.is_file() else ""

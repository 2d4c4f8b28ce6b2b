"""Were these scores made of these inputs by this model, and would they come out again today? Scores a sample of a run's published
rows again, on this machine, and says how many are bit-equal, within tolerance or different, and which of model, contract, code,
environment, device and data changed. Reads only: nothing is written, to the ledger neither.

A difference is laid to a part by exchanging it, where both forms are at hand: the bundle that the run used for the one that was
named, the CPU for a GPU. The rest stands on what was recorded; `ledger/replay/causes.py` says how.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from scoring.engine import capacity
from scoring.engine.environment import computing
from scoring.engine.rescore import Rescorer
from scoring.errors import ModelError, SourceError, UsageError
from scoring.jobs.arguments import Given
from scoring.jobs.replay_rows import Comparison, Example, Skipped, compared
from scoring.jobs.replay_scope import Kept, Scope, cores, people, rebuilt, recorded, refuse_other_code, scope, with_bundle
from scoring.jobs.workspace import existing
from scoring.ledger.replay.causes import Cause, Fact, Outcome, Swap, causes, fact
from scoring.ledger.replay.sample import spans
from scoring.ledger.replay.scores import Distance
from scoring.models import bundle
from scoring.pool import LaneKind
from scoring.respond.manual import clean
from scoring.settings import Job

SAMPLE = 10_000
_DIFFERENT, _GONE = 65, 69
_CODE, _DEVICE = ("scoring", "code"), ("kernels",)  # of what a file says of its environment
_SHOWN = 12


@dataclass(frozen=True)
class Sample:
    """`asked` rows of the `published` ones of the run; `taken` are in the sample, `files` hold some of them."""

    asked: int
    published: int
    taken: int
    files: int


@dataclass(frozen=True)
class Replay:
    """`status`: reproduced (every row bit-equal), within-tolerance, different, or not-compared. `now_quarantined` counts rows that
    had a score by why they have none now, `now_scored` the reverse, `missing` published rows that no row of the input stands for;
    `columns` are in one of both alone. `carried` counts rows whose copied columns differ (they are different, whatever their
    scores), `treated` those whose pseudonyms, masks or intervals do (they are not: another key makes other pseudonyms).
    """

    run_id: str
    status: str
    message: str
    device: str
    tolerance: dict[str, float]
    sample: Sample
    rows: Outcome = field(default_factory=Outcome)
    outputs: tuple[Distance, ...] = ()
    now_quarantined: dict[str, int] = field(default_factory=dict)
    now_scored: int = 0
    missing: int = 0
    carried: int = 0
    treated: int = 0
    columns: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    swaps: tuple[Swap, ...] = ()
    causes: tuple[Cause, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()


def replay(
    workspace: str, run_id: str, kept: Kept, sample: int = SAMPLE, partition: str | None = None, other: str | None = None
) -> Replay:
    """`other` is a bundle to score with in place of the run's.

    Raises:
        ConfigError: there is no such run, or it published nothing. SourceError: the bundle is gone. StoreError: the workspace
        cannot be read. TemporaryError: the device cannot score now.
    """
    store = existing(workspace)
    found = scope(store, run_id, partition, kept)
    refuse_other_code(found)
    return _Pass(found, sample, other).result()


class _Pass:
    """Use once: `result`."""

    def __init__(self, found: Scope, sample: int, other: str | None) -> None:
        self._scope = found
        self._machine = capacity.measure()
        self._bundle = _read(other or found.asked.model.bundle)
        self._recorded = found.parts[0].own.model["digest"]
        self._job = with_bundle(_here(found, self._machine), self._bundle)
        rows = [file.rows for _, file in found.files]
        self._spans = spans(rows, sample, found.run_id)
        taken = sum(stop - start for mine in self._spans for start, stop in mine)
        self._sample = Sample(sample, sum(rows), taken, sum(bool(mine) for mine in self._spans))
        self._people = people(found.store, found.run_id, self._job.contract)

    def result(self) -> Replay:
        try:
            rescorer = self._rescorer(self._job, self._kind())
        except ModelError as error:
            return self._refused(error)
        found = compared(self._scope, rescorer, self._spans)
        facts = (*self._identity(), *self._environment(found, rescorer), *_data(found))
        swaps = () if found.outcome.perfect else tuple(self._swaps(rescorer))
        judged = causes(facts, found.outcome, found.carried, swaps)
        status = _status(found)
        return Replay(
            run_id=self._scope.run_id,
            status=status,
            message=_message(status, found, judged),
            device=rescorer.device,
            tolerance=dict(rescorer.model.tolerance),
            sample=self._sample,
            rows=found.outcome,
            outputs=tuple(found.distances.values()),
            now_quarantined=dict(found.now_lost),
            now_scored=found.now_scored,
            missing=found.missing,
            carried=found.carried,
            treated=found.treated,
            columns=tuple(sorted(found.absent)),
            facts=facts,
            swaps=swaps,
            causes=judged,
            inputs={path: now for path, now in sorted(found.inputs.items()) if now != "same"},
            skipped=tuple(found.skipped),
            examples=tuple(found.examples),
            notes=self._scope.notes,
        )

    def _kind(self) -> LaneKind:
        return capacity.plan(self._machine, self._job.hardware, self._job.engine).kind

    def _rescorer(self, job: Job, kind: LaneKind) -> Rescorer:
        return Rescorer(job, self._scope.store, kind, cores(self._scope.asked, self._machine), self._people)

    def _refused(self, error: ModelError) -> Replay:
        """The bundle cannot be used. If it is the run's to the bit, that is an answer, too.

        Raises: SourceError: it is another, or damaged.
        """
        if self._bundle.digest != self._recorded:
            raise SourceError(f"{str(error).rstrip('.')}. The run used another bundle: name it, bundle=….") from None
        why = f"the bundle is the run's to the bit, and refuses to score here: {str(error).rstrip('.')}"
        cause = Cause("environment", "shown", why)
        tolerance = dict(self._bundle.tolerance)
        facts = tuple(self._identity())
        return Replay(self._scope.run_id, "different", why, "", tolerance, self._sample, facts=facts, causes=(cause,))

    def _swaps(self, rescorer: Rescorer) -> Iterator[Swap]:
        """The sample again, one part exchanged, where both forms of it are here."""
        before = _there(self._scope.asked.model.bundle)
        if before is not None and before.digest == self._recorded != self._bundle.digest:
            job = with_bundle(_here(self._scope, self._machine), before)
            yield self._swap("model", "with the bundle that the run used", job, self._kind())
        if rescorer.flow.scorer.device.route == "gpu":
            yield self._swap("device", "on the CPU of this machine", self._job, "cpu")

    def _swap(self, part: str, said: str, job: Job, kind: LaneKind) -> Swap:
        found = compared(self._scope, self._rescorer(job, kind), self._spans)
        return Swap(part, said, found.outcome)  # type: ignore[arg-type]

    def _identity(self) -> Iterator[Fact]:
        yield fact("model", "bundle", self._recorded, self._bundle.digest)
        now = rebuilt(self._scope)
        for name, said in (("contract", "contract"), ("source", "settings of the source")):
            then = recorded(self._scope, name)
            yield fact("contract", said, " ".join(sorted(then)), now[name])

    def _environment(self, found: Comparison, rescorer: Rescorer) -> Iterator[Fact]:
        now = computing()
        for name in now:
            then = ", ".join(sorted(found.made.get(name, ())))
            part = "code" if name in _CODE else "device" if name in _DEVICE else "environment"
            if then or now[name]:
                yield fact(part, name, then, now[name])  # type: ignore[arg-type]
        yield fact("device", "device", ", ".join(sorted(found.devices)), rescorer.device)
        routes = sorted(route for route, rows in found.routes.items() if rows)
        yield fact("device", "route", ", ".join(routes), rescorer.flow.scorer.device.route)


def _here(found: Scope, machine: capacity.Machine) -> Scope:
    """Where the run had a GPU and this machine has none, its CPU is the device."""
    if found.job.hardware.device != "cuda" or machine.gpus:
        return found
    return replace(found, job=replace(found.job, hardware=replace(found.job.hardware, device="auto")))


def _read(folder: str) -> bundle.Bundle:
    try:
        return bundle.read(Path(folder).expanduser())
    except ModelError as error:
        relative = "" if Path(folder).is_absolute() else " The run named it from the folder it was started in."
        raise SourceError(f"{str(error).rstrip('.')}.{relative} Name where the bundle lies now: bundle=….") from None


def _there(folder: str) -> bundle.Bundle | None:
    try:
        return bundle.read(Path(folder).expanduser())
    except ModelError:
        return None


def _data(found: Comparison) -> Iterator[Fact]:
    """Input files by size and time (of a requeue, by digest), and the published files by digest."""
    others = {state: [p for p, now in sorted(found.inputs.items()) if now == state] for state in ("changed", "gone")}
    said = "; ".join(f"{len(paths)} {state}: {paths[0]}" for state, paths in others.items() if paths)
    yield Fact("data", "input files", f"{len(found.inputs)} files", said or "as they were", "changed" if said else "same")
    altered = sorted(found.altered)
    now = f"other bytes: {altered[0]}" if altered else "as they were"
    yield Fact("published file", "published files", "by digest", now, "changed" if altered else "same")


def _status(found: Comparison) -> str:
    if found.outcome.apart:
        return "different"
    if not found.compared:
        return "not-compared"
    return "within-tolerance" if found.within else "reproduced"


def _message(status: str, found: Comparison, judged: tuple[Cause, ...]) -> str:
    """One sentence."""
    left = sum(one.rows for one in found.skipped)
    rest = f" {left:,} rows of the sample could not be compared." if left and found.compared else ""
    if status == "not-compared":
        return f"Nothing could be compared: {found.skipped[0].why}." if found.skipped else "Nothing could be compared."
    said = f"All of {found.compared:,} rows are bit-equal." if status == "reproduced" else _apart(status, found)
    return said + rest + (f" {_laid_to(judged)}" if judged else "")


def _apart(status: str, found: Comparison) -> str:
    if status == "within-tolerance":
        return f"All of {found.compared:,} rows are within tolerance, {found.bit_equal:,} of them bit-equal."
    return f"{found.outcome.apart:,} of {found.compared + found.outcome.admitted + found.missing:,} rows are different."


def _laid_to(judged: tuple[Cause, ...]) -> str:
    for verdict, said in (("shown", "It is due to the {}."), ("likely", "It is probably due to the {}.")):
        if parts := [cause.part for cause in judged if cause.verdict == verdict]:
            return said.format(" and the ".join(parts))
    possible = [cause.part for cause in judged if cause.verdict == "possible"]
    if not possible:
        return "Nothing that is recorded has changed: what differs is not recorded, or the computation is not deterministic."
    return f"It may be due to the {' or the '.join(possible)}; which of them cannot be told here."


def code(found: Replay) -> int:
    """0: all within tolerance; 65: different; 69: inputs are gone, or nothing could be compared."""
    if found.status == "different":
        return _DIFFERENT
    return _GONE if found.status == "not-compared" or any(one.gone for one in found.skipped) else 0


def command(given: Given, kept: Kept) -> tuple[Replay, int]:
    """Raises: UsageError: no sample; and what `replay` raises."""
    workspace, run_id = given.needed("workspace"), given.needed("run")
    sample = given.number("sample", SAMPLE)
    if not sample:
        raise UsageError("sample=0 compares nothing. Say how many rows, sample=10000.")
    found = replay(workspace, run_id, kept, sample, given.get("partition"), given.get("bundle"))
    return found, code(found)


def render(found: Replay) -> str:
    of, rows = found.sample, found.rows
    lines = [f"{found.status}: run {found.run_id}", found.message]
    lines += [
        f"sample: {of.taken:,} of {of.published:,} published rows, in {of.files} file(s), scored on {found.device or 'nothing'}"
    ]
    lines += [f"rows: {rows.bit_equal:,} bit-equal, {rows.within:,} within tolerance, {rows.different:,} different"]
    lines += [f"  {n:>10,}  scored then, quarantined now: {why}" for why, n in sorted(found.now_quarantined.items())]
    lines += [f"  {found.now_scored:>10,}  quarantined then, scored now"] if found.now_scored else []
    lines += [f"  {found.missing:>10,}  published, and no row of the input stands for them"] if found.missing else []
    lines += [f"  {found.carried:>10,}  with other values in columns that are only copied"] if found.carried else []
    lines += [f"  {found.treated:>10,}  with other pseudonyms, masks or intervals; another key?"] if found.treated else []
    lines += [f"columns on one side only: {', '.join(found.columns)}"] if found.columns else []
    lines += [_distance(one) for one in found.outputs if one.within or one.different]
    changed = [one for one in found.facts if one.state != "same"]
    lines += [f"{one.state}: {one.name}: {one.then or 'not recorded'} -> {one.now or 'none'}" for one in changed]
    lines += ["unchanged, by what is recorded: " + ", ".join(one.name for one in found.facts if one.state == "same")]
    lines += [f"{one.verdict}: {one.part}: {one.why}" for one in found.causes if one.verdict != "excluded"]
    excluded = [one.part for one in found.causes if one.verdict == "excluded"]
    lines += [f"excluded: {', '.join(excluded)}"] if excluded else []
    lines += [f"not compared: {one.rows:,} rows of {one.file}: {one.why}" for one in found.skipped[:_SHOWN]]
    lines += [f"  {one.file} row {one.row}: {one.what}" for one in found.examples[:_SHOWN]]
    lines += [f"note: {note}" for note in found.notes[:_SHOWN]]
    return "\n".join(clean(line, most=500) for line in lines)


def _distance(one: Distance) -> str:
    most = f"at most {one.max_abs:.3g} absolute, {one.max_rel:.3g} relative, {one.max_ulp:,} ULP"
    return f"  {one.name}: {one.within:,} within, {one.different:,} different; {most}"

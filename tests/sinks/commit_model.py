"""Exhaustive search of the commit protocols: every interleaving of attempts, drivers, crashes, stalls and lost replies.

`stage(protocol)` explores one slice: up to three attempts, any of which may stop for ever, wake later, or die anywhere; a driver
that starts attempts without trusting liveness, dies once, resumes, and writes a manifest. `publish(protocol)` explores one
partition: two runs that publish a version each and a third process that repairs. Every store operation may fail, or take effect and
report failure. Both return the first broken promise and the number of states, or None and all of them.

The real protocol is "ours"; "ours in a bucket" is the same where nobody can be made to wait, and only manifests are promised.
The others are what one might have written instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

ATTEMPTS = 3

STAGE_MUTANTS = (
    "rename over",
    "check then rename",
    "unique names and a marker",
    "exclusive create, then write",
    "streaming writer closes on error",
    "quarantine after data",
    "exists means lost",
    "manifest before files",
)
PUBLISH_MUTANTS = ("show before manifest", "link into the live folder", "repair what was read long ago", "overwrite the manifest")
BUCKETS = ("ours in a bucket", "overwrite the manifest")


@dataclass(frozen=True)
class Slice:
    """`data` is (attempt, complete) at the one staged name, `loose` attempts with files of their own names, `rejects` attempts
    whose quarantine file is durable, `manifest` the attempt it names."""

    data: tuple[int, bool] | None = None
    loose: frozenset[int] = frozenset()
    rejects: frozenset[int] = frozenset()
    manifest: int | None = None
    at: tuple[str, ...] = ()
    driver: str = "run"
    deaths: int = 0


def stage(protocol: str) -> tuple[str | None, int]:
    return _search(Slice(), lambda s: _stage_steps(protocol, s), _stage_promise)


def _stage_steps(protocol: str, s: Slice) -> Iterator[Slice]:
    for n in range(len(s.at)):
        yield from _attempt_steps(protocol, s, n)
    if s.driver != "run":
        return
    if len(s.at) < ATTEMPTS:
        yield replace(s, at=(*s.at, "begin"))  # at any time: liveness is not trusted
    if s.deaths < 1:
        yield replace(s, deaths=s.deaths + 1)
    named = s.data[0] if s.data else min(s.loose, default=None)
    if protocol == "manifest before files" and s.at:
        named = 0
    if named is not None and s.manifest is None:
        yield replace(s, manifest=named, driver="done")
        yield replace(s, manifest=named)  # it took effect, and the driver was told otherwise
    elif named is not None:
        yield replace(s, driver="done")


def _attempt_steps(protocol: str, s: Slice, n: int) -> Iterator[Slice]:
    def go(to: str, **changes: object) -> Slice:
        return replace(s, at=(*s.at[:n], to, *s.at[n + 1 :]), **changes)

    at, late = s.at[n], protocol == "quarantine after data"
    if at not in ("dead", "done"):
        yield go("dead")
    if at == "begin":
        yield go("data" if late else "rejects")
        if protocol == "streaming writer closes on error" and s.data is None:
            yield go("done", data=(n, False))
    elif at == "rejects":
        yield go("done" if late else "data", rejects=s.rejects | {n})
        yield go("rejects")
        yield go("rejects", rejects=s.rejects | {n})
    elif at == "data":
        yield from _data_steps(protocol, s, n, go, "rejects" if late else "done")
    elif at in ("rename", "fill"):
        yield go("done", data=(n, True))
    elif at == "lost":
        yield go("done", rejects=s.rejects - {n})
        yield go("done")


def _data_steps(protocol: str, s: Slice, n: int, go: Callable[..., Slice], after: str) -> Iterator[Slice]:
    yield go("data")  # the operation failed, nothing happened
    if protocol == "rename over":
        yield go(after, data=(n, True))
        yield go("data", data=(n, True))
    elif protocol == "check then rename":
        yield go("lost" if s.data else "rename")
    elif protocol == "unique names and a marker":
        yield go(after, loose=s.loose | {n})
    elif protocol == "exclusive create, then write":
        yield go("lost") if s.data else go("fill", data=(n, False))
    elif s.data is None:  # put-if-absent of a complete object
        yield go(after, data=(n, True))
        yield go("data", data=(n, True))
    else:
        own = s.data[0] == n and protocol != "exists means lost"
        yield go(after if own else "lost")


def _stage_promise(before: Slice, s: Slice) -> str | None:
    stuck = len(s.at) == ATTEMPTS and all(a in ("dead", "done") for a in s.at)
    if before.data and before.data[1] and s.data != before.data:
        return "a committed object changed"
    if s.data and not s.data[1] and (s.manifest is not None or stuck):
        return "an incomplete object has the name"
    if s.manifest is not None and s.manifest not in (s.loose | {s.data[0] if s.data else None}):
        return "the manifest names what is not there"
    if len(s.loose) > 1:
        return "two copies of a slice are visible"
    if s.data and s.data[1] and s.data[0] not in s.rejects:
        return "quarantined rows are gone"
    return None


@dataclass(frozen=True)
class Publication:
    """`manifests` maps version to run (0: nobody yet), `shown` is the version in the public folder (0 none, -1 a mix).

    A run is (place, version it is after); `turn` is who holds the publishing turn.
    """

    manifests: tuple[int, ...] = ()
    shown: int = 0
    runs: tuple[tuple[str, int], ...] = (("begin", 0), ("begin", 0), ("repair", 0))
    turn: int | None = None


def publish(protocol: str) -> tuple[str | None, int]:
    promise = _manifests_stand if protocol in BUCKETS else _publish_promise
    return _search(Publication(), lambda s: _publish_steps(protocol, s), promise)


def _publish_steps(protocol: str, s: Publication) -> Iterator[Publication]:
    turnless = protocol in ("repair what was read long ago", *BUCKETS)
    for n, (at, version) in enumerate(s.runs):

        def go(to: str, after: int = version, n: int = n, **changes: object) -> Publication:
            return replace(s, runs=(*s.runs[:n], (to, after), *s.runs[n + 1 :]), **changes)

        freed = None if s.turn == n else s.turn
        if at not in ("dead", "done"):
            yield go("dead", turn=freed)  # the kernel frees the turn
        if at == "repair" and s.manifests and (turnless or s.turn is None):
            yield go("show", len(s.manifests), turn=s.turn if turnless else n)
        elif at == "begin" and (turnless or s.turn is None):
            first = "show" if protocol == "show before manifest" else "commit"
            yield go(first, len(s.manifests) + 1, turn=s.turn if turnless else n)
        elif at == "commit":
            yield from _commit_steps(protocol, s, n, version, go, freed)
        elif at == "show" and protocol == "link into the live folder" and s.shown not in (0, -1, version):
            yield go("show", shown=-1)
        elif at == "show":
            uncommitted = protocol == "show before manifest" and len(s.manifests) < version
            yield go("commit" if uncommitted else "done", shown=version, turn=freed)
            yield go("show")


def _commit_steps(
    protocol: str, s: Publication, n: int, version: int, go: Callable[..., Publication], freed: int | None
) -> Iterator[Publication]:
    yield go("commit")
    taken = len(s.manifests) >= version
    if not taken or protocol == "overwrite the manifest":
        written = (*s.manifests[: version - 1], n + 1)
        yield go("show", manifests=written)
        yield go("commit", manifests=written)  # it took effect, and the run was told otherwise
    elif s.manifests[version - 1] == n + 1:
        yield go("show")
    else:
        yield go("done", turn=freed)  # another run's version: busy, run again


def _publish_promise(before: Publication, s: Publication) -> str | None:
    if s.shown == -1:
        return "readers see two versions mixed"
    if s.shown > len(s.manifests):
        return "readers see what was never committed"
    if s.shown < before.shown:
        return "readers see an old version again"
    return _manifests_stand(before, s)


def _manifests_stand(before: Publication, s: Publication) -> str | None:
    return None if s.manifests[: len(before.manifests)] == before.manifests else "a committed manifest changed"


def _search(start, steps, promise) -> tuple[str | None, int]:  # type: ignore[no-untyped-def]
    seen, todo = {start}, deque([start])
    while todo:
        state = todo.popleft()
        for following in steps(state):
            if broken := promise(state, following):
                return broken, len(seen)
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return None, len(seen)

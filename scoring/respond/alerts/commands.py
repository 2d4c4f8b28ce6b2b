"""Commands that show what an alert is about and those that mend it, as a shell takes them: in the alert, not in a manual."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from scoring.respond.alerts.matching import Hit
from scoring.respond.alerts.rules import Rule
from scoring.respond.story import Story

_MOST_HELD = 3
_ROWS = ("contract:*", "bad_rows", "bad_share", "quarantine_mix")
_FILES = ("bad_files", "readable", "contract:schema:*")
_DATA = ("drift", "score_drift", "null_rate", "history", "contract:min_rows", "contract:max_rows", "contract:freshness")


@dataclass(frozen=True)
class Said:
    """The command line of a run, and the folder it was said in. `words` are () where nobody knows any more."""

    words: tuple[str, ...] = ()
    folder: str = ""


def commands(rule: Rule, hit: Hit, story: Story, said: Said) -> Iterator[tuple[str, str]]:
    """(why, command): first the one that shows it, then those that mend it."""
    place, run = shlex.quote(f"workspace={story.workspace}"), shlex.quote(str(story.record["run_id"]))
    check = hit.labels.get("check", "")
    yield "what happened", f"scoring report {run} {place}"
    if rule.run:
        yield from _of_a_run(story, said, place, run)
        return
    held = {p.key for p in story.partitions if p.status == "held"} & set(hit.partitions)
    yield from _held(sorted(held), place, run)
    lost = _any(_FILES, check)
    if _published(story, hit) and not lost and (_any(_ROWS, check) or rule.metric.startswith("scoring_quarantined")):
        yield "rows by rule, and samples", f"scoring quarantine {place} run={run}"
        yield "let in what is good under a mended contract", _again(story, said, "requeue", f"run={run}")
    if lost or _any(_DATA, check) or rule.metric in ("scoring_drift_ratio", "scoring_null_ratio"):
        yield "score again when the data are mended", _again(story, said, "run", "release.on_change=rescore")
    if _any(_DATA[:4], check) and story.asked:
        source, bundle = shlex.quote(story.asked["source"]["path"]), shlex.quote(f"bundle={story.asked['bundle']}")
        yield "if this is how the data are from now on: count a new baseline", f"scoring baseline {source} {bundle}"


def _published(story: Story, hit: Hit) -> bool:
    """Whether rows of it are in a quarantine that can be shown: that of a partition that is held is not published either."""
    return any(p.status.startswith("published") and (not hit.partitions or p.key in hit.partitions) for p in story.partitions)


def _of_a_run(story: Story, said: Said, place: str, run: str) -> Iterator[tuple[str, str]]:
    held = [p.key for p in story.partitions if p.status == "held"]
    if held:
        yield from _held(held, place, run)
        yield "score again when the data are mended", _again(story, said, "run", "release.on_change=rescore")
    else:
        yield "go on where it stopped", _again(story, said, "")


def _held(keys: Sequence[str], place: str, run: str) -> Iterator[tuple[str, str]]:
    for key in keys[:_MOST_HELD]:
        one = f"scoring release-held {run} {shlex.quote(key)} {place} --reason=…"
        yield f"publish {key} as it was staged", one
        yield f"or drop {key}: the next run scores it afresh", f"{one} --discard"


def _again(story: Story, said: Said, verb: str, *more: str) -> str:
    """The line of the run, said with `verb` and `more`; "": as it was. Where it is not known, what every run needs."""
    words = list(said.words)
    if not words or (verb and words[0] not in ("run", verb)):
        words = ["run", *_least(story)]
    names = {one.partition("=")[0] for one in more}
    kept = [word for word in words[1:] if word.partition("=")[0] not in names]
    line = shlex.join(["scoring", verb or words[0], *kept, *more])
    return f"cd {shlex.quote(said.folder)} && {line}" if said.folder and said.words else line


def _least(story: Story) -> list[str]:
    source = story.asked.get("source", {"kind": "…", "path": "…"})
    found = {"source": source["kind"], "source.path": source["path"], "model.bundle": story.asked.get("bundle", "…")}
    return [f"{name}={value}" for name, value in found.items()] + [f"workspace={story.workspace}"]


def _any(globs: Sequence[str], name: str) -> bool:
    return bool(name) and any(fnmatchcase(name, glob) for glob in globs)

"""What --help says is what there is: every verb, group and setting, each with its meaning."""

import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest

from scoring.respond.manual import GROUPS, choices, manual, paths, usage
from scoring.respond.verbs import VERBS
from scoring.settings import Job


def leaves(cls, before=""):
    for field in fields(cls):
        hint = get_type_hints(cls)[field.name]
        yield from leaves(hint, f"{before}{field.name}.") if is_dataclass(hint) else [f"{before}{field.name}"]


@pytest.mark.parametrize("path", list(leaves(Job)))
def test_every_setting_is_there_once_with_its_meaning(path):
    (line,) = re.findall(rf"^  {re.escape(path)} .*$", manual("run"), re.MULTILINE)
    meaning = line.removeprefix(f"  {path}").strip().split("  ")[-1]
    assert len(meaning.split()) >= 3, f"{path} has no comment in conf/"
    assert path in paths(Job)


def test_groups_are_those_of_the_job_and_the_default_is_shown():
    assert set(GROUPS) == {f.name for f in fields(Job) if is_dataclass(get_type_hints(Job)[f.name])} | {"job"}
    assert re.search(r"^  engine     inline, ray$", manual("run"), re.MULTILINE)
    assert re.search(r"^  engine\.kind +ray ", manual("run"), re.MULTILINE)
    assert choices("source") == ["csv", "ipc", "jsonl", "parquet"]


def test_all_verbs_are_listed():
    wide = max(map(len, VERBS))
    assert [line[10:].partition(one.said)[0] for line, one in zip(usage().splitlines()[1:-1], VERBS.values(), strict=True)] == [
        f"{verb:{wide}} " for verb in VERBS
    ]
    assert manual("verify") == f"scoring verify: {VERBS['verify'].said}\n  scoring verify workspace=…"

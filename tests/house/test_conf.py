"""conf/ and scoring/settings say the same: every YAML composes and builds, no key is missing or strange, defaults agree."""

from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from scoring.__main__ import settings
from scoring.settings import Job

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {f.name: get_type_hints(Job)[f.name] for f in fields(Job) if is_dataclass(get_type_hints(Job)[f.name])}
OPTIONS = sorted((p.parent.name, p.stem) for p in CONF.glob("*/*.yaml"))
OF_GROUPS = [o for o in OPTIONS if o[0] in GROUPS]
GIVEN = {"source": "parquet", "source.path": "in", "model.bundle": "bundle", "workspace": "out"}
OF_ONE_KIND = {"source": {"csv"}}  # settings that only one option of the group has
CHOSEN = {
    k.split()[-1]: v
    for entry in yaml.safe_load((CONF / "run.yaml").read_text())["defaults"]
    if isinstance(entry, dict)
    for k, v in entry.items()
}


def read(group, option):
    return yaml.safe_load((CONF / group / f"{option}.yaml").read_text())


def defaults(cls):
    """What scoring/settings says where nothing is said, as plain values; "???" where it has to be said."""
    found = {}
    for field in fields(cls):
        given = field.default if field.default_factory is MISSING else field.default_factory()
        found[field.name] = "???" if given is MISSING else plain(given)
    return found


def plain(value):
    """As YAML would hold it."""
    if is_dataclass(value) or isinstance(value, dict):
        return {k: plain(v) for k, v in (value if isinstance(value, dict) else asdict(value)).items()}
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def keys(value, prefix=""):
    """Dotted paths of all leaves; an empty mapping is a leaf."""
    if not isinstance(value, dict) or not value:
        return {prefix.rstrip(".")}
    return set().union(*(keys(v, f"{prefix}{k}.") for k, v in value.items()))


def test_conf_is_where_the_tests_look():
    assert {group for group, _ in OPTIONS} == {*GROUPS, "job"}
    assert (CONF / "__init__.py").exists(), "Hydra finds groups of a wheel only in a regular package"


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=map("/".join, OPTIONS))
def test_every_option_composes_and_builds(group, option):
    job, written = settings([f"{k}={v}" for k, v in (GIVEN | {group: option}).items()], None)
    assert isinstance(job, Job)
    assert job.source.path == "in"
    if group in GROUPS:
        assert plain(getattr(job, group)) == filled(group, read(group, option))
    assert yaml.safe_load(written)["workspace"] == "out"


def filled(group, said):
    """What the YAML says, with settings' own defaults for what it leaves out and the values that this test gives."""
    given = {k.partition(".")[2]: v for k, v in GIVEN.items() if k.startswith(f"{group}.")}
    return defaults(GROUPS[group]) | said | given


@pytest.mark.parametrize(("group", "option"), OF_GROUPS, ids=map("/".join, OF_GROUPS))
def test_a_yaml_has_every_setting_and_no_other(group, option):
    free = OF_ONE_KIND.get(group, set()) - {option}
    wanted = {k for k in keys(defaults(GROUPS[group])) if k.partition(".")[0] not in free}
    assert keys(read(group, option)) == wanted


@pytest.mark.parametrize(("group", "option"), OF_GROUPS, ids=map("/".join, OF_GROUPS))
def test_defaults_agree_with_settings(group, option):
    """The option that run.yaml chooses, and every source, says what scoring/settings says; the others are there to differ."""
    said, meant = read(group, option), defaults(GROUPS[group])
    differing = {k for k in said if said[k] != meant[k] and meant[k] != "???"}
    if group == "source" or CHOSEN[group] == option:
        assert not differing
    else:
        assert differing, f"{group}/{option} says nothing that {CHOSEN[group]} does not"


def test_the_whole_job_has_no_setting_without_a_place():
    said = yaml.safe_load((CONF / "run.yaml").read_text())
    own = {k for k in said if k not in ("defaults", "hydra")}
    assert own == {f.name for f in fields(Job)} - set(GROUPS)
    assert set(GROUPS) == {k for k in CHOSEN if k in GROUPS}
    assert said["run_id"] == defaults(Job)["run_id"]


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.relative_to(CONF).as_posix())
def test_no_configuration_names_code(path):
    """Parts are chosen by name; nothing in conf/ may be executed or resolved, the environment excepted."""
    text = path.read_text()
    assert "_target_" not in text
    assert all(tail.startswith("oc.env:") for tail in text.split("${")[1:])

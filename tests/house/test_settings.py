"""What `build` refuses, in one line that names the key; what it lets through is exactly what was said."""

import dataclasses
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import ConfigError
from scoring.settings import Job, Within, build

LEAST = {"workspace": "w", "source": {"kind": "csv", "path": "x"}, "model": {"bundle": "b"}}


def nested(path, value):
    """{"engine": {"lanes": 2}} for "engine.lanes", within a job that has all it needs."""
    first, *rest = path.split(".")
    inner = value
    for key in reversed(rest):
        inner = {key: inner}
    return LEAST | {first: {**LEAST[first], **inner} if first in LEAST and isinstance(inner, dict) else inner}


def bounded(cls=Job, prefix=""):
    """(path, bounds, whether it counts) of every number with bounds."""
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            yield from bounded(hint, f"{prefix}{name}.")
        for part in (hint, *getattr(hint, "__args__", ())):
            yield from ((f"{prefix}{name}", w, part.__origin__) for w in getattr(part, "__metadata__", ()))


BOUNDED = list(bounded())


def test_numbers_have_bounds():
    """All of them: a number that may be anything would be found by a lane, or by nobody."""
    free = {f"{path}" for path, hint in numbers(Job) if path not in {p for p, _, _ in BOUNDED}}
    assert free == set()


def numbers(cls, prefix=""):
    for name, hint in get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from numbers(hint, f"{prefix}{name}.")
        elif {int, float} & {hint, *getattr(hint, "__args__", ())}:
            yield f"{prefix}{name}", hint


@pytest.mark.parametrize(("path", "bounds", "kind"), BOUNDED, ids=[p for p, _, _ in BOUNDED])
def test_numbers_beyond_their_bounds_are_named(path, bounds, kind):
    low = kind(bounds.least) if bounds.above else kind(bounds.least) - 1
    for beyond in (
        low,
        *([kind(bounds.most) + 1] if bounds.most < float("inf") else []),
        *([float("nan")] if kind is float else []),
    ):
        with pytest.raises(ConfigError, match=rf"^{path} must be (at least|above|between) .*, not .*\.$"):
            build(Job, nested(path, beyond))
    edge = kind(bounds.least) + (1 if bounds.above else 0)
    assert build(Job, nested(path, edge))


@given(st.floats(allow_nan=True), st.floats(0, 10), st.floats(0, 10), st.booleans())
def test_within_says_no_exactly_outside(found, least, width, above):
    inside = least <= found <= least + width and not (above and found == least)
    assert (Within(least, least + width, above).refusal(found) is None) == inside


@pytest.mark.parametrize("path", ["workspace", "source.path", "source.kind", "model.bundle", "engine.address"])
def test_what_has_to_be_said_may_not_be_empty(path):
    """`source.path=$DATA` with no such variable would otherwise read the folder one happens to stand in."""
    with pytest.raises(ConfigError, match=rf"^{path} is empty\. Say {path}=…"):
        build(Job, nested(path, ""))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("engine.lanse", 2, "engine.lanse is not a setting. Did you mean 'lanes'?"),
        ("xyzzy", 2, "xyzzy is not a setting. Known: contract, engine,"),
        ("engine.retry.atempts", 2, "engine.retry.atempts is not a setting. Did you mean 'attempts'?"),
        ("engine.lanes", "two", "engine.lanes: Input should be a valid integer"),
        ("engine.lanes", 1.5, "engine.lanes: Input should be a valid integer"),
        ("source.carry", "id", "source.carry: Input should be a list: [a,b]. Found: 'id'."),
        (
            "engine.faults",
            [{"site": "gpu", "kind": "oom", "slice_nth": -1}],
            "engine.faults.0.slice_nth must be at least 0, not -1.",
        ),
        ("engine.faults", [{"site": "gpu", "kind": "tea"}], "engine.faults.0.kind"),
        ("source", "parquet", "source"),
    ],
)
def test_one_line_says_what_is_wrong(path, value, said):
    with pytest.raises(ConfigError) as refused:
        build(Job, nested(path, value))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"^source\.path: Field required\.$"):
        build(Job, LEAST | {"source": {"kind": "csv"}})

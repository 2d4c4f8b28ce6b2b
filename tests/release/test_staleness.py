"""How a partition stands, and what of it is due."""

from hypothesis import given
from hypothesis import strategies as st

from scoring.release.staleness import WHICH, Standing, differs

PARTS = {"model": "m1", "contract": "c1", "source": "s1", "format": "1"}


def test_each_difference_has_its_name():
    assert differs(PARTS, "i", PARTS, "i") == ()
    for name, said in (("model", "model"), ("contract", "contract"), ("source", "config"), ("format", "code"), ("code", "code")):
        assert differs(PARTS, "i", PARTS | {name: "other"}, "i") == (said,)
    assert differs(PARTS, "i", PARTS, "j") == ("input",)
    assert differs(PARTS, "i", {}, "j") == ("model", "contract", "config", "code", "input")
    assert differs(PARTS, "i", PARTS | {"precision": "bf16"}, "i") == ("precision",)
    assert differs(PARTS, "i", PARTS | {"new": "1"}, "i") == ("code",)


STANDINGS = st.builds(
    Standing,
    st.integers(0, 3),
    st.sampled_from([(), ("model",), ("input", "code")]),
    st.sampled_from(["", "held by run r", "failed by run r"]),
    st.booleans(),
)


@given(STANDINGS)
def test_what_is_due(one):
    due = {which: one.due([which]) for which in WHICH}
    assert due["all"] == one.has_input
    assert any(due.values()) == due["all"]
    if not one.has_input:
        assert one.state == ("gone" if one.version else "empty")
        return
    assert due["missing"] == (one.version == 0)
    assert due["failed"] == bool(one.failed) == (one.state == "failed")
    assert due["stale"] == (one.version > 0 and bool(one.why))
    assert (one.state == "fresh") == (not (due["missing"] or due["failed"] or due["stale"]))


@given(STANDINGS, st.sets(st.sampled_from(WHICH), min_size=1))
def test_several_are_asked_for_together(one, which):
    assert one.due(which) == any(one.due([single]) for single in which)

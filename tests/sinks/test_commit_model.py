"""Our protocol keeps its promises in every reachable state; each neighbour that one might have written breaks one."""

import pytest
from commit_model import PUBLISH_MUTANTS, STAGE_MUTANTS, publish, stage


def test_no_state_of_staging_breaks_a_promise():
    broken, states = stage("ours")
    assert broken is None
    assert states > 1_000


@pytest.mark.parametrize("protocol", ["ours", "ours in a bucket"])
def test_no_state_of_publishing_breaks_a_promise(protocol):
    broken, states = publish(protocol)
    assert broken is None
    assert states > 50


@pytest.mark.parametrize("protocol", STAGE_MUTANTS)
def test_wrong_ways_to_stage_are_found(protocol):
    assert stage(protocol)[0] is not None


@pytest.mark.parametrize("protocol", PUBLISH_MUTANTS)
def test_wrong_ways_to_publish_are_found(protocol):
    assert publish(protocol)[0] is not None

"""Which configuration is launched: forced, as a table says, or the first."""

import torch

from scoring.kernels.frame import tuning
from scoring.kernels.frame.tuning import Config

CONFIGS = tuple(Config((("ROWS", 1 << n),)) for n in range(3))
CPU = torch.device("cpu")


def picked(key="narrow"):
    return CONFIGS.index(tuning.pick("some", key, CONFIGS, CPU))


def test_a_table_decides_key_by_key_and_the_first_where_it_says_nothing():
    with tuning.chosen({"some": {"narrow": 2, "wide": 1}}):
        assert [picked("narrow"), picked("wide"), picked("huge")] == [2, 1, 0]
        with tuning.chosen({}):
            assert picked() == 0
        assert picked() == 2
    assert picked() == 0


def test_a_table_made_for_more_configurations_than_there_are_is_not_followed():
    with tuning.chosen({"some": {"narrow": 3, "wide": -1}}):
        assert [picked("narrow"), picked("wide")] == [0, 0]


def test_one_that_is_forced_goes_before_a_table():
    with tuning.chosen({"some": {"narrow": 2}}), tuning.only(1):
        assert picked() == 1


def test_launches_leave_their_keys():
    tuning.picked.clear()
    picked("narrow")
    picked("wide")
    assert tuning.picked == {("some", "narrow"), ("some", "wide")}

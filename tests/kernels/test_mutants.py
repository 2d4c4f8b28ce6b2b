"""Six mistakes that kernels invite are all seen by their tests."""

import mutants
import pytest


@pytest.mark.slow
def test_every_mutant_is_killed(capsys):
    assert mutants.main() == 0, capsys.readouterr().out

"""The tree drawn in errors.py is the tree of its classes, with their exit codes."""

import inspect
import re

import pytest

from scoring import errors


def drawn():
    """(name, exit code, name of the one above) for each line of the drawing, top first."""
    above = {}
    for line in inspect.getdoc(errors).splitlines():
        if found := re.fullmatch(r"( *)([A-Z]\w*Error) +(\d+) +\S.*", line):
            depth = len(found[1]) // 2
            above[depth] = found[2]
            yield found[2], int(found[3]), above.get(depth - 1)


def classes():
    return {n: c for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}


def test_the_drawing_is_the_tree():
    lines = list(drawn())
    assert lines[0] == ("ScoringError", 70, None)
    found = {(n, c.exit_code, c.__base__.__name__ if n != "ScoringError" else None) for n, c in classes().items()}
    assert set(lines) == found
    assert len(lines) == len(found)


@pytest.mark.parametrize("cls", classes().values(), ids=lambda c: c.__name__)
def test_exit_codes_are_those_promised(cls):
    assert issubclass(cls, errors.ScoringError)
    assert cls.exit_code in (64, 65, 69, 70, 75, 77, 78)
    assert issubclass(cls, errors.TemporaryError) <= (cls.exit_code == 75)

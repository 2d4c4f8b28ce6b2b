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


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("CSV conversion error to double: invalid value 'Alice'", "CSV conversion error to double: invalid value …"),
        (
            "Could not convert 'O'Brien' with type str: tried to convert to double",
            "Could not convert … with type str: tried to convert to double",
        ),
        ("CSV parse error: Expected 3 columns, got 4: Alice,Smith,1,2", "CSV parse error: Expected 3 columns, got 4: …"),
        ("Couldn't deserialize thrift: 'Alice", "Couldn't deserialize thrift: …"),
        ("Integer value 45 not in range: 0 to 9", "Integer value … not in range: 0 to 9"),
        (
            "date64[day] 1650000000001 does not represent a whole number of days",
            "date64[day] … does not represent a whole number of days",
        ),
        ("Parquet magic bytes not found in footer.\nmore", "Parquet magic bytes not found in footer."),
        ("", "ValueError"),
    ],
)
def test_foreign_errors_are_told_without_values(said, told):
    assert errors.told(ValueError(said)) == told


def test_a_bug_is_told_with_its_place():
    try:
        int("Alice")
    except ValueError as error:
        found = errors.bug(error)
    assert re.fullmatch(r"ValueError: invalid literal for int\(\) with base 10: … \(test_errors\.py:\d+\)", found)

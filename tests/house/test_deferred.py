"""Lanes and commands start without pandas, which is not ours, and it still works where somebody wants it."""

import subprocess
import sys

import pytest


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_arrow_works_without_importing_pandas():
    code = """
import sys, numpy, pyarrow
from scoring.deferred import put_off_pandas
put_off_pandas()
pyarrow.array([1]), pyarrow.array(numpy.arange(3)), pyarrow.table({"a": [1]}).to_pylist()
print("pandas" in sys.modules)
"""
    assert run(code) == ["False"]


def test_pandas_works_after_it_was_put_off():
    pytest.importorskip("pandas")
    code = """
import pyarrow
from scoring.deferred import put_off_pandas
put_off_pandas()
frame = pyarrow.table({"a": [1, 2]}).to_pandas()
print(frame["a"].sum(), pyarrow.table(frame).num_rows, len(pyarrow.array(frame["a"])))
"""
    assert run(code) == ["3", "2", "2"]

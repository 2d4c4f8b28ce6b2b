"""The table of kernels/README.md is what the code says now."""

import json

import pytest
import walk

from benchmarks.kernel_table import DOC, GOLDEN, filled, table

RUN = {"device": "NVIDIA H100", "date": "2026-12-01", "time": "10:00 UTC", "rehearsal": False, "failed": []}
GOLD = json.loads(GOLDEN.read_text())


def run(share, ratios, **more):
    rivals = [{"name": name, "ratio": ratio} for name, ratio in ratios.items()]
    return RUN | {"kernels": [{"kernel": "add_norm", "case": "c", "share_of_copy": share, "rivals": rivals}]} | more


def row(golden, runs, name="add_norm"):
    return next(line for line in table(golden, runs).splitlines() if line.startswith(f"| [`{name}`]"))


def test_the_committed_table_is_the_one_that_is_made():
    text = DOC.read_text()
    assert text == filled(text), "make kernel-table"


def test_every_kernel_has_a_row_with_its_worst_variant():
    lines = table(GOLD, []).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == walk.NAMES
    assert {line.count(" | ") for line in lines} == {7}
    needs = [found for label, found in GOLD["sm_90"].items() if label.startswith("add_norm ")]
    cells = row(GOLD, []).split(" | ")
    assert cells[3:6] == [str(len(needs)), str(max(n["registers"] for n in needs)), str(max(n["spills"] for n in needs))]
    assert "not compiled yet" in row({}, [])


def test_what_was_not_measured_on_a_gpu_says_so():
    assert "not yet measured" in row(GOLD, [])
    assert "not yet measured" in row(GOLD, [run(0.9, {}, rehearsal=True)])


def test_the_newest_run_of_a_device_that_tried_the_kernel_counts():
    old, new = run(0.5, {"torch eager": 1.5}, date="2026-11-30"), run(0.91, {"torch eager": 2.0, "torch.compile": 12.4})
    other = RUN | {"kernels": [], "date": "2026-12-24"}
    told = row(GOLD, [new, old, other])
    assert "NVIDIA H100, 2026-12-01: 0.91 of a copy, 2 x torch eager, 12 x torch.compile (1 cases)" in told
    assert "2026-11-30" not in told


def test_a_run_in_which_a_check_failed_boasts_of_no_speed():
    told = row(GOLD, [run(0.91, {"torch eager": 2.0}, failed=[{"kernel": "add_norm"}])])
    assert "1 checks failed" in told
    assert "of a copy" not in told


def test_a_readme_without_a_place_for_the_table_is_refused():
    with pytest.raises(ValueError, match="not enough values"):
        filled("# Kernels\n")

"""From raw lines to the page: medians of timed rounds alone, failures as rows, losses first."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from peers import medians, page


def line(contender, number, rate, job=10.0, case="tabular 1M", rows=1_000_000, error=None):
    found = {
        "case": case,
        "contender": contender,
        "round": number,
        "rows": rows,
        "at": "2026-01-02T03:04:05+00:00",
        "load": [2.5, 1, 1],
    }
    found |= {"error": error, "rss_mb": 100.0, "pss_mb": 80.0 if number == 0 else None}
    return found if error else found | {"rate": rate, "first_s": 2.0, "job_s": job}


def agreement(contender, largest, allowed=1e-5, case="tabular 1M"):
    return {
        "case": case,
        "contender": contender,
        "agreement": {"holds": largest <= allowed, "largest": largest, "allowed": allowed},
    }


def rounds(contender, rates, compared=True, case="tabular 1M", **more):
    """The first is not timed; answers are compared after it."""
    found = [line(contender, number, rate, case=case, **more) for number, rate in enumerate(rates)]
    return [*found, agreement(contender, 0.0, case=case)] if compared else found


def entry(lines, name):
    return next(e for e in medians.entries(lines) if e.contender == name)


def test_the_untimed_round_is_not_in_the_median_and_gives_the_proportional_memory():
    found = entry(rounds("ray", [1.0, 300.0, 100.0, 200.0]), "ray")
    assert (found.n, found.rate, found.spread, found.pss_mb, found.trouble) == (3, 200.0, (100.0, 300.0), 80.0, "")


def test_a_failure_that_went_well_later_is_forgotten():
    lines = [line("daft", 1, 0, error="exit 1: no"), line("daft", 1, 50.0)]
    assert (entry(lines, "daft").rate, entry(lines, "daft").trouble) == (50.0, "")


def test_who_fails_or_says_other_scores_is_a_row_without_a_ratio():
    lines = [*rounds("ray", [9, 9.0]), line("spark", 1, 0, error="exit 1: OutOfMemoryError"), *rounds("daft", [9, 99.0])]
    lines.append(agreement("daft", 0.1))
    assert medians.besides(medians.entries(lines)) == []
    told = page.table(lines)
    assert "PySpark predict_batch_udf: exit 1: OutOfMemoryError" in told
    assert "Daft: answers differ by 1.0e-01, allowed are 1e-05" in told


def test_losses_stand_before_the_tables_and_name_the_goal():
    lines = rounds("ray", [9, 100.0]) + rounds("hand", [9, 120.0], job=4.0) + rounds("ray-data", [9, 30.0], job=20.0)
    told = page.table(lines)
    lost = told[told.index("Where we lose") : told.index("Side by side")]
    assert "| tabular 1M | hand loop, two processes | 0.83 | 0.40 | slower, later in all, goal 0.95 missed |" in lost
    assert "| tabular 1M | Ray Data, Arrow batches | 3.33 | 2.00 | goal 5 missed |" in lost


def test_nothing_lost_is_said():
    assert "Nowhere." in page.table(rounds("ray", [9, 1000.0], job=1.0) + rounds("ray-data", [9, 10.0], job=20.0))


def test_answers_that_nobody_compared_do_not_count():
    lines = [*rounds("ray", [9, 9.0]), *rounds("daft", [9, 99.0], compared=False)]
    assert entry(lines, "daft").trouble == "its answers were not compared"
    assert medians.besides(medians.entries(lines)) == []


def test_a_round_that_failed_is_told_beside_the_others():
    lines = [*rounds("ray", [9, 9.0]), *rounds("daft", [9, 99.0, 97.0]), line("daft", 3, 0, error="exit 1: no")]
    found = entry(lines, "daft")
    assert (found.n, found.rate, found.trouble, found.note) == (2, 98.0, "", "1 failed: exit 1: no")
    assert [one.theirs.contender for one in medians.besides(medians.entries(lines))] == ["daft"]
    assert "* tabular 1M, Daft: 1 failed: exit 1: no" in page.table(lines)


def test_a_worker_that_idled_is_told():
    lines = rounds("ray-data", [9, 99.0, 98.0])
    lines[2]["workers"] = 1
    assert entry(lines, "ray-data").note == "in 1 one worker of 2 idled"


def test_nowhere_is_not_said_where_ours_failed():
    told = page.table([line("ray", 1, 0, error="exit 1: no"), *rounds("daft", [9, 99.0])])
    assert "Nowhere" not in told
    assert "Not known for tabular 1M: scoring, engine=ray failed." in told


def test_who_was_not_measured_is_named():
    told = page.table([*rounds("ray", [9, 99.0]), *rounds("hand", [9, 99.0])])
    assert "Not measured here: scoring, engine=inline; hand loop, two processes, nn.Module; Ray Data, Arrow batches;" in told


def test_a_page_of_some_is_not_written():
    """Of all that take part, every one has to have its rounds."""
    whole = [
        line(name, number, 1.0, case="text mixed 1.8k")
        for name in ("ray", "ray-bf16", "hand", "ray-data", "daft", "encode", "encode-bf16", "bare")
        for number in range(1, 6)
    ]
    assert page.lacking(whole, ["text mixed 1.8k"]) == []
    assert page.lacking(whole[:-1], ["text mixed 1.8k"]) == ["text mixed 1.8k, our own model, in memory"]
    assert len(page.lacking(whole, ["text mixed 1.8k", "text short 6.144k"])) == 9


def test_growth_is_beside_ours_over_the_same_sizes():
    """Spark is spared the largest: ours is beside it over the two that it took part in, where ours has another slope."""
    sizes = {"tabular 1M": (1_000_000, 2.0), "tabular 4M": (4_000_000, 3.5), "tabular 24M": (24_000_000, 7.5)}
    lines = []
    for case, (rows, job) in sizes.items():
        lines += rounds("ray", [1.0, 1.0], case=case, rows=rows, job=job)
        lines += rounds("spark", [1.0, 1.0], case=case, rows=rows, job=2 * job) if rows < 24_000_000 else []
    told = page.table(lines)
    assert "| tabular, 1M to 24M | scoring, engine=ray | 4,181,818 |" in told
    assert "| tabular, 1M to 4M | PySpark predict_batch_udf | 1,000,000 | 2.00 |" in told


def test_growth_takes_no_start_into_account():
    """A second of start and a million rows a second: two jobs tell the second number, whatever the first."""
    sizes = {"tabular 1M": 1_000_000, "tabular 4M": 4_000_000}
    lines = [line("ray", 1, 5.0, case=case, rows=rows, job=1 + rows / 1e6) for case, rows in sizes.items()]
    assert medians.slope(medians.entries(lines), list(sizes.items()), "ray") == pytest.approx(1e6)


def test_growth_is_not_told_from_noise():
    """The median of the large job is the longer one, but one small job took as long."""
    lines = [line("ray", n, 5.0, job=job) for n, job in enumerate((10.0, 10.0, 13.0), 1)]
    lines += [line("ray", n, 5.0, job=12.0, case="tabular 4M", rows=4_000_000) for n in range(1, 4)]
    assert medians.slope(medians.entries(lines), [("tabular 1M", 1_000_000), ("tabular 4M", 4_000_000)], "ray") is None


def test_each_precision_is_beside_its_own():
    names = ("ray", "ray-bf16", "encode", "encode-bf16", "bare", "daft")
    found = medians.entries([one for name in names for one in rounds(name, [9, 9.0], case="text long 0.36k")])
    assert {b.theirs.contender for b in medians.besides(found)} == {"encode", "daft"}
    assert {b.theirs.contender for b in medians.besides(found, "ray-bf16")} == {"encode", "encode-bf16"}


def test_the_page_keeps_what_stands_around_the_markers(tmp_path):
    path = tmp_path / "docs" / "performance.md"
    path.parent.mkdir()
    path.write_text(f"Before.\n{page.BEGIN}\nold\n{page.END}\nAfter.\n")
    page.write(path, "new\n", tmp_path / "results" / "peers.svg")
    text = path.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert "(../results/peers.svg)" in text


def test_a_page_without_markers_is_left_alone(tmp_path):
    (tmp_path / "page.md").write_text("mine")
    with pytest.raises(ValueError, match="peers: begin"):
        page.write(tmp_path / "page.md", "new", tmp_path / "peers.svg")
    assert (tmp_path / "page.md").read_text() == "mine"

"""Readiness: each rule by itself, on real files."""

import os
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import ConfigError
from scoring.settings import Ready, Source
from scoring.sources.discover import partitions
from scoring.sources.ready import Readiness

KEY, END = "date=2026-01-01", datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def day(tmp_path):
    folder = tmp_path / KEY
    folder.mkdir()
    for n in range(2):
        pq.write_table(pa.table({"x": [1, 2, 3]}), folder / f"{n}.parquet")
    return folder


def lacking(folder, end=END, **rules):
    source = Source("parquet", str(folder.parent), ready=Ready(**rules))
    (found,) = partitions(source, (".parquet",))
    return Readiness(source).lacking(found, end)


def test_without_rules_all_is_ready(day):
    assert lacking(day) == lacking(day, None) == ""


def test_a_success_file_has_to_lie_in_every_folder(day):
    assert "has no _SUCCESS" in lacking(day, success_file="_SUCCESS")
    (day / "_SUCCESS").touch()
    assert lacking(day, success_file="_SUCCESS") == ""
    (day / "more").mkdir()
    (day / "0.parquet").rename(day / "more" / "0.parquet")
    assert f"{day}/more has no _SUCCESS" in lacking(day, success_file="_SUCCESS")


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        ("2026-01-02T00:00:00+00:00\n", True),
        ("2026-01-02", True),
        ("2026-01-02T01:00:00+01:00", True),
        ("2026-01-01T23:59:59Z", False),
    ],
)
def test_a_watermark_covers_what_ends_until_then(day, tmp_path, text, ready):
    mark = tmp_path / "watermark.txt"
    assert "there is no watermark" in lacking(day, watermark=str(mark))
    mark.write_text(text)
    assert (lacking(day, watermark=str(mark)) == "") is ready


def test_a_watermark_that_is_none_is_a_mistake(day, tmp_path):
    (tmp_path / "mark").write_text("yesterday")
    with pytest.raises(ConfigError, match="does not hold an instant"):
        lacking(day, watermark=str(tmp_path / "mark"))


def test_rows_are_counted_by_footers(day):
    assert lacking(day, min_rows=6) == ""
    assert lacking(day, min_rows=7) == "6 rows, source.ready.min_rows wants 7"
    (day / "2.parquet").write_bytes(b"PAR1")
    assert lacking(day, min_rows=6) == ""


def test_text_does_not_say_its_rows(tmp_path):
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "a.csv").write_text("x\n1\n")
    source = Source("csv", str(tmp_path), ready=Ready(min_rows=1))
    (found,) = partitions(source, (".csv",))
    with pytest.raises(ConfigError, match="does not say how many rows"):
        Readiness(source).lacking(found, END)


def test_files_from_before_the_end_are_too_old(day):
    def written(text):
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        for file in day.iterdir():
            os.utime(file, (moment, moment))

    written("2026-01-01T20:00")
    assert "before it was over" in lacking(day, max_age_hours=0)
    assert "before it was over" in lacking(day, max_age_hours=3.9)
    assert lacking(day, max_age_hours=4) == ""
    written("2026-01-02T00:00")
    assert lacking(day, max_age_hours=0) == ""


@pytest.mark.parametrize("rule", [{"max_age_hours": 1}, {"watermark": "mark"}])
def test_rules_about_time_need_an_interval(day, rule, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mark").write_text("2026-01-01")
    with pytest.raises(ConfigError, match="names none"):
        lacking(day, None, **rule)

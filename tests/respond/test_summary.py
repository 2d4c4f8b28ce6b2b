"""The printed account: it adds up, nothing in it can steer a terminal, and its commands can be pasted."""

import shlex

from hypothesis import given
from hypothesis import strategies as st

from scoring.respond import summary
from scoring.respond.manual import clean, program
from scoring.types import BadFile, Check, Cost, PartitionRecord, RunRecord

words = st.text(max_size=30)
amounts = st.integers(0, 10**9)


@st.composite
def records(draw):
    rows = {"scored": draw(amounts), "quarantined": draw(amounts), "suppressed": draw(st.just(0) | amounts)}
    failed = Check("bad-rows", draw(words), "fail", "error", "5", draw(words))
    status = draw(st.sampled_from(["published", "published-with-warnings", "held", "paused", "failed"]))
    return RunRecord(
        run_id=draw(words),
        status=status,
        rows={"in": sum(rows.values()), **rows},
        partitions=tuple(
            PartitionRecord(key, draw(st.sampled_from(["published", "held"])), rows, (failed,)) for key in draw(st.lists(words))
        ),
        rates={"rows_per_second": draw(st.floats(0, 1e7)), "wall_seconds": draw(st.floats(0, 1e5))},
        stages=draw(st.dictionaries(words, st.floats(0, 1e5), max_size=4)),
        routes=draw(st.dictionaries(st.sampled_from(["gpu", "cpu", "gpu-smaller-batch"]), amounts)),
        devices=draw(st.dictionaries(words, amounts, max_size=2)),
        environment={},
        reasons=draw(st.dictionaries(words, amounts, max_size=20)),
        bad_files=tuple(draw(st.lists(st.builds(BadFile, words, st.just("read"), words, amounts), max_size=20))),
        notes=tuple(draw(st.lists(words, max_size=3))),
        message=draw(words),
        warned=draw(st.dictionaries(words, amounts, max_size=3)),
        costs=tuple(draw(st.lists(st.builds(Cost, words, amounts, words, words, st.floats(0, 1), st.floats(0, 1)), max_size=5))),
    )


def account(**said):
    rows = {"in": 1_010, "scored": 1_000, "quarantined": 10, "suppressed": 0}
    given = {"run_id": "r1", "status": "published", "rows": rows, "partitions": (), "stages": {}, "routes": {}, "devices": {}}
    given |= {"rates": {"rows_per_second": 5.0, "wall_seconds": 2.0}, "environment": {}}
    return RunRecord(**(given | said))


@given(records(), st.text(min_size=1, max_size=20))
def test_nothing_foreign_reaches_the_terminal(record, workspace):
    text = summary.render(record, workspace)
    assert all(c.isprintable() or c == "\n" for c in text)


@given(records())
def test_it_adds_up_as_printed(record):
    line = next((li for li in summary.render(record, "w").splitlines() if li.startswith("rows: ")), None)
    if record.rows["in"] == 0:
        assert line is None
        return
    whole, _, parts = line.removeprefix("rows: ").partition(" in = ")
    numbers = [int(part.split()[0].replace(",", "")) for part in parts.split(" + ")]
    assert int(whole.replace(",", "")) == sum(numbers) == record.rows["in"]


def test_reasons_come_by_their_weight_and_files_by_name():
    reasons = {"admit:amount:range": 7, "read:unreadable": 0, "admit:hour:range": 900}
    bad = BadFile("day/evil\x1b[2J.parquet", "read", "unreadable: no footer", 0)
    text = summary.render(account(reasons=reasons, bad_files=(bad,)), "w")
    assert text.index("900  admit:hour:range") < text.index("7  admit:amount:range")
    assert "read:unreadable" not in text
    assert "  day/evil�[2J.parquet: unreadable: no footer" in text


def test_more_than_fits_is_counted():
    reasons = {f"admit:c{n}:range": 1 for n in range(30)}
    bad = tuple(BadFile(f"f{n}", "read", "unreadable", 0) for n in range(30))
    text = summary.render(account(reasons=reasons, bad_files=bad), "w")
    assert "18  and 18 more reasons" in text
    assert "and 18 more\n" in text


def test_the_next_commands_are_what_a_shell_takes(tmp_path):
    lines = summary.render(account(), "my space/it's", "python -m scoring").splitlines()
    first, second, third = (shlex.split(line) for line in lines[lines.index("next:") + 1 :])
    assert first == ["python", "-m", "scoring", "quarantine", "workspace=my space/it's"]
    assert second == ["python", "-m", "scoring", "verify", "workspace=my space/it's"]
    assert third == ["python", "-m", "scoring", "replay", account().run_id, "workspace=my space/it's"]


def test_where_the_time_went_in_shares_and_what_failed():
    failed = Check("max_bad_rows", "date=1", "fail", "error", "0", "10")
    text = summary.render(
        account(
            status="held",
            stages={"read": 1.0, "score": 3.0},
            routes={"gpu": 900, "cpu": 100},
            devices={"H100": 1_000},
            partitions=(PartitionRecord("date=1", "held", {}, (failed,)), PartitionRecord("date=2", "published", {})),
        ),
        "w",
    )
    assert "time: score 75%, read 25%" in text
    assert "device: H100; rows by route: cpu 100, gpu 900" in text
    assert "partitions: 1 held, 1 published" in text
    assert "date=1 held: max_bad_rows 10, expected 0" in text


def test_drift_is_told_once_for_each_column_with_the_days_it_concerns():
    def day(n, *checks):
        return PartitionRecord(f"date={n}", "published-with-warnings", {}, checks)

    drifted = Check("drift", "amount", "warn", "warn", "", "shift: up by 0.27 standard deviations")
    worse = Check("null_rate", "x\x1b[2J", "fail", "warn", "", "null burst")
    text = summary.render(account(partitions=(day(1), day(2, drifted), day(3, drifted, worse))), "w")
    assert "unlike the baseline or before: 2 partition(s), date=2 to date=3" in text
    assert text.count("drift amount: shift: up by 0.27") == 1
    assert "null_rate x�[2J: null burst (1 of them: date=3)" in text
    assert "expected" not in text


@given(st.text())
def test_clean_is_short_and_printable_and_leaves_plain_text_alone(text):
    cleaned = clean(text)
    assert cleaned.isprintable()
    assert len(cleaned) <= 300
    if text.isprintable() and len(text) <= 300:
        assert cleaned == text


def test_how_we_were_called():
    assert program("/x/scoring/__main__.py").endswith(" -m scoring")
    assert program("") == "scoring"
    assert program("/nowhere/at/all/scoring") == "scoring"


def test_whom_a_rule_costs_is_said():
    told = summary.render(account(warned={"b:range": 7}, costs=(Cost("a:null", 120, "group", "b", 0.7, 0.1),)), "w")
    assert "warned, and scored: 7  b:range" in told
    assert "whom it costs: 70% of the rows that a:null lost have group = b, of all rows 10%" in told


def test_texts_have_a_line_of_their_own_and_tables_none():
    work = {"tokens": 900, "tokens_saved": 100, "tokenise_us": 500_000}
    told = account(
        work=work,
        stages={"score": 8.0, "read": 2.0},
        rates={"rows_per_second": 5.0, "wall_seconds": 2.0, "tokens_per_second": 450.0},
    )
    assert "texts: 900 tokens (450 tokens/s), tokenising 5.0%, duplicates saved 10%" in summary.render(told, "w").splitlines()
    assert "texts" not in summary.render(account(), "w")

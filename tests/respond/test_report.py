"""The report: any facts make a whole page that fetches nothing, foreign names stay text, and it says what the facts say."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from pages import Page, account, facts, finding, watched

from scoring.respond.report import account as rows
from scoring.respond.report import effort, findings, page, words
from scoring.respond.report.facts import Example, Facts, Found, Histogram, ScoreColumn, record_of
from scoring.respond.report.pictures import bars, parts, trail
from scoring.respond.report.steps import steps
from scoring.types import BadFile, Check, Cost, PartitionRecord

EVIL = "<script>alert('x')</script>"
ALLOWED = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "article", "nav"}
ALLOWED |= {"a", "h1", "h2", "h3", "p", "span", "i", "dl", "div", "dt", "dd", "ol", "ul", "li", "code", "details", "summary"}
ALLOWED |= {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "figure", "figcaption", "svg", "path", "rect"}
PICTURE = Histogram(("up to 1", "above 1"), (50, 50), (20, 80), True)


def evil_facts() -> Facts:
    """The same script in every place that a foreign name can come to."""
    check = Check(EVIL, EVIL, "fail", "error", EVIL, EVIL)
    drift = replace(check, name="drift", severity="warn")
    counts = {"in": 7, "scored": 5, "quarantined": 1, "suppressed": 1}
    column = watched(
        EVIL, within=(Found(EVIL, finding(EVIL, slice=EVIL, words=EVIL)),), trail=((EVIL, 1.0, True), (EVIL, 2.0, False))
    )
    column = replace(
        column, worst=(Found(EVIL, finding(EVIL, words=EVIL)),), picture=Histogram((EVIL, EVIL), (1, 2), (3, 4), False)
    )
    record = account(
        run_id=EVIL,
        status="held",
        rows=counts,
        partitions=(PartitionRecord(EVIL, "held", counts, (check, drift)),),
        stages={EVIL: 1.0},
        routes={EVIL: 5},
        devices={EVIL: 5},
        environment={EVIL: EVIL},
        reasons={EVIL: 1, f"admit:{EVIL}": 1},
        bad_files=(BadFile(EVIL, "read", EVIL, 0),),
        notes=(EVIL,),
        model={"name": EVIL, "version": EVIL},
        started=EVIL,
        message=EVIL,
        warned={EVIL: 1},
        costs=(Cost(EVIL, 1, EVIL, EVIL, 0.5, 0.1),),
    )
    calm = replace(watched(EVIL, "pass"), picture=column.picture)
    example = Example(f"admit:{EVIL}", EVIL, 3, EVIL)
    score = ScoreColumn(EVIL, 5, 0.1, 0.2, column.picture)
    return Facts(record, EVIL, {"source.path": EVIL}, 1.0, 2.0, (column, calm), (score,), (example,), EVIL)


def whole(text: str) -> Page:
    """A page that is well formed, fetches nothing, runs nothing and can be read out. Raises AssertionError."""
    found = Page(text)
    assert found.problems == []
    assert {tag for tag, _ in found.tags} <= ALLOWED
    names = {name for _, attributes in found.tags for name in attributes}
    assert not {n for n in names if n.startswith("on") or n in ("src", "srcset", "data")}
    assert all(a["href"].startswith("#") for a in found.of("a"))
    assert not re.search(r"url\(|@import|expression\(", found.styles)
    assert all(c.isprintable() or c == "\n" for c in text)
    text.encode()
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in found.of("a")} <= set(ids)
    assert all(th.get("scope") in ("row", "col") for th in found.of("th"))
    assert len(found.of("caption")) == len(found.of("table"))
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in found.of("svg"))
    headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(headings))
    return found


@hypothesis(max_examples=60)
@given(facts)
def test_any_facts_make_a_whole_page_and_the_same_one_again(some):
    text = page.render(some)
    whole(text)
    assert page.render(some) == text


def test_what_is_foreign_stays_text_wherever_it_stands():
    text = page.render(evil_facts())
    found = whole(text)
    assert "<script" not in text
    assert found.text.count("<script>alert('x')</script>") >= 30
    assert any(EVIL in (svg["aria-label"] or "") for svg in found.of("svg"))


def test_a_thousand_partitions_and_two_hundred_columns_stay_below_two_megabytes():
    counts = {"in": 10**9, "scored": 10**9 - 7, "quarantined": 7, "suppressed": 0}
    names = [f"a column with a <long> & awkward name, number {n}" for n in range(200)]
    keys = [f"date=2026-01-01/region=<somewhere & far>/n={n:04d}" for n in range(1_000)]
    said = "shift: up by 0.27 standard deviations, median 24.46 -> 33.46; 10.9% of rows moved, PSI 0.070"
    partitions = tuple(
        PartitionRecord(
            key, "published-with-warnings", counts, tuple(Check("drift", n, "warn", "warn", said, said) for n in names[:9])
        )
        for key in keys
    )
    picture = Histogram(tuple(f"value {n}" for n in range(25)), tuple(range(25)), tuple(range(25)), False)
    steps_ = tuple((key, 1.5, True) for key in keys)
    columns = tuple(watched(n, trail=steps_, picture=picture) for n in names)
    text = page.render(Facts(account(partitions=partitions), "w", columns=columns))
    found = whole(text)
    assert len(text.encode()) < 2_000_000
    assert len(found.of("svg")) > 400, "every column has its picture"
    assert all(name in found.text for name in names)


def partition(key: str, status: str = "published", lost: int = 0, *checks: Check) -> PartitionRecord:
    return PartitionRecord(key, status, {"in": 100, "scored": 100 - lost, "quarantined": lost, "suppressed": 0}, checks)


@pytest.mark.parametrize(
    ("status", "ends", "message", "said"),
    [
        ("published", ("published",), "", "1,000 of 1,010 rows were scored and published in 1 partition."),
        ("published-with-warnings", ("published-with-warnings",) * 2, "", "published in 2 partitions, with warnings."),
        (
            "held",
            ("held", "published"),
            "",
            "1 of 2 partitions held by the gate, first of all by bad_share (0.4); the other",
        ),
        ("paused", ("paused",), "Stopped by SIGINT.", "The run stopped before its end: Stopped by SIGINT. 0 of 1 partition"),
        ("failed", ("failed", "published"), "", "The run failed. 1 of 2 partitions published so far"),
    ],
)
def test_what_happened_in_one_sentence(status, ends, message, said):
    held = Check("bad_share", "k", "fail", "error", "<= 0.05", "0.4")
    record = account(status=status, message=message, partitions=tuple(partition(str(n), e, 1, held) for n, e in enumerate(ends)))
    assert said in rows.sentence(Facts(record, "w"))


def test_what_was_lost_is_said_without_those_who_were_suppressed():
    counts = {"in": 120, "scored": 100, "quarantined": 8, "suppressed": 12}
    record = account(rows=counts, reasons={"admit:suppressed": 12, "admit:x:range": 8})
    told = rows.further(Facts(record, "w"))
    assert "8 rows (6.67%) are in quarantine, most often by admit:x:range (8)." in told
    assert "12 rows were suppressed." in told
    assert [loss.rule for loss in findings.losses(Facts(record, "w"))] == ["x:range"]
    assert "No row was lost." in rows.further(Facts(account(rows={"in": 5, "scored": 5, "quarantined": 0, "suppressed": 0}), "w"))


def test_partitions_stand_the_worst_first_and_add_up():
    record = account(
        partitions=(partition("a", lost=3), partition("b", "held"), partition("c", lost=9), partition("d", "skipped", 50))
    )
    assert [line.key for line in rows.lines(record)] == ["b", "c", "a", "d"]
    assert all(line.balanced for line in rows.lines(record))
    wrong = PartitionRecord("e", "failed", {"in": 10, "scored": 1, "quarantined": 0, "suppressed": 0})
    assert not rows.lines(account(partitions=(wrong,)))[0].balanced
    assert rows.statuses(record) == "1 held, 2 published, 1 published before"


def test_checks_are_told_once_for_each_subject_those_that_hold_first():
    passed, warned = Check("drift", "x", "pass", "warn", "", "fine"), Check("drift", "x", "warn", "warn", "", "moved")
    holds = Check("bad_rows", "b", "fail", "error", "5", "9")
    record = account(partitions=(partition("a", "published", 0, warned), partition("b", "held", 0, holds, passed)))
    first, second = rows.verdicts(record)
    assert (first.check, first.subject, first.holds, first.met) == ("bad_rows", "", True, "1 of 1")
    assert (second.check, second.subject, second.status, second.met, second.where) == ("drift", "x", "warn", "1 of 2", "a")


def test_drift_stands_the_worst_first_with_its_picture():
    columns = (watched("calm", "pass", 0.001), watched("some", "warn", 0.03), watched("more", "warn", 0.3, picture=PICTURE))
    columns += (watched("most", "fail", 0.01),)
    assert [card.name for card in findings.cards(columns)] == ["most", "more", "some"]
    assert [one.name for one in findings.calm(columns)] == ["calm"]
    assert "20.0%, was 50.0%" in findings.cards(columns)[1].bars.said
    found = whole(page.render(Facts(account(), "w", columns=columns)))
    assert "1 column within their limits" in found.text


def test_pictures_draw_shares_and_keep_the_worst_of_partitions_that_share_a_bar():
    drawn = bars(PICTURE, "x")
    assert drawn.before.count("M") == drawn.now.count("M") == 2
    assert re.search(r"v-64\.0", drawn.now), "the tallest bar fills the height"
    steps_ = [(f"p{n}", 0.1, n == 77) for n in range(500)]
    course = trail(steps_, "x")
    assert course.found.count("M") == 1
    assert course.calm.count("M") < 60
    many = bars(Histogram(tuple(map(str, range(30))), (1,) * 30, (1,) * 30, False), "x")
    assert many.last == "18 others"
    new = bars(Histogram(tuple(map(str, range(30))), (*(9,) * 29, 0), (*(9,) * 29, 5), False), "x")
    assert "29: " in new.said, "a category that came is shown though others are more frequent"
    assert sum(width for _, width in parts([10**9, 1, 0])) == pytest.approx(1000, abs=1)
    assert parts([10**9, 1, 0])[1][1] > 1, "a single row is seen"


def test_where_the_time_went_and_why_the_device_waited():
    record = account(stages={"read": 1.0, "encode": 2.0, "score": 1.0})
    assert effort.waiting(record) == (
        "The model was at work 25.0% of the scoring time of 2 lanes. The device waited for encode: 2.0 s there, 1.0 s in "
        "the model. 2.0 s of 4.0 s went to starting lanes, loading the model and closing."
    )
    assert "The model is the longest stage" in effort.waiting(account(stages={"read": 1.0, "score": 3.0}))
    resumed = replace(record, rates=record.rates | {"rows_per_second": 50.0})
    assert effort.fresh(resumed) == 100
    assert "at work" not in effort.waiting(resumed), "stages are of all passes, the clock of the last one"
    assert effort.waiting(account()) == ""


def test_what_it_cost():
    record = account(rates={"rows_per_second": 505.0, "scoring_seconds": 2.0, "wall_seconds": 3600.0, "lanes": 4.0})
    found = {i.name: i.value for i in effort.cost(Facts(record, "w", device_share=0.5, price=3.0))}
    assert found["Device-hours"] == "2.0000"
    assert found["Cost"] == "6.00"
    assert found["Cost per million rows"] == words.amount(6.0 / 1_010 * 1e6)
    assert "Energy" not in found
    joules = {"package-0": 2.6e6, "gpu-0": 1e6}
    burnt = replace(record, energy={"joules": joules, "seconds": 3600.0, "source": "nvml, rapl", "why": "package-1: gone"})
    energy = next(i for i in effort.cost(Facts(burnt, "w")) if i.name == "Energy")
    assert (energy.value, energy.note) == ("1 kWh", "3.56e+03 J per row; package-0, gpu-0 by nvml, rapl; package-1: gone")
    dark = replace(record, energy={"why": "no RAPL counters in /sys/class/powercap"})
    energy = next(i for i in effort.cost(Facts(dark, "w")) if i.name == "Energy")
    assert (energy.value, energy.note) == ("not readable here", "no RAPL counters in /sys/class/powercap")
    unknown = replace(record, rates={"rows_per_second": 5.0, "wall_seconds": 1.0})
    assert {i.name: i.value for i in effort.cost(Facts(unknown, "w", price=3.0))}["Device-hours"] == "not known"


def test_fallbacks_are_named_as_such():
    ways = effort.ways(account(routes={"gpu": 900, "cpu": 100}))
    assert [(w.name, w.fallback) for w in ways] == [("gpu", False), ("cpu", True)]
    assert [w.fallback for w in effort.ways(account(routes={"cpu": 100}))] == [False]


def test_the_next_commands_are_what_a_shell_takes():
    held = tuple(partition(f"date=it's {n}", "held", 1) for n in range(5))
    some = Facts(account(status="held", partitions=held), "my space/w", {"source.path": "in put", "source.kind": "csv"})
    lines = [shlex.split(step.command) for step in steps(some)]
    assert lines[0] == ["scoring", "release-held", "r1", "date=it's 0", "workspace=my space/w", "--reason=…"]
    assert lines[3][-1] == "--discard"
    assert ["scoring", "quarantine", "workspace=my space/w", "run=r1"] in lines
    assert lines[-1] == ["scoring", "report", "r1", "workspace=my space/w"]
    requeue = next(line for line in lines if line[1] == "requeue")
    assert {"source=csv", "source.path=in put", "run=r1"} <= set(requeue)


def test_numbers_are_written_so_that_nothing_is_lost_in_rounding():
    assert words.share(1, 10**6) == "<0.01%"
    assert words.share(10**6 - 1, 10**6) == ">99.99%"
    assert (words.share(0, 5), words.share(5, 5), words.share(1, 0)) == ("0%", "100%", words.NONE)
    assert [words.duration(s) for s in (0.25, 5, 200, 7300)] == ["250 ms", "5.0 s", "3 min", "2 h 2 min"]
    assert [words.amount(m) for m in (0.0, 0.0000591, 0.25, 1234.5)] == ["0.00", "0.000059", "0.25", "1,234.50"]
    assert len(words.name("x" * 999)) == words.LONGEST_NAME
    assert words.name("a\x1b[2J\u202eb") == "a�[2J�b"


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_colours_can_be_told_apart(scheme):
    """WCAG 2.1, 1.4.3: text has a contrast of 4.5 to what it stands on."""
    palettes = re.findall(r":root\{([^}]*)\}", Page(page.render(Facts(account(), "w"))).styles)
    colours = dict(re.findall(r"--(\w+):(#\w+)", palettes[["light", "dark", "print"].index(scheme)]))
    for ink in ("ink", "soft", "now"):
        for ground in ("paper", "shade"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
        channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_a_record_is_read_as_it_was_written():
    record = evil_facts().record
    assert record_of(json.loads(record.to_json()) | {"of a newer version": 1}, "here") == record

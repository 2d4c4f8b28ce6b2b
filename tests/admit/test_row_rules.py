"""Rules across columns: what they may say, what they mean, and that dataframely and our own way mean the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.admit import rows, sql
from scoring.admit.implied import always
from scoring.admit.ranges import raw_slots, span
from scoring.admit.rules import admit, compile_rules
from scoring.errors import ConfigError
from scoring.settings import Column, RowRule

KINDS = {"a": "float32", "b": "float64", "c": "float64", "i": "int64", "j": "int64", "u": "uint8", "s": "string", "t": "bool"}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "a": st.sampled_from([0.0, -0.0, 0.1, 1.0, -2.5, 1e6]),
    "b": st.sampled_from([0.0, 0.1, 1.0, -3.0, 1e300]),
    "c": st.sampled_from([0.0, 0.1, 1.0, -3.0]),
    "i": st.sampled_from([0, 1, -1, 2**53 + 1, 2**62, -(2**63)]),
    "j": st.integers(-2, 2) | st.sampled_from([2**53, 2**62]),
    "u": st.integers(0, 255),
    "s": st.sampled_from(["", "a", "ab", "b\n", "é"]),
    "t": st.booleans(),
}


def declared(names: Any = KINDS) -> dict[str, Column]:
    return {name: Column(KINDS[name]) for name in names}


# --- the grammar -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("EXISTS(SELECT 1 FROM read_csv('/etc/passwd'))", r"EXISTS\(\) is not allowed"),
        ("read_csv('/etc/passwd') IS NULL", r"read_csv\(\) is not allowed"),
        ("a > (SELECT 1)", "'SELECT' is no word of a row rule"),
        ("i IN (SELECT a FROM t)", "'SELECT' is no word"),
        ("SUM(a) > 1", r"SUM\(\) is not allowed in a row rule, which looks at one row"),
        ("MAX(a) OVER (PARTITION BY s) > 1", r"MAX\(\) is not allowed"),
        ("a > 1 OVER (ORDER BY a)", r"OVER\(\) is not allowed"),
        ("LAG(a) > 1", r"LAG\(\) is not allowed"),
        ("COUNT(*) > 1", r"COUNT\(\)"),
        ("CAST(s AS INT) > 1", r"CAST\(\) is not allowed"),
        ("nosuch > 1", "'nosuch' is no word of a row rule and no column that contract.columns declares"),
        ('"no such" > 1', "'no such' is no declared column"),
        ("a > 1; DROP TABLE x", "; is not allowed"),
        ("a > `b`", "is not allowed"),
        ("a > 1 -- b", "-- is not allowed"),
        ("a > 1 /* b */", r"/\* is not allowed"),
        (r"s = 'x\' OR SUM(a) > 1 OR s = ''", "is not allowed"),
        ("a >", "Polars says"),
        ("a + b", "is true or false of each row by itself"),
        ("s > DATE 'x'", "Polars says"),
        ("1 > 0", "names no column"),
        ("", "1 to 1,000 characters"),
        ("a > 1 AND " * 200 + "a > 1", "1 to 1,000 characters"),
        ("(" * 40 + "a > 1" + ")" * 40, "nested deeper than 32"),
    ],
)
def test_what_is_no_row_rule_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        rows.prove(rows.compile_rows({"r": RowRule(text)}, {n: r.type for n, r in kinds().items()}))
    assert str(refused.value).startswith("contract.rules.r")
    assert "\n" not in str(refused.value)


def kinds() -> dict[str, Any]:
    return {rule.name: rule for rule in compile_rules(declared(), True).columns}


def test_every_function_on_the_list_is_one_value_a_row_and_never_raises() -> None:
    """Whatever the values: text where it may be empty or strange, numbers without a logarithm, division by zero."""
    calls = {f: f"{f}(a)" for f in ["ABS", "CEIL", "FLOOR", "SIGN", "SQRT", "EXP", "LN", "LOG10"]}
    calls |= {f: f"{f}(s)" for f in ["LENGTH", "CHAR_LENGTH", "OCTET_LENGTH", "LOWER", "UPPER", "LTRIM", "RTRIM", "TRIM"]}
    calls |= {f: f"{f}(a, 1)" for f in ["COALESCE", "NULLIF", "GREATEST", "LEAST", "POW", "ROUND"]}
    calls |= {f: f"{f}(s, 'a')" for f in ["STARTS_WITH", "ENDS_WITH", "CONCAT"]} | {f: f"{f}(s, 2)" for f in ("LEFT", "RIGHT")}
    calls |= {"IF": "IF(a > 1, a, b)", "SUBSTR": "SUBSTR(s, 1, 2)", "REPLACE": "REPLACE(s, 'a', 'b')", "MOD": "MOD(i, j)"}
    calls |= {"TRY_CAST": "TRY_CAST(s AS INT)"}
    assert calls.keys() == sql.FUNCTIONS
    rules = rows.compile_rows(
        {name.lower(): RowRule(f"{call} IS NOT NULL") for name, call in calls.items()}, {n: r.type for n, r in kinds().items()}
    )
    rows.prove(rules)
    rows.broken(rules, {n: pa.array(STRANGE[n], r.type) for n, r in kinds().items()})


STRANGE: dict[str, list[Any]] = {
    **{name: [None, 0.0, -1.0, 1e6, 0.1] for name in "abc"},
    **{name: [None, 0, -1, 2**62, 5] for name in "ij"},
    "u": [None, 0, 1, 255, 3],
    "s": [None, "", "é", "b\n", "a"],
    "t": [None, True, False, True, True],
}


# --- the meaning -----------------------------------------------------------------------------------------------------------

OPERANDS = {"float32": ["a"], "float64": ["b", "c"], "int64": ["i", "j"], "uint8": ["u"]}


@st.composite
def texts(draw: st.DrawFn, depth: int = 2) -> str:
    """Rules of the plain kind, and some that only Polars understands."""
    if depth and draw(st.booleans()):
        joined = f" {draw(st.sampled_from(['AND', 'OR']))} ".join(draw(st.lists(texts(depth - 1), min_size=2, max_size=3)))
        return f"{draw(st.sampled_from(['', 'NOT ']))}({joined})"
    left = draw(st.sampled_from([n for names in OPERANDS.values() for n in names]))
    same = next(names for names in OPERANDS.values() if left in names)
    number = draw(st.sampled_from(["0", "1", "-1", "0.1", "2.5", "100"]))
    right = draw(st.sampled_from([*same, number]))
    return draw(
        st.sampled_from(
            [
                f"{left} {draw(st.sampled_from(['<', '<=', '>', '>=', '=', '!=', '<>']))} {right}",
                f"{left} {draw(st.sampled_from(['', 'NOT ']))}BETWEEN {right} AND 1",
                f"{left} IS {draw(st.sampled_from(['', 'NOT ']))}NULL",
                f"ABS({left}) < 2",
                f"{left} + {right} <= {draw(st.sampled_from(['2', '-1', same[-1]]))}",
                f"b - c * {draw(st.sampled_from(['2', 'b', '-c']))} < 100",
                f"i + j >= {number} OR ABS(j) <= 2",
                "s IN ('a', 'é') OR LENGTH(s) > 1",
                "NOT t",
            ]
        )
    )


@st.composite
def frames(draw: st.DrawFn) -> dict[str, pa.Array[Any]]:
    count = draw(st.integers(1, 12))
    nullable = {name: st.none() | values for name, values in VALUES.items()}
    types = kinds()
    return {n: pa.array(draw(st.lists(v, min_size=count, max_size=count)), types[n].type) for n, v in nullable.items()}


@settings(max_examples=150, deadline=None)
@given(frames(), st.lists(texts(), min_size=1, max_size=3))
def test_verdicts_are_those_of_polars_on_the_whole_frame_and_null_passes(values: dict[str, Any], given_texts: list[str]) -> None:
    rules = rows.compile_rows({f"r{n}": RowRule(t) for n, t in enumerate(given_texts)}, {n: v.type for n, v in values.items()})
    spans = {n: span(raw_slots(values[n])) for n in KINDS if n not in "st"}
    found = dict(rows.broken(rules, values, spans))
    assert {n: m.tolist() for n, m in rows.broken(rules, values)} == {n: m.tolist() for n, m in found.items()}
    frame = pl.DataFrame(pl.from_arrow(pa.table(values)))
    for n, text in enumerate(given_texts):
        wanted = frame.select(pl.sql_expr(text).alias("x"))["x"].to_list()
        assert found.get(f"r{n}", np.zeros(frame.height, bool)).tolist() == [one is False for one in wanted], text


def test_most_comparisons_need_no_polars() -> None:
    rules = {"p": "a >= 0", "q": "b <= c AND NOT (i = 3 OR j IS NULL)", "r": "i BETWEEN -1 AND 5", "s": "a < 0.5"}
    rules |= {"x": "a < 0.1", "y": "s = 'a'", "z": "ABS(a) < 1", "mixed": "a < b", "negative": "u >= -1"}
    compiled = rows.compile_rows({n: RowRule(t) for n, t in rules.items()}, {n: r.type for n, r in kinds().items()})
    assert set(compiled.plain) == {"p", "q", "r", "s"}
    assert set(compiled.bounded) == set(rules) - {"y"}


def test_spans_alone_answer_what_no_row_of_a_clean_window_can_break() -> None:
    """Also sums, and with an OR of which one side always holds."""
    texts = {"sum": "a + b < 1000", "far": "ABS(b) * 2 <= 100 - a", "or": "i > 100 OR NOT (b >= 50)", "not": "b != 77"}
    compiled = rows.compile_rows({n: RowRule(t) for n, t in texts.items()}, {n: r.type for n, r in kinds().items()})
    spans = {"a": (np.float32(0), np.float32(9)), "b": (np.float64(-9), np.float64(9)), "i": (np.int64(0), np.int64(500))}
    assert all(always(compiled.bounded[name], spans, compiled.columns) for name in texts)
    assert not any(
        always(compiled.bounded[n], {**spans, "b": (np.float64(-9), np.float64(np.nan))}, compiled.columns) for n in texts
    )


def test_a_value_at_fault_counts_as_null_for_rules_across() -> None:
    rules = compile_rules({"x": Column("float64", max=10), "y": Column("float64")}, True, {"order": RowRule("x <= y")})
    done = admit(pa.record_batch({"x": ["1", "9", "11", "x"], "y": [0.0, 9.5, 1.0, math.nan]}), rules)
    assert done.bad.tolist() == [0, 2, 3]
    assert done.reasons == [("rule:order",), ("x:range",), ("x:type", "y:nan")]


def test_warnings_are_counted_and_pass_but_what_has_no_value_does_not() -> None:
    columns = {"x": Column("float64", nullable=False, max=10, level="warn"), "s": Column("string", allowed=("a",), level="warn")}
    rules = compile_rules(columns, True, {"r": RowRule("x > 0", "warn")})
    done = admit(pa.record_batch({"x": ["1", "11", "-1", "x", None], "s": ["a", "b", "a", "b", "a"]}), rules)
    assert done.reasons == [("x:type",)]
    assert done.warned == {"x:range": 1, "x:null": 1, "s:allowed": 1, "rule:r": 1}
    assert done.good.to_pydict() == {"x": [1.0, 11.0, -1.0, None], "s": ["a", "b", "a", "a"]}


@settings(max_examples=150, deadline=None)
@given(frames(), st.data())
def test_rules_of_columns_mean_the_same_to_dataframely(values: dict[str, Any], data: st.DataObject) -> None:
    columns = {}
    for name, kind in KINDS.items():
        low, high = (data.draw(st.sampled_from([None, b])) for b in (0.1, 3.0)) if name in "abciju" else (None, None)
        allowed = {"s": ("a", "ab"), "t": (True,), "u": (0, 1), "a": (0, 0.1)}.get(name) if data.draw(st.booleans()) else None
        pattern = "a.*|é" if name == "s" and data.draw(st.booleans()) else None
        columns[name] = Column(kind, data.draw(st.booleans()), low, high, allowed, pattern)
    if data.draw(st.booleans()):
        values["b"] = pa.array([math.nan, math.inf, None, 1.0] * len(values["b"]))[: len(values["b"])]
    rules = compile_rules(columns, True, {"order": RowRule("b <= c")})
    done = admit(pa.RecordBatch.from_pydict(values), rules)
    judged = rules.schema()
    _, failure = judged.filter(pl.DataFrame(pl.from_arrow(pa.table(values))).with_row_index("row").drop("row"))
    assert failure.counts() == expected(done, values)


def expected(done: Any, values: dict[str, Any]) -> dict[str, int]:
    """Our reasons, counted as dataframely names them. It judges rules across also where a value is NaN, and takes it as largest."""
    names = {"null": "nullability", "nan": "nan", "finite": "inf"}
    found: dict[str, int] = {}
    for reason in (reason for row in done.reasons for reason in row if not reason.startswith("rule:")):
        column, _, what = reason.partition(":")
        own = f"{column}|{names[what]}" if what == "null" else f"{column}|check__{what}"
        found[own] = found.get(own, 0) + 1
    pairs = zip(values["b"].to_pylist(), values["c"].to_pylist(), strict=True)
    order = sum(1 for b, c in pairs if b is not None and c is not None and (math.isnan(b) or b > c))
    return found | ({"rule:order": order} if order else {})


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"[A-Z]{2}\d+", ["AB1", "XY22"], ["xAB1", "AB1x", "AB1\n", "", "AB"]),
        ("a|bc", ["a", "bc"], ["ac", "abc", "b"]),
        (r"(?i)de", ["DE", "de"], ["d", "dee"]),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_a_pattern_binds_the_whole_text(pattern: str, good: list[str], bad: list[str], encoded: bool) -> None:
    values = pa.array([*good, None, *bad])
    batch = pa.record_batch({"x": values.dictionary_encode() if encoded else values})
    done = admit(batch, compile_rules({"x": Column("string", pattern=pattern)}, True))
    assert done.bad.tolist() == list(range(len(good) + 1, len(values)))
    assert set(done.reasons) == {("x:pattern",)}


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column("string", pattern="(a"), "no regular expression"),
        (Column("string", pattern="a)|(b"), "no regular"),
        (Column("int64", pattern="a"), "a pattern binds text"),
    ],
)
def test_patterns_that_cannot_be_are_refused(column: Column, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compile_rules({"x": column}, True)


@pytest.mark.parametrize("text", ["31-12-2026", "12/31/2026", "2026/12/31", "20261231", "2026-31-12", " 2026-12-31", "31 Dec 2026"])
@pytest.mark.parametrize("dtype", ["date32", "timestamp[us]"])
def test_a_date_in_another_order_never_becomes_one(text: str, dtype: str) -> None:
    done = admit(pa.record_batch({"x": ["2026-12-31", text]}), compile_rules({"x": Column(dtype)}, True))
    assert (done.bad.tolist(), done.reasons) == ([1], [("x:type",)])

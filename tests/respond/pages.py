"""How a page is looked at without a browser: its tags, its text and what it would fetch; and facts to make pages of."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import strategies as st

from scoring.respond.report.facts import Example, Facts, Found, Histogram, ScoreColumn, WatchedColumn
from scoring.types import BadFile, Check, Cost, PartitionRecord, RunRecord
from scoring.watch.drift import Finding

VOID = {"meta", "br", "rect", "path", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """`tags` in order with attributes, `text` without styles, `styles`, and `problems` with the nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.problems: list[str] = []
        self.styles = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self._open]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data):
        if self._open[-1:] == ["style"]:
            self.styles += data
        else:
            self.words.append(data)


def account(**said) -> RunRecord:
    rows = {"in": 1_010, "scored": 1_000, "quarantined": 10, "suppressed": 0}
    given = {"run_id": "r1", "status": "published", "rows": rows, "partitions": (), "stages": {}, "routes": {}, "devices": {}}
    given |= {"rates": {"rows_per_second": 505.0, "scoring_seconds": 2.0, "wall_seconds": 4.0, "lanes": 2.0}, "environment": {}}
    return RunRecord(**(given | said))


def finding(column="amount", status="warn", value=0.1, family="drift", slice=":all", words="up by 0.3"):
    return Finding(family, column, slice, "ks", value, 0.02, 0.2, 0.0, status, 1_000, "shift", words)


def watched(name="amount", status="warn", value=0.1, partition="date=1", **more) -> WatchedColumn:
    return WatchedColumn(name, False, (Found(partition, finding(name, status, value)),), **more)


HOSTILE = ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "{{ 7*7 }}", "\x00\u202e"]
words = st.text(max_size=40) | st.sampled_from(HOSTILE)
amounts = st.integers(0, 10**9)
shares = st.floats(0, 1)
statuses = st.sampled_from(["published", "published-with-warnings", "held", "paused", "failed"])
checks = st.builds(
    Check,
    st.sampled_from(["drift", "null_rate", "bad_rows", "contract:<b>"]) | words,
    words,
    st.sampled_from(["pass", "warn", "fail", "skip"]),
    st.sampled_from(["warn", "error"]),
    words,
    words,
)


@st.composite
def counts(draw):
    rows = {"scored": draw(amounts), "quarantined": draw(amounts), "suppressed": draw(st.just(0) | amounts)}
    return {"in": sum(rows.values()), **rows}


@st.composite
def histograms(draw):
    cells = draw(st.lists(st.tuples(words, amounts, amounts), min_size=1, max_size=30))
    return Histogram(*(tuple(column) for column in zip(*cells, strict=True)), draw(st.booleans()))


findings = st.builds(
    Finding,
    st.sampled_from(["drift", "score_drift", "null_rate"]),
    words,
    st.just(":all") | words,
    words,
    shares,
    shares,
    st.floats(0, 10),
    st.none() | shares,
    st.sampled_from(["pass", "warn", "fail", "skip"]),
    amounts,
    words,
    words,
)
found = st.lists(st.builds(Found, words, findings), max_size=3).map(tuple)
trails = st.lists(st.tuples(words, st.floats(0, 100), st.booleans()), max_size=130).map(tuple)
columns = st.builds(WatchedColumn, words, st.booleans(), found, found, trails, st.none() | histograms())
partitions = st.builds(PartitionRecord, words, statuses | st.just("skipped"), counts(), st.lists(checks, max_size=4).map(tuple))
seconds = st.floats(0, 1e6)
RATES = ("rows_per_second", "scoring_seconds", "wall_seconds", "lanes")
energy = st.just({}) | st.fixed_dictionaries(
    {}, optional={"joules": st.dictionaries(words, seconds, max_size=3), "why": words}
).map(lambda found: found | {"seconds": 1.0, "source": "rapl"})


@st.composite
def records(draw):
    return RunRecord(
        run_id=draw(words),
        status=draw(statuses),
        rows=draw(counts()),
        partitions=tuple(draw(st.lists(partitions, max_size=20))),
        rates=draw(st.fixed_dictionaries({}, optional=dict.fromkeys(RATES, seconds))),
        stages=draw(st.dictionaries(words | st.just("score"), seconds, max_size=5)),
        routes=draw(st.dictionaries(words | st.sampled_from(["gpu", "cpu", "gpu-smaller-batch"]), amounts, max_size=4)),
        devices=draw(st.dictionaries(words, amounts, max_size=2)),
        environment=draw(st.dictionaries(words, words, max_size=4)),
        reasons=draw(st.dictionaries(words, amounts, max_size=5)),
        bad_files=tuple(draw(st.lists(st.builds(BadFile, words, st.just("read"), words, amounts), max_size=5))),
        notes=tuple(draw(st.lists(words, max_size=3))),
        model=draw(st.dictionaries(words, words, max_size=3)),
        message=draw(words),
        warned=draw(st.dictionaries(words, amounts, max_size=3)),
        energy=draw(energy),
        costs=tuple(draw(st.lists(st.builds(Cost, words, amounts, words, words, shares, shares), max_size=3))),
    )


scores = st.builds(ScoreColumn, words, amounts, st.none() | shares, st.none() | shares, st.none() | histograms())
examples = st.builds(Example, words, words, st.none() | amounts, words)
facts = st.builds(
    Facts,
    records(),
    words,
    st.dictionaries(words, words, max_size=3),
    st.floats(0.01, 8),
    st.none() | st.floats(0, 1e4),
    st.lists(columns, max_size=6).map(tuple),
    st.lists(scores, max_size=2).map(tuple),
    st.lists(examples, max_size=4).map(tuple),
    words,
)

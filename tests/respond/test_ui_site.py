"""The live page against whoever means it harm, and against files that are not what they should be."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_site import PAGES, manifest, part, put, record, site
from obstore.store import MemoryStore
from pages import HOSTILE, Page

from scoring.ledger.chain import Ledger
from scoring.stores import LocalStore
from scoring.stores.objects import ObjectStore

TOKEN = "a-token-of-this-test"
HEADERS = ("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy", "cache-control")


@pytest.fixture
def store(tmp_path):
    """Two partitions of one run, a third that was held."""
    made = LocalStore(str(tmp_path / "w"))
    held = part("date=2026-01-03", "held", 0, [check("bad_share", "date=2026-01-03", "fail")])
    for day in (1, 2):
        put(made, f"scores/_manifests/date=2026-01-0{day}/v00001.json", manifest(f"date=2026-01-0{day}"))
    put(made, "runs/r1/run.json", {"run_id": "r1", "fingerprint": "f", "started": "2026-01-01T00:00:00+00:00"})
    put(made, "runs/r1/record.json", record("r1", "held", [part("date=2026-01-01"), part("date=2026-01-02"), held]))
    put(made, "runs/r1/report.html", b"<!DOCTYPE html><script>alert(1)</script>")
    Ledger(made, "somebody").append("published", "date=2026-01-01", "published date=2026-01-01 v1", {"run_id": "r1", "version": 1})
    return made


def check(name, subject, status):
    return {"name": name, "subject": subject, "status": status, "severity": "error", "expected": "<= 0.01", "actual": "0.2"}


def paths(*more):
    return [*(f"/w/0/{page}" for page in PAGES), "/w/0/runs/r1", "/w/0/partition?key=date=2026-01-01", *more]


def test_every_answer_has_a_policy_and_no_page_anything_that_it_forbids(store):
    found = site(store)
    for path in paths("/nowhere", "/w/7/", "/style.css", "/ui.js"):
        answer = found.ask(path)
        assert all(answer.header(name) for name in HEADERS), path
        assert "default-src 'none'" in answer.header("content-security-policy")
        assert "unsafe" not in answer.header("content-security-policy")
        if answer.header("content-type").startswith("text/html"):
            page = Page(answer.text)
            assert page.problems == []
            assert not any(name.startswith("on") or name == "style" for _, attributes in page.tags for name in attributes), path
            assert all(not script.get("src", "").startswith(("http", "//")) and script["src"] for script in page.of("script"))
            assert not page.styles
    report = found.ask("/w/0/runs/r1/report.html")
    assert report.body == store.get("runs/r1/report.html")
    assert "script-src" not in report.header("content-security-policy")
    assert "sandbox" in report.header("content-security-policy")


def test_it_is_read_only(store):
    found = site(store)
    before = {path: path.stat().st_mtime_ns for path in sorted(store.path("runs").parent.rglob("*"))}
    for path in paths():
        assert found.ask(path).code == 200, path
        assert found.ask(path, "HEAD").code == 200
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert found.ask(path, method).code == 405
    assert {path: path.stat().st_mtime_ns for path in sorted(store.path("runs").parent.rglob("*"))} == before


@pytest.mark.parametrize(
    ("host", "code"),
    [
        *[(host, 200) for host in ("localhost", "localhost:9", "127.0.0.1:8750", "[::1]:8750", "10.0.0.7", "box.example:1")],
        *[(host, 421) for host in ("evil.example", "evil.example:8750", "localhost.evil.example", "127.0.0.1.evil.example", "")],
    ],
)
def test_only_names_of_this_machine_are_answered(store, host, code):
    assert site(store, names={"box.example"}).ask("/w/0/runs", host=host).code == code


CLIMBING = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/secret",
    "/etc/passwd",
    "..",
    ".",
    "r1%00",
    "r1/../r1",
]


@pytest.mark.parametrize("climbing", CLIMBING)
def test_nothing_outside_the_workspace_can_be_asked_for(store, climbing):
    (store.path("runs").parent.parent / "secret").write_text("hush")
    found = site(store)
    for path in (f"/w/0/runs/{climbing}", f"/w/0/runs/{climbing}/report.html", f"/w/0/partition?key={climbing}", f"/{climbing}"):
        answer = found.ask(path)
        assert answer.code == 404, path
        assert b"hush" not in answer.body
        assert b"root:" not in answer.body


def test_a_token_is_needed_everywhere_and_stands_nowhere(store):
    found = site(store, token=TOKEN)
    for path in paths("/", "/w/0/runs/r1/report.html", "/ui.js", "/nowhere"):
        answer = found.ask(path)
        assert answer.code == 401
        assert "date=2026" not in answer.text.replace(quote("date=2026-01-01", safe="="), "") or "partition?key" in path
        assert found.ask(path, cookie="scoring_ui=guess").code == 401
    wrong = found.ask("/login", "POST", b"token=wrong&to=/w/0/runs")
    assert (wrong.code, wrong.header("set-cookie")) == (403, "")
    right = found.ask("/login", "POST", f"token={TOKEN}&to=/w/0/runs".encode())
    assert (right.code, right.header("location")) == (303, "/w/0/runs")
    cookie = right.header("set-cookie")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    answer = found.ask("/w/0/runs", cookie=cookie.partition(";")[0])
    assert answer.code == 200
    assert TOKEN not in answer.text
    once = found.ask(f"/w/0/runs?page=1&token={TOKEN}")
    assert (once.code, once.header("location")) == (303, "/w/0/runs?page=1")
    for to in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/w/0/\r\nX: y"):
        sent = found.ask("/login", "POST", f"token={TOKEN}&to={quote(to)}".encode())
        assert (sent.code, sent.header("location")) == (303, "/")
    assert found.ask("/login", "POST", b"token=" + b"x" * 9_000).code == 413


def test_foreign_names_are_shown_and_are_no_markup(store):
    for n, text in enumerate(HOSTILE[:3]):
        key = f"city={text.replace('/', '-')}"
        put(
            store,
            f"scores/_manifests/{key}/v00001.json",
            manifest(key, model={"name": text, "version": "1"}, checks=[check(text, text, "warn")]),
        )
        told = {"actor": text, "reason": text, "decided": text}
        put(store, f"scores/_manifests/{key}/v00002.json", manifest(key, 2, override=told))
        reasons = {f"admit:{text}:range": 3}
        put(
            store,
            f"runs/h{n}/record.json",
            record(f"h{n}", "failed", [part(key, "held", 0, [check(text, text, "fail")])], message=text, reasons=reasons),
        )
        finding = {
            "family": "drift",
            "column": text,
            "slice": ":all",
            "status": "fail",
            "value": 1.0,
            "threshold": 0.1,
            "cause": text,
            "words": text,
        }
        put(store, f"watch/records/{key}/r1.aa.json", {"findings": [finding]})
    found = site(store)
    keys = [f"/w/0/partition?key={quote('city=' + text.replace('/', '-'))}" for text in HOSTILE[:3]]
    seen = ""
    for path in paths("/w/0/runs/h0", "/w/0/runs/h1", *keys):
        answer = found.ask(path)
        assert answer.code == 200, path
        page = Page(answer.text)
        assert page.problems == []
        assert page.of("img") == []
        assert all(script == {"src": "/ui.js", "defer": None} for script in page.of("script"))
        assert "49" not in page.of("title")
        seen += page.text
    assert HOSTILE[0].replace("/", "-") in seen
    assert "{{ 7*7 }}" in seen


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.sampled_from([10**30, "\ud800", "r1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FILES = (
    *("runs/r1/record.json", "runs/r1/run.json", "runs/r1/progress.json", "runs/own-name/run.json", "runs/own-name/record.json"),
    *("scores/_manifests/date=2026-01-01/v00001.json", "scores/_manifests/date=2026-01-02/v00002.json", "ledger/00000001.json"),
    *("watch/records/date=2026-01-01/r1.aa.json", "control/ledger-head.json"),
)
WHOLE = {
    "runs/r1/record.json": record("r1", "held", [part("date=2026-01-02", "held", 0)]),
    "scores/_manifests/date=2026-01-01/v00001.json": manifest("date=2026-01-01"),
}


@st.composite
def spoilt(draw):
    """A file that is anything, cut off, or whole but for one value."""
    name = draw(st.sampled_from(FILES))
    if name in WHOLE and draw(st.booleans()):
        found = dict(WHOLE[name])
        found[draw(st.sampled_from(sorted(found)))] = draw(JSON)
        return name, json.dumps(found).encode()
    text = json.dumps(draw(JSON)).encode()
    return name, draw(st.sampled_from([text, text[: len(text) // 2], b"", b"\xff\xfe", b"[" * 100_000]))


@settings(max_examples=25)
@given(st.lists(spoilt(), min_size=1, max_size=3))
def test_damaged_files_are_never_a_fault_of_the_page(tmp_path_factory, some):
    store = LocalStore(str(tmp_path_factory.mktemp("damaged")))
    put(store, "runs/r1/record.json", WHOLE["runs/r1/record.json"])
    for name, data in some:
        put(store, name, data)
    found = site(store)
    for path in paths("/w/0/runs/own-name", "/w/0/partition?key=date=2026-01-02"):
        answer = found.ask(path)
        assert answer.code in (200, 404), (path, answer.text)
        assert Page(answer.text).problems == []


def test_what_is_damaged_is_named(store):
    put(store, "runs/r1/record.json", b'{"run_id": "r1", "sta')
    put(store, "scores/_manifests/date=2026-01-02/v00002.json", b"{")
    put(store, "ledger/00000001.json", b"not json")
    found = site(store)
    assert "runs/r1/record.json" in Page(found.ask("/w/0/runs/r1").text).text
    assert "cut off or no JSON" in Page(found.ask("/w/0/partition?key=date=2026-01-02").text).text
    assert "damaged" in Page(found.ask("/w/0/").text).text
    assert "chain broken" in Page(found.ask("/w/0/ledger").text).text


def test_what_changes_is_seen_and_what_stands_is_not_read_again(store):
    found = site(store)
    assert "held" in Page(found.ask("/w/0/runs").text).text
    put(store, "runs/r1/record.json", record("r1", "published", [part("date=2026-01-01")]))
    assert "held" not in Page(found.ask("/w/0/runs").text).text
    assert found.ask("/w/0/partition?key=date=2026-01-01").code == 200
    put(store, "scores/_manifests/date=2026-01-01/v00001.json", b"{")
    assert "cut off" not in Page(found.ask("/w/0/partition?key=date=2026-01-01").text).text


def test_a_run_is_running_while_it_says_so(store):
    def told(age_s, status="running"):
        moment = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat(timespec="seconds")
        rows = {"rows": {"done": 25, "planned": 100}, "scored": 20, "quarantined": 5, "suppressed": 0, "lanes": 2}
        rows |= {
            "slices": {"done": 1, "planned": 4},
            "rows_per_second": 12.5,
            "eta_seconds": [6, 9],
            "status": status,
            "updated": moment,
        }
        put(store, "runs/r2/progress.json", rows)
        return Page(site(store).ask("/w/0/runs/r2").text).text

    put(store, "runs/r2/run.json", {"run_id": "r2", "fingerprint": "f", "started": datetime.now(UTC).isoformat()})
    said = told(5)
    assert "Running now: r2" in said
    assert "25 of 100 rows planned so far" in said
    assert "6.0 s to 9.0 s" in said
    assert "no sign of life" in told(120)
    assert "failed" in told(120, "failed")


def test_a_bucket_is_read_as_a_folder_is():
    store = ObjectStore("memory://bucket", MemoryStore())
    store.put("scores/_manifests/date=2026-01-01/v00001.json", json.dumps(manifest("date=2026-01-01")).encode())
    put(store, "runs/r1/record.json", record("r1", "published", [part("date=2026-01-01")]))
    Ledger(store, "somebody").append("published", "date=2026-01-01", "published date=2026-01-01 v1", {"run_id": "r1", "version": 1})
    found = site(store)
    for path in paths():
        assert found.ask(path).code == 200, path
    assert "chain holds" in Page(found.ask("/w/0/ledger").text).text
    put(store, "runs/r1/record.json", record("r1", "failed"))
    assert "failed" in Page(found.ask("/w/0/runs").text).text


def test_made_by_another_model_is_stale(store):
    put(store, "scores/_manifests/date=2026-01-02/v00002.json", manifest("date=2026-01-02", 2, "r2", parts={"model": "other"}))
    parts = [part("date=2026-01-02", "published", 2)]
    put(store, "runs/r2/record.json", record("r2", "published", parts, finished="2026-02-01T00:00:00+00:00"))
    put(store, "runs/r2/run.json", {"run_id": "r2", "fingerprint": "f", "started": "2026-02-01T00:00:00+00:00"})
    said = Page(site(store).ask("/w/0/partition?key=date=2026-01-01").text).text
    assert "stale" in said
    assert "Newer partitions were made with another model" in said
    assert "stale" not in Page(site(store).ask("/w/0/partition?key=date=2026-01-02").text).text


def test_a_large_workspace_opens_in_a_second(tmp_path):
    """1,000 runs and 10,000 partitions, nothing read before. In seconds of this process: a busy machine decides nothing."""
    root = tmp_path / "w"
    first = date(1999, 1, 1)
    plain = json.dumps(manifest("KEY", checks=[check("drift", f"column {n}", "pass") for n in range(20)]))
    for n in range(10_000):
        key = f"date={first + timedelta(days=n)}"
        (root / "scores" / "_manifests" / key).mkdir(parents=True)
        (root / "scores" / "_manifests" / key / "v00001.json").write_text(plain.replace("KEY", key))
    for n in range(1_000):
        folder = root / "runs" / f"run-{n:04d}"
        folder.mkdir(parents=True)
        began = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n)
        (folder / "run.json").write_text(json.dumps({"started": began.isoformat()}))
        (folder / "record.json").write_text(
            json.dumps(record(folder.name, partitions=[part(f"date={first + timedelta(days=n)}")] * 10))
        )
    times = []
    for _ in range(3):
        found = site(LocalStore(str(root)))
        began_s = time.process_time()
        answer = found.ask("/w/0/")
        times.append(time.process_time() - began_s)
        assert answer.code == 200
    assert "10,000" in answer.text
    assert "run-0999" in answer.text
    assert min(times) < 1.0, times
    for path in paths()[:-2]:
        assert found.ask(path).code == 200

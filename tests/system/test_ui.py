"""The live page in a real browser over a real server: what a person sees of a workspace, and of a run that goes on meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import watched_place
from watched_place import begun, browser, environment, served

PATHS = ("/w/0/", "/w/0/runs", "/w/0/runs/second", "/w/0/partitions", "/w/0/partition?key=date=2026-01-08", "/w/0/drift")
PATHS += ("/w/0/quarantine", "/w/0/ledger", "/w/0/runs/first/report.html")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    watched_place.made(folder)
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Any:
    with served(f"workspace={place / 'w'}") as (found, _):
        yield found


@pytest.fixture(scope="module")
def desk() -> Any:
    with browser() as found:
        yield found


def until(driver: Any, seen: Any) -> Any:
    """A page that is replaced while it is read is read again."""
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        return WebDriverWait(driver, 60, 0.1, ignored_exceptions=[StaleElementReferenceException]).until(lambda d: seen(d))
    except TimeoutException:
        raise AssertionError(text(driver)) from None


def done(driver: Any) -> int:
    """Rows, as the panel of a run that goes on says it."""
    return int(driver.find_element("css selector", "#live progress").get_attribute("value"))


def text(driver: Any) -> str:
    return str(driver.find_element("tag name", "body").text)


def complaints(driver: Any, address: str) -> list[str]:
    """Errors in the console, and requests to anybody else, since this was asked last."""
    found = [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked = urlsplit(message["params"]["request"]["url"])
            if asked.netloc != urlsplit(address).netloc and asked.scheme not in ("data", "chrome", "about"):
                found.append(f"asked {asked.geturl()}")
    return found


def test_from_the_calendar_to_a_partition_to_its_run_to_the_report(address: str, desk: Any) -> None:
    desk.get(address)
    assert "The last run was held by a gate. 1 partition held, 1 day missing." in text(desk)
    assert "chain holds" in text(desk)
    cell = {c.text.split()[0]: c.get_attribute("class") for c in desk.find_elements("css selector", ".month td") if c.text}
    assert [cell[n] for n in "5789"] == ["is-published", "is-missing", "is-held", "is-published-with-warnings"]
    desk.find_element("css selector", "td.is-held a").click()
    assert "date=2026-01-08" in desk.find_element("tag name", "h1").text
    assert "bad_rows" in text(desk) or "bad_share" in text(desk), text(desk)
    desk.find_element("link text", "second").click()
    assert "scoring release-held second 'date=2026-01-08'" in text(desk)
    desk.find_element("link text", "Open its report").click()
    assert "held by the gate" in desk.find_element("tag name", "h1").text
    assert desk.execute_script("return getComputedStyle(document.querySelector('.tag.fail')).fontWeight") == "600", "it is styled"
    assert complaints(desk, address) == []


def test_drift_quarantine_and_ledger_tell_what_was_found_and_nobodys_data(address: str, desk: Any) -> None:
    desk.get(f"{address}/w/0/drift")
    drifted = [h.text for h in desk.find_elements("css selector", ".card h3")]
    assert {drifted[0].split()[0], drifted[1].split()[0]} <= {"x0", "x1", "score"}
    assert desk.find_element("css selector", ".card svg path.f").get_attribute("d")
    desk.get(f"{address}/w/0/quarantine")
    assert "x1:range" in text(desk)
    assert "-99.0" in text(desk)
    assert "'aaaaaa@aaaaaaa.aaaaaaaaa…'" in text(desk).replace("str like ", "")
    desk.get(f"{address}/w/0/ledger")
    assert text(desk).count("published") >= 3
    assert "held" in text(desk)
    for path in PATHS:
        with urllib.request.urlopen(address + path) as answer:
            assert watched_place.CANARY not in answer.read().decode()
    assert complaints(desk, address) == []


def test_progress_moves_while_a_run_goes_on_and_its_end_shows(place: Path, address: str, desk: Any) -> None:
    desk.get(f"{address}/w/0/")
    desk.execute_script("window.same = true")
    with begun(place) as process:
        log = place / "third.log"
        until(desk, lambda d: desk.refresh() or "Running now: third" in text(d) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        until(desk, lambda d: done(d) >= 200)
        assert "A run goes on" in text(desk)
        assert "of 1,200 rows" in text(desk)
        desk.execute_script("window.same = true")
        before = done(desk)
        assert before < 800, "it waits"
        (place / "gates" / "1001").touch()
        until(desk, lambda d: done(d) > before)
        assert desk.execute_script("return window.same"), "it was refreshed in place"
        (place / "gates" / "1002").touch()
        assert process.wait(60) == 0, log.read_text()
        until(desk, lambda d: "Running now" not in text(d) and "The last run published everything" in text(d))
        assert not desk.execute_script("return window.same"), "the whole page is new when a run has ended"
    assert complaints(desk, address) == []


def test_a_killed_run_is_known_by_its_silence(place: Path, address: str, desk: Any) -> None:
    with urllib.request.urlopen(f"{address}/w/0/runs") as answer:
        assert "no sign of life" not in answer.read().decode()
    folder = place / "w" / "runs" / "killed"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"run_id": "killed", "fingerprint": "f", "started": "2026-01-01T00:00:00+00:00"}))
    told = json.loads((place / "w" / "runs" / "third" / "progress.json").read_text())
    (folder / "progress.json").write_text(json.dumps(told | {"status": "running", "updated": "2026-01-01T00:10:00+00:00"}))
    desk.get(f"{address}/w/0/runs/killed")
    assert "no sign of life" in text(desk)
    assert "its process is gone" in text(desk)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_every_page_without_scrolling_sideways(address: str, dark: bool) -> None:
    with browser(390, dark) as phone:
        for path in PATHS[:-1]:  # the report looks after itself
            phone.get(address + path)
            until(phone, text)
            assert phone.execute_script("return document.documentElement.scrollWidth") <= 390, path
            wide = (
                "return Math.max(...[...document.querySelectorAll('header *, main > *')].map(e => e.getBoundingClientRect().right))"
            )
            assert phone.execute_script(wide) <= 391, path
            paper = phone.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(21, 23, 26)") is dark, path
        assert complaints(phone, address) == []


def test_a_token_is_asked_for_once(place: Path) -> None:
    token = "a-token-of-this-test"
    with served(f"workspace={place / 'w'}", SCORING_UI_TOKEN=token) as (address, _), browser() as desk:
        desk.get(f"{address}/w/0/runs")
        assert "second" not in text(desk)
        desk.find_element("id", "token").send_keys("wrong")
        desk.find_element("tag name", "button").click()
        until(desk, lambda d: "This is not the token." in text(d))
        desk.find_element("id", "token").send_keys(token)
        desk.find_element("tag name", "button").click()
        until(desk, lambda d: d.current_url == f"{address}/w/0/runs")
        assert "second" in text(desk)
        (cookie,) = desk.get_cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert token not in cookie["value"]
        desk.get(f"{address}/w/0/ledger")
        assert "chain holds" in text(desk)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(place: Path, number: int) -> None:
    with served(f"workspace={place / 'w'}") as (address, process):
        with urllib.request.urlopen(address + "/w/0/") as answer:
            assert answer.status == 200
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def refused(*said: str, **more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "scoring", "ui", *said]
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    return done.returncode, done.stderr


def test_what_cannot_be_served_is_said(place: Path, address: str, tmp_path: Path) -> None:
    here = f"workspace={place / 'w'}"
    assert refused()[0] == 64
    assert refused(f"workspace={tmp_path / 'none'}")[0] == 78
    assert refused(here, f"workspace={tmp_path}")[0] == 78, "each of them is looked at"
    code, said = refused(here, "host=0.0.0.0")
    assert (code, "SCORING_UI_TOKEN" in said) == (78, True)
    code, said = refused(here, "host=0.0.0.0", "token_env=MINE", MINE="short")
    assert (code, "MINE has 5 characters" in said, "short;" in said) == (78, True, False)
    code, said = refused(here, f"port={urlsplit(address).port}")
    assert (code, "Address already in use" in said) == (69, True)
    assert refused(here, "port=70000")[0] == 78

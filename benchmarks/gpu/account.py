"""The account of a run: from events to what is kept as JSON, and to the lines that are printed last. Standard library only."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gpu import goals, texts, tuned

Event = dict[str, Any]


def account(events: list[Event], head: Event) -> Event:
    """All that was found, by part; `floors` are joined with predictions and with the ceilings that this machine reached."""
    done = [event for event in events if "status" in event]
    facts = {event["check"]: event for event in done if event["part"] == "facts" and event["status"] == "ok"}
    device = facts.get("machine", {}).get("device", "unknown")
    counted: dict[str, Counter[str]] = {}
    for event in done:
        counted.setdefault(event["part"], Counter())[event["status"]] += 1
    body = {"device": device, "counted": counted, "facts": facts, "tuned": tuned.best(done)}
    body |= {"kernels": list(_kernels(done, facts, device)), "goals": {name: goal.text for name, goal in goals.GOALS.items()}}
    body |= {
        "lane_goals": {name: text for name, (_, text) in goals.LANE.items()},
        "text_goals": {name: text for name, (_, text) in goals.TEXT.items()},
        "failed": [e for e in done if e["status"] == "fail"],
    }
    found = head | body
    found["lines"] = list(_lines(found, done))
    return found | {"events": done}


def _kernels(done: list[Event], facts: Event, device: str) -> Iterator[Event]:
    """One entry for each large case that was timed."""
    floors = {(e["kernel"], e["case"]): e for e in done if e.get("check") == "arguments" and e["status"] == "ok"}
    copy = facts.get("copy", {}).get("per_second")
    product = facts.get("matmul bfloat16", {}).get("per_second")
    timed = {(e["kernel"], e["case"]): e for e in done if e.get("check") == "timing" and e["status"] == "ok"}
    for (kernel, case), event in timed.items():
        floor, took = floors[kernel, case], event["times"]["ours"]["seconds"]
        wanted, seconds = goals.goal(kernel, case), goals.predicted(kernel, case, floor, device)
        entry = {"kernel": kernel, "case": case, "bytes": floor["bytes"], "flops": floor["flops"], "ours": event["times"]["ours"]}
        entry |= {"goal": wanted.text if wanted else None, "predicted_seconds": seconds, "missing": _missing(kernel, case, done)}
        entry |= {"predicted_over_measured": seconds / took if seconds else None}
        entry |= {"share_of_copy": floor["bytes"] / took / copy if copy else None}
        entry |= {"share_of_matmul": floor["flops"] / took / product if product else None}
        entry["rivals"] = list(_rivals(event, done, wanted))
        yield entry


def _rivals(event: Event, done: list[Event], wanted: goals.Goal | None) -> Iterator[Event]:
    """Each beside our time of the same turn."""
    turns = [e for check in ("beside", "compiled") for e in _of(event["kernel"], event["case"], check, done) if e["status"] == "ok"]
    apart = {e["rival"]: e["apart"] for e in _of(event["kernel"], event["case"], "rival", done) if e["status"] == "ok"}
    for turn in turns:
        for name, theirs in turn["times"].items():
            if name != "ours":
                ours = turn["times"]["ours"]
                found = {"name": name, "theirs": theirs, "ours": ours, "ratio": theirs["seconds"] / ours["seconds"]}
                yield found | {
                    "predicted_ratio": wanted.over.get(name) if wanted else None,
                    "apart": turn.get("apart", apart.get(name)),
                }


def _missing(kernel: str, case: str, done: list[Event]) -> dict[str, str]:
    """Rivals that were not timed, and why."""
    missing: dict[str, str] = {}
    for event in _of(kernel, case, "rivals", done):
        missing |= event.get("missing", {})
    missing |= {e["rival"]: e["why"] for e in _of(kernel, case, "rival", done) if e["status"] != "ok"}
    for event in _of(kernel, case, "beside", done):
        missing |= {} if event["status"] == "ok" else {"all": event["why"]}
    compiled = [event.get("why") for event in _of(kernel, case, "compiled", done)] or ["not tried"]
    return missing | ({goals.COMPILED: compiled[0]} if compiled[0] else {})


def _of(kernel: str, case: str, check: str, done: list[Event]) -> list[Event]:
    return [e for e in done if (e["kernel"], e.get("case"), e.get("check")) == (kernel, case, check)]


def _line(name: str, ours: float, theirs: float, unit: str, n: float) -> Event:
    ratio = round(ours / theirs, 3) if theirs else None
    ours, theirs = (float(f"{value:.5g}") for value in (ours, theirs))
    return {"name": name, "ours": ours, "theirs": theirs, "ratio": ratio, "unit": unit, "n": n}


def _lines(found: Event, done: list[Event]) -> Iterator[Event]:
    yield from _ceilings(found)
    for kernel in dict.fromkeys(e["kernel"] for e in done if e["part"] == "parity"):
        tried = [e for e in done if e["part"] == "parity" and e["kernel"] == kernel and not _beside_the_point(e)]
        yield _line(f"{kernel}: checks passed / tried", sum(e["status"] == "ok" for e in tried), len(tried), "checks", len(tried))
    for entry in found["kernels"]:
        name, size = f"{entry['kernel']} {entry['case']}", entry["bytes"] / 1e9
        rate, n = size / entry["ours"]["seconds"], entry["ours"]["n"]
        if entry["predicted_seconds"]:
            yield _line(f"{name} / predicted", rate, size / entry["predicted_seconds"], "GB/s", n)
        for rival in entry["rivals"]:
            ours, theirs = (size / rival[side]["seconds"] for side in ("ours", "theirs"))
            yield _line(f"{name} / {rival['name']}", ours, theirs, "GB/s", rival["ours"]["n"])
    yield from _lane(done, _nominal(found) is not None)
    yield from texts.lines([e for e in done if e["part"] == "text" and e["status"] == "ok"], _nominal(found) is not None, _line)


def _beside_the_point(event: Event) -> bool:
    """Skipped since there is nothing to check; what was skipped for want of time or memory counts against us."""
    return event["status"] == "skip" and not any(word in event["why"] for word in ("no time", "does not fit"))


def _nominal(whole: Event) -> goals.Ceiling | None:
    return next((ceiling for name, ceiling in goals.CEILINGS.items() if name in whole["device"]), None)


def _ceilings(whole: Event) -> Iterator[Event]:
    nominal, facts = _nominal(whole), whole["facts"]
    if nominal is None:
        return
    if found := facts.get("copy"):
        yield _line("copy on the device / nominal", found["per_second"] / 1e9, nominal.bandwidth / 1e9, "GB/s", found["n"])
    if found := facts.get("matmul bfloat16"):
        yield _line("bfloat16 product / nominal", found["per_second"] / 1e12, nominal.matmul / 1e12, "TFLOP/s", found["n"])
    if found := facts.get("pcie"):
        yield _line("pinned copy to the device / 55 GB/s", found["to_device"] / 1e9, 55.0, "GB/s", found["n"])


def _lane(done: list[Event], known: bool) -> Iterator[Event]:
    """`known`: the device is one that predictions are for."""
    events = [event for event in done if event["part"] == "lane" and event["status"] == "ok"]
    rates: dict[str, list[float]] = {}
    for event in events:
        if "lane " in event["check"]:
            rates.setdefault(event["check"], []).append(event["per_second"])
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        if known and name in goals.LANE:
            yield _line(f"{name} / predicted", rate, goals.LANE[name][0], "rows/s", len(rates[name]))
        other = name.replace(" cuda", " cpu")
        if other != name and other in medians:
            yield _line(f"{name} / {other}", rate, medians[other], "rows/s", len(rates[name]))
    for event in (event for event in events if "bare " in event["check"]):
        found, (before, device) = event["per_second"], event["check"].split("bare ")
        for what in (f"{before}encode", f"{before}send {device}", f"{before}forward {device}"):
            if known and what in goals.LANE:
                ours = found[what.removeprefix(before).split()[0]]
                yield _line(f"{event['check']}, {what} / predicted", ours, goals.LANE[what][0], "rows/s", event["n"])
        yield _line(f"{event['check']}, all / encode", found["all"], found["encode"], "rows/s", event["n"])

"""What the text lane measured, as lines: rows and tokens a second beside predictions, products and sentence-transformers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from gpu import goals

Event = dict[str, Any]
Line = Callable[[str, float, float, str, float], Event]  # name, ours, theirs, unit, n


def lines(done: list[Event], known: bool, line: Line) -> Iterator[Event]:
    """`done`: what the part did; `known`: the device is one that predictions are for."""
    rates: dict[str, list[float]] = {}
    for event in done:
        if event["check"].startswith("lane "):
            rates.setdefault(event["check"].removeprefix("lane "), []).append(event["per_second"])
    lanes = {kind: (statistics.median(found), len(found)) for kind, found in rates.items()}
    for kind, (rate, n) in lanes.items():
        if known:
            yield line(f"text {kind} / predicted", rate, goals.TEXT[kind][0], "rows/s", n)
    for event in done:
        what, _, kind = event["check"].partition(" ")
        if what == "alone":
            yield from _alone(event, kind, lanes, known, line)
        if what == "rival" and kind in lanes:
            rate, n = lanes[kind]
            yield line(f"text {kind} / {event['rival']}", rate, event["per_second"], "rows/s", n)
        if what == "agreement":
            yield line(f"text, least cosine to {_other(kind)} / 0.999", event["cosine_least"], 0.999, "cosine", 1)


def _alone(event: Event, kind: str, lanes: dict[str, tuple[float, int]], known: bool, line: Line) -> Iterator[Event]:
    n = event["n"]
    forward, products, spelled = (event[f"{what}_per_second"] for what in ("forward_tokens", "products_tokens", "tokenise_rows"))
    if known:
        yield line(f"text {kind}, forward / predicted", forward, goals.TEXT[f"forward {kind}"][0], "tokens/s", n)
        yield line(f"text {kind}, tokenising / predicted", spelled, goals.TEXT[f"tokenise {kind}"][0], "rows/s", 1)
    yield line(f"text {kind}, forward / its products alone", forward, products, "tokens/s", n)
    if kind in lanes:
        yield line(f"text {kind} / tokenising alone", lanes[kind][0], spelled, "rows/s", lanes[kind][1])


def _other(kind: str) -> str:
    return "the CPU in float32" if kind == "cpu" else f"sentence-transformers {kind}"

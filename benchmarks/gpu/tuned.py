"""The best configuration of each kernel and key, from the times of all of them: what `kernels/tuned/<device>.json` holds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

GAIN = 0.02  # what another configuration must be faster by than the first: below it is noise


def best(events: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """kernel -> key -> place, by the geometric mean over cases of time / time of the first configuration."""
    times: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for event in events:
        if event.get("check") == "tuning" and event.get("status") == "ok":
            times[event["kernel"], event["key"]][event["case"]][event["place"]] = event["seconds"]
    found: dict[str, dict[str, int]] = {}
    for (kernel, key), cases in sorted(times.items()):
        whole = [case for case in cases.values() if 0 in case]
        places = set.intersection(*(set(case) for case in whole)) if whole else {0}
        ratio = {place: _mean([case[place] / case[0] for case in whole]) if whole else 1.0 for place in places}
        fastest = min(sorted(ratio), key=ratio.__getitem__)
        found.setdefault(kernel, {})[key] = fastest if ratio[fastest] < 1 - GAIN else 0
    return found


def _mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))

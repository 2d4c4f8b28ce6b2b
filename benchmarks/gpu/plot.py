"""A picture of the account: bytes of the floor over time, ours and theirs, beside what was predicted and what a copy reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(found: dict[str, Any], path: Path) -> None:
    """Raises: ImportError: there is no matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = found["kernels"]
    names = list(dict.fromkeys(["ours", *(rival["name"] for entry in entries for rival in entry["rivals"])]))
    figure, axes = pyplot.subplots(figsize=(11, 1.5 + 0.25 * len(names) * max(len(entries), 1)), layout="constrained")
    height = 0.8 / len(names)
    for place, name in enumerate(names):
        bars = [(row, _rate(entry, name)) for row, entry in enumerate(entries)]
        known = [(row - 0.4 + (place + 0.5) * height, rate) for row, rate in bars if rate]
        black = {"color": "black"} if name == "ours" else {}
        axes.barh([at for at, _ in known], [rate for _, rate in known], height, label=name, **black)
    for row, entry in enumerate(entries):
        if entry["predicted_seconds"]:
            axes.plot([entry["bytes"] / entry["predicted_seconds"] / 1e9] * 2, [row - 0.4, row + 0.4], "r-", lw=2)
    if "copy" in found["facts"]:
        axes.axvline(found["facts"]["copy"]["per_second"] / 1e9, color="grey", ls="--", label="a copy")
    axes.set_yticks(range(len(entries)), [f"{entry['kernel']}\n{entry['case']}" for entry in entries], fontsize=8)
    axes.set_xlabel(f"GB/s of the floor's bytes on {found['device']}, {found['date']} (red: predicted)")
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)


def _rate(entry: dict[str, Any], name: str) -> float | None:
    took = entry["ours"] if name == "ours" else next((r["theirs"] for r in entry["rivals"] if r["name"] == name), None)
    return entry["bytes"] / took["seconds"] / 1e9 if took else None

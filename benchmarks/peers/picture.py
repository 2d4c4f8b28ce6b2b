"""The plot: rows per second of every contender, by the number of rows, one panel for each kind of work. Runs in .venv-peers.

.venv-peers/bin/python benchmarks/peers/picture.py raw.jsonl peers.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers import medians
from peers.cases import FULL, lines_of
from peers.contenders import CONTENDERS, OURS


def draw(raw: Path, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = lines_of(map(json.loads, raw.read_text().splitlines()), FULL)
    rows = {line["case"]: line["rows"] for line in lines if "round" in line}
    found = [entry for entry in medians.entries(lines) if not entry.trouble]
    kinds = list(dict.fromkeys(case.rpartition(" ")[0] for case in rows))
    colours = dict(zip(CONTENDERS, pyplot.get_cmap("tab20").colors, strict=False))
    columns = min(3, len(kinds))
    figure, axes = pyplot.subplots(-(-len(kinds) // columns), columns, figsize=(4.6 * columns, 4.2 * -(-len(kinds) // columns)),
                                   squeeze=False, layout="constrained")  # fmt: skip
    for panel, kind in zip(axes.flat, kinds, strict=False):
        for name in CONTENDERS:
            own = sorted((rows[e.case], e) for e in found if e.contender == name and e.case.rpartition(" ")[0] == kind)
            if own:
                at, rates = [r for r, _ in own], [e.rate for _, e in own]
                ranges = [[e.rate - e.spread[0] for _, e in own], [e.spread[1] - e.rate for _, e in own]]
                style = {"lw": 2.5, "marker": "o"} if name in OURS else {"lw": 1, "marker": "."}
                panel.errorbar(at, rates, ranges, label=CONTENDERS[name].title, color=colours[name], capsize=2, **style)
        panel.set(xscale="log", yscale="log", title=kind, xlabel="rows", ylabel="rows/s, steady")
    for panel in list(axes.flat)[len(kinds) :]:
        panel.set_axis_off()
    known = {label: line for panel in axes.flat for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))

"""Who takes part: a name, what the table calls it, how it is started, and on which work it makes sense.

`call` is "module:function" of this folder, run by contend.py; "" is our own command. `foreign`: it lives in .venv-peers, because
its versions of libraries are not ours. `spared`: the cases that would take a slow contender too long; the tables name them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    title: str
    call: str
    families: tuple[str, ...]
    foreign: bool = False
    spared: tuple[str, ...] = ()
    whole_job: bool = True  # from files to files; else in memory, without a cold start to speak of


ALL = ("tabular", "text", "forest")
CONTENDERS = {
    "ray": Contender("scoring, engine=ray", "", ALL),
    "ray-bf16": Contender("scoring, engine=ray, bf16", "", ("text",)),
    "inline": Contender("scoring, engine=inline", "", ("tabular", "forest")),
    "hand": Contender("hand loop, two processes", "hand:run", ALL),
    "hand-module": Contender("hand loop, two processes, nn.Module", "hand:module", ("tabular",), spared=("tabular 24M",)),
    "ray-data": Contender("Ray Data, Arrow batches", "ray_data:run", ALL),
    "ray-data-module": Contender("Ray Data, NumPy batches, nn.Module", "ray_data:module", ("tabular",)),
    "daft": Contender("Daft", "daft_frame:run", ALL, foreign=True),
    "daft-module": Contender("Daft, nn.Module", "daft_frame:module", ("tabular",), foreign=True),
    "spark": Contender(
        "PySpark predict_batch_udf",
        "spark:run",
        ALL,
        foreign=True,
        spared=("tabular 24M", "text mixed 1.8k", "forest lightgbm 200k"),
    ),
    "encode": Contender("sentence-transformers encode, in memory", "in_memory:encode", ("text",), whole_job=False),
    "encode-bf16": Contender("the same in bfloat16, in memory", "in_memory:encode_bf16", ("text",), whole_job=False),
    "library": Contender("the library's predict, in memory", "in_memory:library", ("forest",), whole_job=False),
    "library-1": Contender("the same, one thread", "in_memory:library_1", ("forest",), whole_job=False),
    "bare": Contender("our own model, in memory", "bare:run", ("text", "forest"), whole_job=False),
}
OURS = ("ray", "ray-bf16", "inline")


def takes_part(name: str, case: str) -> bool:
    """`case` as `Case.name` says it; its first word is the family."""
    one = CONTENDERS[name]
    return case.split()[0] in one.families and case not in one.spared

"""Predictions, written down before a run, so that it says where they were wrong.

A floor is what a case must move and compute (`traffic` of the kernel file); a goal is the share of the floor that a kernel should
reach, and what it should gain over others. They come from formulas and from what others published; where one was changed after a
run, since the kernel or its floor was seen to be another, both stand there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ceiling:
    """Of a device, as its maker states: bytes of HBM and bfloat16 operations a second."""

    bandwidth: float
    matmul: float


CEILINGS = {"H100": Ceiling(3.35e12, 989e12), "H200": Ceiling(4.8e12, 989e12), "A100": Ceiling(2.039e12, 312e12)}
ISSUE = 132 * 1.755e9 * 32 / 3  # lane steps a second on an H100: three clocks a step of a warp, one warp of each multiprocessor


@dataclass(frozen=True)
class Goal:
    """`share` of nominal bandwidth that is expected; `rate`: operations a second, where they bind; `over`: times faster than a
    contender, at least.
    """

    text: str
    share: float
    rate: float | None = None
    over: Mapping[str, float] = field(default_factory=dict)


EAGER, COMPILED = "torch eager", "torch.compile"
GOALS: dict[str, Goal] = {  # by "kernel case", else by kernel
    "arrow_ingest": Goal(
        "0.25 of HBM: 1.3 GB are moved for 0.64 GB of floor, zeros first and values twice for the counts, and counting takes "
        "0.2 ms of integer instructions; below a tenth of the copy over PCIe all the same; 15-40x eager, 2x compile. (The form "
        "before this one stored 4 bytes at a time: 0.30 was predicted, 0.09 and 0.06 measured on an H200.)",
        0.25, over={EAGER: 15, COMPILED: 2},
    ),
    "arrow_ingest 1048576x64-float32-uncounted": Goal("0.40 of HBM: 1.0 GB for 0.64 GB of floor, at the rate of a copy", 0.40),
    "arrow_ingest 1048576x64-float32-by-column": Goal("0.30 of HBM: 1.0 GB in one pass, which counting slows down", 0.30),
    "arrow_codes": Goal("0.65 of HBM (0.80 at best); 3x eager, 1.5x compile", 0.65, over={EAGER: 3, COMPILED: 1.5}),
    "embedding_concat": Goal("0.60 of HBM (0.80 at best); 3-6x eager, 1.3-2x compile", 0.60, over={EAGER: 3, COMPILED: 1.3}),
    "embedding_concat lists-262144x4": Goal(
        "0.25 of HBM: rows of four tables of 128 MB are drawn at random, 2.2 GB of them beside a floor of 0.86 GB that reads each "
        "row once (0.60 was predicted without that, 0.21 measured on an H200)",
        0.25, over={EAGER: 3, COMPILED: 1.3},
    ),
    "packed_attention": Goal(
        "mean length <= 128: 0.55 of HBM (0.80 at best); 512 tokens of width 64: 300 TFLOP/s (400 at best); beside varlen_attn "
        "1.5-3x at mean <= 64, 1.0-1.15x from 256 on; beside padded SDPA the padding factor x 1.2",
        0.55, 300e12, {"varlen_attn": 1.0, "padded SDPA": 1.2},
    ),
    "packed_attention short-12x32-bfloat16": Goal(
        "0.55 of HBM (0.80 at best); 1.5-3x varlen_attn, 2.4x padded SDPA (half of the tokens are padding)",
        0.55, 300e12, {"varlen_attn": 1.5, "padded SDPA": 2.4},
    ),
    "packed_attention skewed-12x32-bfloat16": Goal(
        "0.55 of HBM (0.80 at best); 1.2x varlen_attn, 10x padded SDPA (nine tokens of ten are padding)",
        0.55, 300e12, {"varlen_attn": 1.2, "padded SDPA": 10.0},
    ),
    "packed_attention 8192-12x64-bfloat16-window-rotary": Goal(
        "0.40 of HBM (0.60 at best): tiles of rotary tables are read again and the window wastes half a block on each side",
        0.40, 200e12,
    ),
    "add_norm": Goal("0.80 of HBM (0.90 at best); 2x eager, 0.95-1.1x compile", 0.80, over={EAGER: 2, COMPILED: 0.95}),
    "pool_normalize": Goal("0.80 of HBM (0.90 at best); 3-5x eager, 1.5-2x compile", 0.80, over={EAGER: 3, COMPILED: 1.5}),
    "forest": Goal(
        "0.30 of the issue bound (0.60 at best): 706 M rows/s x 0.30 for 500 trees of depth 6; 10-50x eager, 5-20x compile",
        0.30, 0.30 * ISSUE, {EAGER: 10, COMPILED: 5},
    ),
    "score_head": Goal("0.70 of HBM (0.88 at best); 6-10x eager, 2-3x compile", 0.70, over={EAGER: 6, COMPILED: 2}),
    "pair_interaction": Goal(
        "0.50 of HBM (0.75 at best); 3x eager, 1.3x compile: a guess, small products of 27 x 27 beside cuBLAS",
        0.50, over={EAGER: 3, COMPILED: 1.3},
    ),
}  # fmt: skip
LANE = {  # rows a second of 64 columns, 60 float32 and 4 categories, from Parquet to staged Parquet
    "forest lane cuda": (
        3.0e6,
        "3 M rows/s: reading binds, as of the tabular lane with 3.5 M; ranks take 0.5 us a row of a core more",
    ),
    "forest lane cpu": (2.5e6, "2.5 M rows/s: one core does 0.9 M of 28 columns, 16 share 60 columns and one reader"),
    "forest encode": (16e6, "16 M rows/s: 60 columns x 15 ns a row of a core, 16 of them at 0.9"),
    "forest send cuda": (300e6, "300 M rows/s: 120 B a row at 40 GB/s"),
    "forest forward cuda": (115e6, "115 M rows/s: 500 trees of 6 levels over int16 took 9.06 ms for 1 M rows of 2 M on an H200"),
    "lane cuda": (2.0e6, "2 M rows/s: reading, encoding and staging on the CPU bind, as they do with 20 columns and 2.2 M rows/s"),
    "lane cpu": (1.0e6, "1 M rows/s: the network binds"),
    "encode": (22e6, "22 M rows/s: 13 ns a row for 20 columns was measured, 45 ns for 64"),
    "send cuda": (30e6, "30 M rows/s: 256 B a row are copied into pinned memory first, at some 10 GB/s; PCIe alone would do 215 M"),
    "forward cuda": (80e6, "80 M rows/s: 0.39 MFLOP a row in float32 at 50 TFLOP/s are 128 M; embeddings and a transpose on top"),
}
TEXT = {  # MiniLM-L6: rows a second of the lane and of tokenising, both on 16 cores; tokens a second of the forward
    "short": (90e3, "90 k rows/s: tokenising binds; the GPU would do 1 M; 3.5x sentence-transformers"),
    "mixed": (45e3, "45 k rows/s: tokenising binds; the GPU would do 300 k; 4x sentence-transformers"),
    "long": (
        11e3,
        "11 k rows/s: tokenising binds; the GPU would do 50 k; 1.6x sentence-transformers, which tokenises, then computes",
    ),
    "tokenise short": (110e3, "110 k rows/s: 3 M tokens/s of 0.26 M on each core, and 4 us a row that only one core can do"),
    "tokenise mixed": (55e3, "55 k rows/s: 36 tokens a row of the same 3 M tokens/s, and the same 4 us"),
    "tokenise long": (13e3, "13 k rows/s: 200 tokens a row"),
    "forward short": (12e6, "12 M tokens/s: 21 MFLOP at 550 TFLOP/s are 38 ns, 83 KB beside the products at 4.2 TB/s 20 ns, gaps"),
    "forward mixed": (12e6, "12 M tokens/s: as short ones, with 0.5 MFLOP of attention"),
    "forward long": (10e6, "10 M tokens/s: 1.8 MFLOP of attention and 14 k powers of 2 a token on top"),
}  # products alone: 23 M tokens/s, so that the forward should reach half of them


def goal(kernel: str, case: str) -> Goal | None:
    return GOALS.get(f"{kernel} {case}") or GOALS.get(kernel)


def predicted(kernel: str, case: str, floor: Mapping[str, Any], device: str) -> float | None:
    """Seconds, on this device; None where there is no goal, or no ceiling to take a share of."""
    wanted, ceiling = goal(kernel, case), next((c for name, c in CEILINGS.items() if name in device), None)
    if wanted is None or ceiling is None:
        return None
    by_bytes = floor["bytes"] / (wanted.share * ceiling.bandwidth)
    return max(by_bytes, floor["flops"] / wanted.rate) if wanted.rate else by_bytes

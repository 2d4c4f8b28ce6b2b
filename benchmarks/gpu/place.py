"""Where the parts of `make gpu-check` run: on the GPU, or rehearsed on a CPU in Triton's interpreter with the smallest cases."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "kernels"))


@dataclass(frozen=True)
class Place:
    rehearsal: bool

    @property
    def cuda(self) -> bool:
        return not self.rehearsal

    @property
    def device(self) -> str:
        return "cpu" if self.rehearsal else "cuda"

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def small(self, module: ModuleType) -> list[Any]:
        cases = [case for case in module.cases() if case.size == "small"]
        return _smallest(module, cases)[:1] if self.rehearsal else cases

    def large(self, module: ModuleType) -> list[Any]:
        """In a rehearsal the smallest case stands for those, too."""
        return self.small(module) if self.rehearsal else [case for case in module.cases() if case.size == "large"]


def prepare(rehearsal: bool) -> Place:
    """Once in a process, before kernels are imported."""
    if not rehearsal:
        torch.cuda.init()
        return Place(False)
    import exact_bf16  # in tests/kernels

    exact_bf16.install()
    from scoring.kernels.frame import operator

    operator.force("triton")  # a CPU would compute the reference
    return Place(True)


def _smallest(module: ModuleType, cases: list[Any]) -> list[Any]:
    """By elements of all tensors, without those that the kernel refuses or that have no output."""
    import walk

    found = []
    for case in cases:
        arguments = case.arguments("cpu")
        given = [t for value in arguments.values() for t in (value if isinstance(value, list) else [value])]
        size = sum(t.numel() for t in given if isinstance(t, torch.Tensor))
        out = sum(t.numel() for t in walk.tensors(module.fake(**arguments)))
        if module.refuses(**arguments) is None and out > 15:
            found.append((size, case.name, case))
    return [case for *_, case in sorted(found, key=lambda item: item[:2])]

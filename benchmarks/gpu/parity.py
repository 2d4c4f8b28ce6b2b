"""Every kernel and case on the device: against the reference in float64, bits from run to run, in a CUDA graph, under compile.

The default configuration comes first, then the others: one of those that breaks the context must not hide what works.
"""

from __future__ import annotations

import fcntl
import gc
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import walk
from gpu.place import Place
from gpu.record import Event, Recorder, Skip

from scoring.kernels.frame import tuning
from scoring.kernels.frame.case import Tolerance

SIDE_BY_SIDE = 3  # processes that hold a large case at a time: in float64 some need 10 GB
SAMPLE = 16  # every so many rows of a large forest are held against float64
SECONDS, LARGE_SECONDS, COMPILE_SECONDS = 60, 90, 90


def run(recorder: Recorder, kernels: list[str], place: Place) -> None:
    for done, name in enumerate(kernels):
        recorder.begin(name, kernels[done + 1 :])
        module = walk.kernel(name)
        others = range(1, walk.most_configs(module))
        small = place.small(module)
        for case in small:
            _hold(recorder, _Proof(module, case, place), [0], SECONDS)
        for case in small:
            recorder.attempt(partial(_graph, module, case, place), SECONDS, case=case.name, check="graph")
        recorder.attempt(partial(_compiled, module, small, place), COMPILE_SECONDS, case="one", check="compile")
        for case in small:
            _hold(recorder, _Proof(module, case, place), others, SECONDS)
        for case in () if place.rehearsal else place.large(module):
            with _slot():
                _hold(recorder, _Proof(module, case, place), [0, *others], LARGE_SECONDS)
                gc.collect()
                torch.cuda.empty_cache()


def _hold(recorder: Recorder, proof: _Proof, places: Any, seconds: float) -> None:
    for number in places:
        names = {"case": proof.case.name, "check": "float64", "place": number}
        if recorder.attempt(partial(proof.hold, number), seconds, **names) is not None and number == 0:
            recorder.attempt(proof.repeat, seconds, case=proof.case.name, check="bits", place=0)


class _Proof:
    """A case on the device; its truth is computed once for all configurations."""

    def __init__(self, module: ModuleType, case: Any, place: Place) -> None:
        self.case, self._module, self._place = case, module, place
        self._arguments: dict[str, Any] | None = None
        self._truth: tuple[torch.Tensor, ...] = ()
        self._against, self._slack = "float64", 1.0

    def hold(self, number: int) -> Event:
        module, arguments = self._module, self._given()
        if (refusal := module.refuses(**arguments)) is not None:
            raise Skip(f"the kernel refuses: {refusal}")
        try:
            self._truth = self._truth or self._reference()
            looser = {d: Tolerance(t.absolute * self._slack, t.relative * self._slack) for d, t in module.TOLERANCES.items()}
            parts = {"fused": self._fused, "reference": lambda **_: self._truth, "TOLERANCES": looser}
            parts |= {"consequences": module.consequences} if hasattr(module, "consequences") else {}
            with tuning.only(number):
                found = walk.proven(SimpleNamespace(**parts), arguments)  # type: ignore[arg-type]
        except torch.OutOfMemoryError:
            raise Skip("the comparison does not fit in the memory of the device") from None
        return {"against": self._against, "error": _error(found, self._truth)}

    def repeat(self) -> None:
        with tuning.only(0):
            one, other = (walk.poisoned(self._module.fused, **self._given()) for _ in range(2))
        assert walk.same(one, other), "two runs differ in their bits"

    def _given(self) -> dict[str, Any]:
        if self._arguments is None:
            self._arguments = self.case.arguments(self._place.device)
        return self._arguments

    def _reference(self) -> tuple[torch.Tensor, ...]:
        try:
            exact = {name: walk.exact(value) for name, value in self._some().items()}
            return walk.tensors(self._module.reference(**exact))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        self._against, self._slack = "the reference in the case's own dtype, twice the tolerance", 2.0
        return walk.tensors(self._module.reference(**self._some()))

    def _sampled(self) -> bool:
        return self._module.NAME == "forest" and self.case.size == "large"

    def _fused(self, **given: Any) -> Any:
        out = self._module.fused(**given)
        return out[SAMPLE - 1 :: SAMPLE] if self._sampled() else out

    def _some(self) -> dict[str, Any]:
        """The arguments that the truth is computed of: all, but of a large forest only some rows from one end to the other. The
        reference walks trees one after the other, a minute for a million rows, and no row's bits depend on others.
        """
        given = self._given()
        return given | {"columns": given["columns"][:, SAMPLE - 1 :: SAMPLE].contiguous()} if self._sampled() else given


def _error(found: tuple[torch.Tensor, ...], truth: tuple[torch.Tensor, ...]) -> float:
    """The largest difference of finite values."""
    worst = 0.0
    for got, want in zip(found, truth, strict=True):
        if got.is_floating_point() and got.numel():
            with suppress(torch.OutOfMemoryError):
                worst = max(worst, float((got.double() - want.double()).nan_to_num_(0.0, 0.0, 0.0).abs_().max()))
    return worst


def _graph(module: ModuleType, case: Any, place: Place) -> None:
    """What is captured and replayed must write every output anew, with the bits of the eager call."""
    arguments = case.arguments(place.device)
    if (refusal := module.refuses(**arguments)) is not None:
        raise Skip(f"the kernel refuses: {refusal}")
    eager = walk.poisoned(module.op, **arguments)
    assert walk.same(eager, walk.poisoned(module.fused, **arguments)), "the operator gives other bits than the kernel"
    if not any(t.numel() for t in eager):
        raise Skip("nothing to capture: the case has no output")
    if not place.cuda:
        raise Skip("CUDA only")
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            module.op(**arguments)
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    gc.collect()
    gc.disable()  # a kernel of Triton's that is collected while a graph is captured unloads its module, which ends the capture
    try:
        with torch.cuda.graph(graph):
            out = walk.tensors(module.op(**arguments))
    finally:
        gc.enable()
    for tensor in out:
        tensor.fill_(math.nan if tensor.is_floating_point() else 1)
    graph.replay()
    torch.cuda.synchronize()
    assert walk.same(out, eager), "the replayed graph gives other bits than the eager call"


def _compiled(module: ModuleType, cases: list[Any], place: Place) -> Event:
    given = ((case, case.arguments(place.device)) for case in cases)
    fit = ((c, a) for c, a in given if module.refuses(**a) is None and any(t.numel() for t in walk.tensors(module.fake(**a))))
    case, arguments = next(fit)
    torch._dynamo.reset()
    backend = "inductor" if place.cuda else "aot_eager"
    compiled = torch.compile(lambda **named: module.op(**named), fullgraph=True, backend=backend)
    assert walk.same(compiled(**arguments), module.op(**arguments)), "compiled, the operator gives other bits"
    return {"compiled": case.name}


@contextmanager
def _slot() -> Iterator[None]:
    """One of a few places, shared by the processes of this machine."""
    folder = Path(tempfile.gettempdir()) / f"gpu-check-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    files = [(folder / f"slot-{n}").open("w") for n in range(SIDE_BY_SIDE)]
    try:
        while not any(map(_locked, files)):
            time.sleep(0.05)
        yield
    finally:
        for file in files:
            file.close()


def _locked(file: Any) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False

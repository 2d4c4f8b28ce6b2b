"""Times of every kernel on its large cases: each configuration, then the best of them beside torch, torch.compile and libraries.

What only a GPU can tell comes first: the times of all kernels themselves. Then rivals, then compilers, which some kernels keep for
minutes. A kernel file may offer `rivals(arguments) -> {name: function without arguments}`; others are in `rivals.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
import torch._dynamo  # whole: a time limit that fell into its import would leave half of it
import walk
from gpu import clock, rivals, tuned
from gpu.place import Place
from gpu.record import Event, Recorder, Skip

from scoring.kernels.frame import tuning

TUNE_SECONDS, RIVAL_SECONDS, TIME_SECONDS, COMPILE_SECONDS = 20, 8, 15, 30
SLOW_S = 3.0  # a run of a rival
SLOWEST = ("arrow_ingest", "packed_attention", "forest")  # their references run longest or take longest to compile: they come last
NEVER_COMPILED = {"forest": "its reference is thousands of steps, one after the other: compilers work on it for minutes"}
COMPILE_MODE = "max-autotune-no-cudagraphs"  # at these sizes a launch costs nothing; graphs would add copies of the inputs
DRAWING = 6  # cases at a time: one after the other they take a minute


def run(recorder: Recorder, kernels: list[str], place: Place) -> None:
    """Kernels share the time that compilers have. Arguments stay on the device meanwhile, some 25 GB for all kernels."""
    import_module("torch._dynamo")  # here, where no limit is: cut off, an import leaves half a module, and no compiler works
    names = [*(n for n in kernels if n not in SLOWEST), *(n for n in SLOWEST if n in kernels)]
    with ThreadPoolExecutor(DRAWING) as pool:
        benches = [_Bench(recorder, walk.kernel(name), place, pool) for name in names]
        for bench in benches:
            recorder.begin(bench.name, [name for name in names if name != bench.name])
            bench.take()
    for bench in benches:
        recorder.begin(bench.name, [name for name in names if name != bench.name])
        bench.alone()
    for done, bench in enumerate(benches):
        recorder.begin(bench.name, names[done + 1 :])
        bench.beside()
    for done, bench in enumerate(benches):  # a case of each, before the others of any
        recorder.begin(bench.name, [], others=len(benches) - done - 1)
        for case in bench.cases[:1]:
            bench.beside_compilers(case)
    for bench in benches:
        recorder.begin(bench.name, [])
        for case in bench.cases[1:]:
            bench.beside_compilers(case)


class _Bench:
    """One kernel. Cases that fail drop out; so do, for all cases that follow, rivals that failed or were too slow on one."""

    def __init__(self, recorder: Recorder, module: ModuleType, place: Place, pool: ThreadPoolExecutor) -> None:
        self.name = module.NAME
        self.cases: list[str] = []
        self._recorder, self._module, self._place = recorder, module, place
        given = (*rivals.more_cases(module, place), *place.large(module))
        self._drawn = {case.name: pool.submit(case.arguments, place.device) for case in given}
        self._given: dict[str, dict[str, Any]] = {}
        self._tuned: list[Event] = []
        self._out: dict[str, str] = {}

    def take(self) -> None:
        for case, drawn in self._drawn.items():
            if self._recorder.attempt(partial(self._take, case, drawn), 60, case=case, check="arguments") is not None:
                self.cases.append(case)

    def _take(self, case: str, drawn: Future[Any]) -> Event:
        arguments = drawn.result()
        if (refusal := self._module.refuses(**arguments)) is not None:
            raise Skip(f"the kernel refuses: {refusal}")
        floor = self._module.traffic(arguments)
        self._given[case] = arguments
        return {"bytes": floor.bytes, "flops": floor.flops}

    def alone(self) -> None:
        for case in tuple(self.cases):
            self._tune(case)
        with tuning.chosen(tuned.best(self._tuned)):
            for case in self.cases:
                turns = partial(self._turns, {"ours": self._ours(case)})
                self._recorder.attempt(turns, TIME_SECONDS, case=case, check="timing")

    def _tune(self, case: str) -> None:
        """Key by key: a case may launch kernels of several keys, the others stay at their first configuration meanwhile."""
        module, work = self._module, partial(self._module.fused, **self._given[case])
        tuning.picked.clear()
        if self._recorder.attempt(lambda: self._once(work), TUNE_SECONDS, case=case, check="first launch") is None:
            self.cases.remove(case)  # it would not run with others beside it, either
            return
        for kernel, key in sorted(tuning.picked):
            for number in range(len(module.CONFIGS[key])) if kernel == module.NAME else ():
                names = {"case": case, "check": "tuning", "key": key, "place": number}
                found = self._recorder.attempt(partial(self._at, {kernel: {key: number}}, work), TUNE_SECONDS, **names)
                if found is not None:
                    self._tuned.append({"kernel": kernel, "status": "ok"} | names | found)

    def _once(self, work: Callable[[], Any]) -> None:
        with tuning.chosen({}):
            work()
        self._place.wait()

    def _at(self, places: tuning.Places, work: Callable[[], Any]) -> Event:
        with tuning.chosen(places), torch.no_grad():
            return clock.one(work, self._place.cuda)

    def _ours(self, case: str) -> Callable[[], Any]:
        return partial(self._module.op, **self._given[case])

    def beside(self) -> None:
        """Rivals are tried one by one, and those that work take turns with ours."""
        with tuning.chosen(tuned.best(self._tuned)):
            for case in self.cases:
                works = self._offers(case)
                able = {name: work for name, work in works.items() if self._able(case, name, work)}
                if able:
                    turns = partial(self._turns, {"ours": self._ours(case)} | able)
                    self._recorder.attempt(turns, TIME_SECONDS, must=False, case=case, check="beside")

    def _offers(self, case: str) -> rivals.Works:
        works: rivals.Works = {"torch eager": partial(self._module.reference, **self._given[case])}

        def offer() -> Event:
            found, missing = rivals.of(self._module, self._given[case])
            works.update(found)
            return {"missing": missing}

        self._recorder.attempt(offer, RIVAL_SECONDS, must=False, case=case, check="rivals")
        return works

    def _able(self, case: str, name: str, work: Callable[[], Any]) -> bool:
        names = {"case": case, "check": "rival", "rival": name}
        if name in self._out:
            self._recorder.missing(self._out[name], **names)
            return False
        if self._recorder.attempt(partial(self._try, case, work), RIVAL_SECONDS, must=False, **names) is not None:
            return True
        self._out[name] = f"not tried: failed, or too slow, on {case}"
        return False

    def _try(self, case: str, work: Callable[[], Any]) -> Event:
        found: list[Any] = []
        with torch.no_grad():
            ours = walk.tensors(self._ours(case)())
            if (took := clock.once(lambda: found.append(work()), self._place.cuda)) > SLOW_S:
                raise Skip(f"not timed: its first run takes {took:.1f} s")
            return {"apart": _apart(ours, found[0])}

    def _turns(self, contenders: dict[str, Callable[[], Any]]) -> Event:
        with torch.no_grad():
            return {"times": clock.turns(contenders, self._place.cuda)}

    def beside_compilers(self, case: str) -> None:
        names, name = {"case": case, "check": "compiled"}, "torch.compile"
        if (why := NEVER_COMPILED.get(self.name, self._out.get(name))) is not None and self._place.cuda:
            self._recorder.missing(why, **names)
            return
        with tuning.chosen(tuned.best(self._tuned)):
            if self._recorder.attempt(partial(self._compiled, case), COMPILE_SECONDS, must=False, **names) is None:
                self._out[name] = f"not tried: failed, or not done in time, on {case}"

    def _compiled(self, case: str) -> Event:
        torch._dynamo.reset()
        options = {"mode": COMPILE_MODE} if self._place.cuda else {"backend": "aot_eager"}
        compiled = torch.compile(self._module.reference, dynamic=False, **options)
        contenders = {"ours": self._ours(case), "torch.compile": partial(compiled, **self._given[case])}
        with torch.no_grad():
            apart = _apart(walk.tensors(contenders["ours"]()), contenders["torch.compile"]())
            return {"times": clock.turns(contenders, self._place.cuda), "apart": apart}


def _apart(ours: tuple[torch.Tensor, ...], theirs: Any) -> float | None:
    """The largest difference of finite values, where the outputs are of one form: a rival must compute the same thing."""
    other = walk.tensors(theirs)
    if len(ours) != len(other) or any(a.shape != b.shape for a, b in zip(ours, other, strict=True)):
        return None
    pairs = [(a, b) for a, b in zip(ours, other, strict=True) if a.numel() and a.is_floating_point()]
    return max((float((a.float() - b.float()).nan_to_num_(0.0, 0.0, 0.0).abs_().max()) for a, b in pairs), default=0.0)

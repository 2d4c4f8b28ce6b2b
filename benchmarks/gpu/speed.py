"""Times of every kernel on its large cases: each configuration, then the best of them beside torch, torch.compile and libraries.

A kernel file may offer `rivals(arguments) -> {name: function without arguments}`; others are in `rivals.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
import walk
from gpu import clock, rivals, tuned
from gpu.place import Place
from gpu.record import Event, Recorder, Skip

from scoring.kernels.frame import tuning

TUNE_SECONDS, RIVAL_SECONDS, TIME_SECONDS, COMPILE_SECONDS = 30, 20, 40, 45
SLOW_S = 3.0  # a run of a rival
COMPILE_MODE = "max-autotune-no-cudagraphs"  # at these sizes a launch costs nothing; graphs would add copies of the inputs


def run(recorder: Recorder, kernels: list[str], place: Place) -> None:
    """Compilers come last, when all else is measured, and kernels share the time that is left: some take minutes.

    Arguments stay on the device meanwhile, some 25 GB for all kernels: drawing them takes longer than timing.
    """
    benches = []
    for name in kernels:
        recorder.begin(name)
        benches.append(_Bench(recorder, walk.kernel(name), place))
        benches[-1].measure()
    for done, bench in enumerate(benches):
        recorder.begin(bench.name, len(benches) - done - 1, last_round=True)
        bench.beside_compilers()


class _Bench:
    """One kernel."""

    def __init__(self, recorder: Recorder, module: ModuleType, place: Place) -> None:
        self.name = module.NAME
        self._recorder, self._module, self._place = recorder, module, place
        self._given: dict[str, dict[str, Any]] = {}
        self._tuned: list[Event] = []

    def measure(self) -> None:
        attempt = self._recorder.attempt
        for case in (*self._place.large(self._module), *rivals.more_cases(self._module, self._place)):
            attempt(partial(self._make, case), TUNE_SECONDS, case=case.name, check="arguments")
        for case in tuple(self._given):
            self._tune(case)
        with tuning.chosen(tuned.best(self._tuned)):
            for case in self._given:
                self._beside(case)

    def beside_compilers(self) -> None:
        with tuning.chosen(tuned.best(self._tuned)):
            for case in self._given:
                self._recorder.attempt(partial(self._compiled, case), COMPILE_SECONDS, must=False, case=case, check="compiled")

    def _make(self, case: Any) -> Event:
        arguments = case.arguments(self._place.device)
        if (refusal := self._module.refuses(**arguments)) is not None:
            raise Skip(f"the kernel refuses: {refusal}")
        floor = self._module.traffic(arguments)
        self._given[case.name] = arguments
        return {"bytes": floor.bytes, "flops": floor.flops}

    def _tune(self, case: str) -> None:
        """Key by key: a case may launch kernels of several keys, the others stay at their first configuration meanwhile."""
        module, work = self._module, partial(self._module.fused, **self._given[case])
        tuning.picked.clear()
        if self._recorder.attempt(lambda: self._once(work), TUNE_SECONDS, case=case, check="first launch") is None:
            del self._given[case]  # it would not run with others beside it, either
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

    def _beside(self, case: str) -> None:
        """Rivals are tried one by one, and those that work take turns with ours."""
        self._offered: rivals.Works = {}
        attempt = self._recorder.attempt
        attempt(partial(self._offer, case), RIVAL_SECONDS, must=False, case=case, check="rivals")
        works, self._offered = self._offered, {}
        works = {"torch eager": partial(self._module.reference, **self._given[case])} | works
        tried = {name: partial(self._try, case, work) for name, work in works.items()}
        found = {n: attempt(work, RIVAL_SECONDS, must=False, case=case, check="rival", rival=n) for n, work in tried.items()}
        contenders = {"ours": self._ours(case)} | {name: works[name] for name in works if found[name] is not None}
        attempt(partial(self._turns, contenders), TIME_SECONDS, case=case, check="timing")

    def _offer(self, case: str) -> Event:
        self._offered, missing = rivals.of(self._module, self._given[case])
        return {"missing": missing}

    def _try(self, case: str, work: Callable[[], Any]) -> Event:
        with torch.no_grad():
            apart = _apart(walk.tensors(self._ours(case)()), work())
            took = clock.once(work, self._place.cuda)
        if took > SLOW_S:
            raise Skip(f"not timed: one run takes {took:.1f} s")
        return {"apart": apart}

    def _turns(self, contenders: dict[str, Callable[[], Any]]) -> Event:
        with torch.no_grad():
            return {"times": clock.turns(contenders, self._place.cuda)}

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

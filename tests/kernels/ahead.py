"""Compile every kernel, case and configuration for GPUs that are not here, and read what the code needs.

    python tests/kernels/ahead.py [--write | --first] [kernel …]

prints one JSON object: {"sm_90": {"add_norm _kernel(…)": {"registers": 48, …}, …}, …}. With --write the golden table of this Triton
is written, too: what `make golden-kernels` does for both. With --first only the configuration that each call has without a tuned
table is compiled.

Uses Triton's own front door with a driver that only names the target, so that arguments are specialised as in a real launch.
Registers come from cuobjdump, which is in Triton's wheel, instructions from the PTX. Runs without TRITON_INTERPRET.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
import walk
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from scoring.kernels.frame import tuning

SHARED_LIMIT = {80: 166_912, 90: 232_448}  # bytes that a program may have (CUDA C++ Programming Guide, compute capabilities)
GOLDEN = Path(__file__).parent / "golden" / f"triton-{triton.__version__}.json"
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
COUNTED = {  # in PTX, which ptxas keeps: nvdisasm takes as long as everything else together
    "wide_loads": r"ld\.global\S*\.(v4\.\w32|v2\.\w64)", "wide_stores": r"st\.global\S*\.(v4\.\w32|v2\.\w64)",
    "async_copies": r"cp\.async\.(c[ag]|bulk\.tensor)", "tensor_cores": r"mma\.sync|wgmma\.mma_async",
    "warpgroup": r"wgmma\.mma_async", "instructions": r";\s*$",
}  # fmt: skip


class Target:
    """A driver without a GPU."""

    def __init__(self, capability: int) -> None:
        self._capability = capability
        properties = {"max_shared_mem": SHARED_LIMIT[capability], "multiprocessor_count": 132, "warpSize": 32}
        self.utils = SimpleNamespace(get_device_properties=lambda device: properties)

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._capability, 32)

    def get_current_device(self) -> int:
        return self._capability  # one number a target: Triton keeps what it compiled by device

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def compiled(names: list[str], capability: int, first: bool) -> dict[str, Any]:
    """Label -> compiled kernel, each once."""
    triton.runtime.driver.set_active(Target(capability))
    found: dict[str, Any] = {}
    front = JITFunction.run

    def warm(self: Any, *given: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        made = front(self, *given, grid=grid, warmup=True, **named)
        found[label(name, self, made)] = made
        return made

    JITFunction.run = warm
    try:
        for name in names:
            module = walk.kernel(name)
            for case in module.cases():
                arguments = case.arguments() if case.size == "small" else None
                if arguments is None or module.refuses(**arguments) is not None:
                    continue
                for place in range(1 if first else walk.most_configs(module)):
                    with tuning.only(place):
                        module.fused(**arguments)
    finally:
        JITFunction.run = front
    return found


def label(name: str, function: Any, made: Any) -> str:
    """Kernel file, function, dtypes of its pointers and all that is constant in it."""
    source, names = made.src, function.arg_names
    pointers = [kind for kind in source.signature.values() if str(kind).startswith("*")]
    constants = {names[place[0]] if isinstance(place, tuple) else place: value for place, value in source.constants.items()}
    told = " ".join(f"{key}={value}" for key, value in sorted(constants.items(), key=lambda item: str(item[0])) if key.isupper())
    kinds = ",".join(dict.fromkeys(str(kind)[1:] for kind in pointers))
    wide = "".join(str(int((place,) in source.attrs)) for place in range(len(names)))  # which arguments are multiples of 16
    return f"{name} {function.__name__}({kinds}) {told} warps={made.metadata.num_warps} aligned={int(wide, 2):x}"


def resources(made: Any) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        used = {
            word: int(n)
            for word, n in re.findall(r"(REG|STACK|LOCAL):(\d+)", tool("cuobjdump", "--dump-resource-usage", file.name))
        }
        assert used, f"cuobjdump says nothing of {made.metadata.name}"
        code = tool("nvdisasm", "-c", file.name) if used["STACK"] or used["LOCAL"] else ""  # else there is nowhere to spill to
    counts = {what: len(re.findall(pattern, made.asm["ptx"], re.MULTILINE)) for what, pattern in COUNTED.items()}
    spills = len(re.findall(r"\b(STL|LDL)\b", code))
    return {"registers": used["REG"], "spills": spills, "shared": made.metadata.shared, **counts}


def tool(name: str, *words: str) -> str:
    return subprocess.run([TOOLS / name, *words], capture_output=True, text=True, check=True).stdout


def main(names: list[str], first: bool) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for capability in sorted(SHARED_LIMIT):
        found = compiled(names or walk.NAMES, capability, first)
        report[f"sm_{capability}"] = {told: resources(found[told]) for told in sorted(found)}
    return report


if __name__ == "__main__":
    report = main([name for name in sys.argv[1:] if not name.startswith("--")], "--first" in sys.argv)
    if "--write" in sys.argv:
        GOLDEN.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))

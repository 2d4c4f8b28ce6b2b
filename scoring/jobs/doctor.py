"""What this machine offers and what a run would use here, each with the reason."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from scoring.engine import capacity
from scoring.errors import ScoringError
from scoring.jobs.arguments import Given
from scoring.models import precision
from scoring.pool import private
from scoring.settings import Engine, Hardware
from scoring.stores import open_store, probe

_PACKAGES = ("torch", "triton", "ray", "pyarrow", "polars", "hydra-core", "safetensors", "obstore")
_CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_CLIENT_ID"),
}
_TRITON_TEST = "import torch, triton; triton.runtime.driver.active.get_current_target(); print(triton.__version__)"
_TRITON_TIMEOUT_S = 60
_DRIVER = Path("/sys/module/nvidia/version")
_USABLE = "creates objects only if absent: usable as a workspace"


@dataclass(frozen=True)
class Diagnosis:
    """`would_use` says what a run with the default settings would do; `problems` is empty when one could start."""

    machine: dict[str, str]
    versions: dict[str, str]
    stores: dict[str, str]
    would_use: tuple[str, ...]
    problems: tuple[str, ...]


def doctor(workspace: str | None = None, store: str | None = None) -> Diagnosis:
    """Look around. `workspace` and `store` (a folder, s3://…) are probed for put-if-absent, or else the temporary folder."""
    problems: list[str] = []
    machine = capacity.measure()
    try:
        would_use = _would_use(capacity.plan(machine, Hardware(), Engine()))
    except ScoringError as error:
        would_use = ()
        problems.append(str(error))
    stores = {f"{kind}://": _credentials(kind) for kind in _CREDENTIALS}
    for place in [p for p in (workspace, store) if p] or [tempfile.gettempdir()]:
        answer = _probed(place)
        stores[place] = answer or _USABLE
        problems += [answer] if answer else []
    return Diagnosis(_machine(machine, workspace), _versions(), stores, would_use, tuple(problems))


def _would_use(lanes: capacity.LanePlan) -> tuple[str, ...]:
    share = f"{lanes.cpus} core(s)" + (f" and {lanes.gpus:g} GPU(s)" if lanes.gpus else "")
    memory = f"about {lanes.memory_gb:g} GB of memory each, {lanes.count * lanes.memory_gb:g} GB in all"
    return (*lanes.reasons, f"each lane: {share}; {memory}", _precision(lanes))


def _precision(lanes: capacity.LanePlan) -> str:
    if lanes.gpus:
        return "precision: float32, of texts bfloat16"
    found = precision.bf16_instruction()
    pays = f"this CPU multiplies it ({found})" if found else f"this machine: {precision.without_bf16()}"
    return f"precision: float32; for texts there is model.precision=bf16, {pays}"


def _machine(found: capacity.Machine, workspace: str | None) -> dict[str, str]:
    folder = workspace if workspace and Path(workspace).is_dir() else os.getcwd()
    facts = {
        "cores": f"{found.cores} usable of {os.cpu_count()}",
        "memory": f"{found.memory_bytes / 1e9:.1f} GB available",
        "disk": f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free in {folder}",
        "gpus": ", ".join(f"{name}, {size}" for name, size in zip(found.gpus, _gpu_sizes(found), strict=True)) or "none usable",
        "cuda": f"torch built for {torch.version.cuda or 'no CUDA'}, {_driver()}",
        "triton": _triton(),
        "left behind": _cleared(private.clear()),
        "python": f"{platform.python_version()} on {platform.platform()}",
    }
    return facts


def _cleared(found: private.Cleared) -> str:
    if not found.folders:
        return "nothing by runs that were killed"
    return f"{found.folders} folder(s) and {found.processes} process(es) of Ray by runs that were killed; removed"


def _gpu_sizes(found: capacity.Machine) -> list[str]:
    return [f"{torch.cuda.get_device_properties(n).total_memory / 1e9:.0f} GB" for n in range(len(found.gpus))]


def _driver() -> str:
    try:
        return f"driver {_DRIVER.read_text().strip()}"
    except OSError:
        return "no NVIDIA driver found"


def _triton() -> str:
    """Whether kernels can run, tried in a process of its own: a broken driver may take its process along."""
    try:
        done = subprocess.run([sys.executable, "-c", _TRITON_TEST], capture_output=True, text=True, timeout=_TRITON_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"not usable: no answer in {_TRITON_TIMEOUT_S} s"
    if done.returncode == 0:
        return f"usable, {done.stdout.strip()}"
    lines = done.stderr.strip().splitlines()
    return f"not usable: {lines[-1] if lines else f'exit code {done.returncode}'}"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _credentials(kind: str) -> str:
    there = [name for name in _CREDENTIALS[kind] if os.environ.get(name)]
    return f"credentials by {', '.join(there)}" if there else "no credentials in the environment (an instance role may still work)"


def _probed(place: str) -> str:
    """What is wrong with a place, or nothing. Leaves it as it was."""
    try:
        with _spare(place) as there:
            probe(open_store(there))
    except ScoringError as error:
        return str(error)
    except OSError as error:
        return f"{place}: {error.strerror or error}"
    return ""


@contextmanager
def _spare(place: str) -> Iterator[str]:
    """A bucket itself; for a folder, one that is removed again: in it, or where it would be made."""
    local = place.removeprefix("file://")
    if "://" in local:
        yield place
        return
    wanted = Path(local).expanduser().absolute()
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=next(p for p in (wanted, *wanted.parents) if p.exists())) as spare:
        yield spare


def command(given: Given) -> tuple[Diagnosis, int]:
    found = doctor(given.get("workspace"), given.get("store"))
    return found, 78 if found.problems else 0


def render(found: Diagnosis) -> str:
    lines = []
    for title, facts in (("this machine", found.machine), ("versions", found.versions), ("stores", found.stores)):
        lines += [title, *(f"  {name:14} {said}" for name, said in facts.items())]
    lines += ["a run would use", *(f"  {said}" for said in found.would_use)]
    return "\n".join(lines + (["problems", *(f"  {said}" for said in found.problems)] if found.problems else ["no problems found"]))

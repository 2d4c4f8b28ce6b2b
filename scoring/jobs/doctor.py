"""What this machine offers and what a run would use here, each with the reason."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from scoring.engine import capacity
from scoring.errors import ScoringError
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


@dataclass(frozen=True)
class Diagnosis:
    """`would_use` says what a run with the default settings would do; `problems` is empty when one could start."""

    machine: dict[str, str]
    versions: dict[str, str]
    stores: dict[str, str]
    would_use: tuple[str, ...]
    problems: tuple[str, ...]


def doctor(workspace: str | None = None) -> Diagnosis:
    """Look around. `workspace` (a folder, s3://…) is probed for put-if-absent; without one, a temporary folder is."""
    problems: list[str] = []
    machine = capacity.measure()
    try:
        would_use = capacity.plan(machine, Hardware(), Engine()).reasons
    except ScoringError as error:
        would_use = ()
        problems.append(str(error))
    stores = {f"{kind}://": _credentials(kind) for kind in _CREDENTIALS}
    place, answer = _probed(workspace)
    stores[place] = answer or "creates objects only if absent: usable as a workspace"
    problems += [answer] if answer else []
    return Diagnosis(_machine(machine), _versions(), stores, would_use, tuple(problems))


def _machine(found: capacity.Machine) -> dict[str, str]:
    disk = shutil.disk_usage(os.getcwd())
    facts = {
        "cores": f"{found.cores} usable of {os.cpu_count()}",
        "memory": f"{found.memory_bytes / 1e9:.1f} GB available",
        "disk": f"{disk.free / 1e9:.1f} GB free here",
        "gpus": ", ".join(found.gpus) or "none usable",
        "triton": _triton(),
        "python": f"{platform.python_version()} on {platform.platform()}",
    }
    return facts


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


def _probed(workspace: str | None) -> tuple[str, str]:
    """The place that was probed and what is wrong with it, if anything."""
    with tempfile.TemporaryDirectory() as spare:
        place = workspace or spare
        try:
            probe(open_store(place))
        except (ScoringError, OSError) as error:
            return place, str(error)
        return workspace or "local disk", ""


def render(found: Diagnosis) -> str:
    lines = []
    for title, facts in (("this machine", found.machine), ("versions", found.versions), ("stores", found.stores)):
        lines += [title, *(f"  {name:14} {said}" for name, said in facts.items())]
    lines += ["a run would use", *(f"  {said}" for said in found.would_use)]
    return "\n".join(lines + (["problems", *(f"  {said}" for said in found.problems)] if found.problems else ["no problems found"]))

"""Every kernel and configuration compiles for sm_80 and sm_90, and needs what the golden table says: the interpreter accepts what
the compiler rejects, and a spill or a lost wide load is seen nowhere else without a GPU. `make golden-kernels` writes the table
anew; a change of it is to be read in review. All of it takes minutes where nothing is cached; by default each kernel and case is
compiled as it is launched without a tuned table.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import triton
import walk

HERE = Path(__file__).parent
OLDER = "3.6.0"  # what GPU images of 2026 carry
SHARED_LIMIT = {"sm_80": 166_912, "sm_90": 232_448}
ROOM = {"3.6.0": Path(sys.prefix) / f"triton-{OLDER}"}
NEWER = triton.__version__
SETS = [("first", NEWER), *(pytest.param("all", version, marks=pytest.mark.slow) for version in (NEWER, OLDER))]


def compiled(which, version):
    folder = ROOM.get(version)
    if folder is not None and not folder.is_dir():
        pytest.fail(f"Triton {version} is not in {folder}: `make .venv/.ready` installs it")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    words = ["--first"] if which == "first" else []
    done = subprocess.run([sys.executable, HERE / "ahead.py", *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reports():
    """By set and version, compiled when it is asked for."""
    return cache(compiled)


@pytest.mark.parametrize(("which", "version"), SETS)
def test_machine_code_needs_what_the_golden_table_says(reports, which, version):
    table = HERE / "golden" / f"triton-{version}.json"
    assert table.is_file(), f"no golden table for Triton {version}: look at what it makes, then `make golden-kernels`"
    golden = json.loads(table.read_text())
    for target, found in reports(which, version).items():
        same = found.keys() <= golden[target].keys() if which == "first" else found.keys() == golden[target].keys()
        assert same, f"{target}: variants came or went; `make golden-kernels`"
        changed = {name: (golden[target][name], needs) for name, needs in found.items() if needs != golden[target][name]}
        assert not changed, f"{target}: needs changed; if on purpose, `make golden-kernels`: {changed}"


@pytest.mark.parametrize(("which", "version"), SETS)
def test_nothing_spills_and_shared_memory_suffices(reports, which, version):
    for target, found in reports(which, version).items():
        assert {name: needs["spills"] for name, needs in found.items() if needs["spills"]} == {}
        assert {name: needs["shared"] for name, needs in found.items() if needs["shared"] > SHARED_LIMIT[target]} == {}


@pytest.mark.parametrize(("which", "version"), SETS)
@pytest.mark.parametrize("name", walk.NAMES)
def test_machine_code_has_the_instructions_that_speed_rests_on(reports, which, version, name):
    for target, found in reports(which, version).items():
        own = [needs for label, needs in found.items() if label.split()[0] == name]
        assert own, f"{name} has no variant on {target}"
        for wanted in walk.kernel(name).INSTRUCTIONS:
            assert any(needs[wanted] for needs in own), f"{name} on {target}: no {wanted} in any variant"

"""The wheel holds all that a run needs, and works where the checkout is not."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what is tracked or would be, so that nothing lying about gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("scoring", "kernels", "conf", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    done = subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=source, capture_output=True, text=True, check=True)
    return folder / done.stdout.split()[-1]


def test_configuration_and_code_are_in_the_wheel(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    for path in (*(ROOT / "conf").rglob("*.yaml"), ROOT / "conf" / "__init__.py"):
        assert f"scoring/{path.relative_to(ROOT).as_posix()}" in packed
    for path in (ROOT / "kernels").rglob("*.py"):
        assert f"scoring/{path.relative_to(ROOT).as_posix()}" in packed
    for path in (ROOT / "scoring").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in packed
    templates = [path.relative_to(ROOT).as_posix() for path in (ROOT / "scoring").rglob("*.html")]
    static = [path.relative_to(ROOT).as_posix() for path in (ROOT / "scoring").rglob("static/*")]
    assert templates
    assert static
    assert set(static) <= packed
    assert set(templates) <= packed
    assert not {n.partition("/")[0] for n in packed} - {"scoring"} - {n.partition("/")[0] for n in packed if ".dist-info/" in n}


def test_the_command_works_from_the_wheel(wheel, tmp_path):
    """A new environment that sees this one's libraries but not this checkout."""
    venv.create(tmp_path / "venv", with_pip=False)
    place = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}))
    zipfile.ZipFile(wheel).extractall(place)
    libraries = sysconfig.get_path("purelib")
    linked = tmp_path / "libraries"  # .pth files of a folder on PYTHONPATH are not read: the checkout stays out
    linked.symlink_to(libraries, target_is_directory=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONPATH": str(linked)}

    def scoring(*words):
        command = [tmp_path / "venv" / "bin" / "python", "-m", "scoring", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120)

    found = subprocess.run(
        [tmp_path / "venv" / "bin" / "python", "-c", "import scoring; print(scoring.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(place)
    assert scoring("--help").returncode == 0
    options = scoring("run", "--help")
    assert options.returncode == 0
    assert "parquet" in options.stdout
    told = scoring("run", "source=parkett", "workspace=w")
    assert told.returncode == 78
    assert "parquet" in told.stderr
    shown = scoring("run", "source=csv", "source.path=in", "model.bundle=b", "workspace=w", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert "delimiter" in shown.stdout

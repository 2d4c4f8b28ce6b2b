"""The plan of the house, held: arrows point down, each library has one door, files and functions stay small."""

import ast
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = (
    ("errors", "types", "redact"),
    ("columns", "settings", "parts", "stores", "deferred", "log"),
    ("sources", "admit", "watch", "batching", "pool", "sinks", "ledger", "release"),
    ("ops",),
    ("models",),
    ("engine",),
    ("respond",),
    ("jobs",),
    ("__main__", "orchestrators"),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {  # who may import a library; a name that ends with / is a folder
    "hydra": ("scoring/__main__.py",),
    "omegaconf": ("scoring/__main__.py",),
    "ray": ("scoring/pool/ray.py", "scoring/pool/gauges.py"),
    "triton": ("kernels/",),
    "polars": ("scoring/sinks/reader.py", "scoring/admit/schema.py", "scoring/admit/pseudonyms.py"),
    "dataframely": ("scoring/admit/schema.py",),
    "pydantic": ("scoring/settings/checking.py",),
    "obstore": ("scoring/stores/",),
    "airflow": ("scoring/orchestrators/airflow.py",),
    "dagster": ("scoring/orchestrators/dagster.py",),
    "rich": ("scoring/respond/",),
    "structlog": ("scoring/respond/logs.py",),
    "jinja2": ("scoring/respond/",),
    "markupsafe": ("scoring/respond/",),
    "starlette": ("scoring/respond/ui/access.py", "scoring/respond/ui/server.py"),
    "uvicorn": ("scoring/respond/ui/server.py",),
    "scipy": ("scoring/watch/",),
    "openlineage": ("scoring/respond/lineage/",),
    "prometheus_client": ("scoring/respond/metrics.py",),
    "pynvml": ("scoring/engine/energy.py",),
    "apprise": ("scoring/respond/alerts/notify.py",),
    "cloudevents": ("scoring/respond/retraining/events.py",),
    "tokenizers": ("scoring/models/",),
    "numba": ("scoring/models/forest_parts/",),
    "treelite": ("scoring/models/foreign_trees/",),
    "lightgbm": ("scoring/models/foreign_trees/",),
    "xgboost": ("scoring/models/foreign_trees/",),
    "sklearn": ("scoring/models/foreign_trees/",),
    "skops": ("scoring/models/foreign_trees/",),
}
NO_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc", "shared"}
FILES = sorted(p for top in ("scoring", "kernels") for p in (ROOT / top).rglob("*.py"))
CODE = sorted({*FILES, *(p for top in ("tests", "benchmarks") for p in (ROOT / top).rglob("*.py"))})
# The three sizes are limits of the code that ships; tests and benchmarks may be longer where a table of cases is.
MOST_LINES, MOST_FUNCTION_LINES, MEDIAN_FUNCTION_LINES, MOST_PLATE_LINES = 350, 60, 10, 15


def name(path):
    return path.relative_to(ROOT).as_posix()


def imported(path):
    """Dotted names that a file imports, wherever in it; `from a import b` gives "a.b", relative ones are made absolute."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield from (".".join((*above, *filter(None, [node.module]), alias.name)) for alias in node.names)


def room(path):
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def functions(path):
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function):
    return function.end_lineno - function.lineno + 1


def upward(path):
    """Imports of a file of scoring/ that do not point to a floor below (its own room is free)."""
    own = room(path)
    for found in imported(path):
        top, _, rest = found.partition(".")
        there = rest.partition(".")[0]
        if top == "scoring" and there in LEVEL and there != own and LEVEL[there] >= LEVEL[own]:
            yield found


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("scoring/") and room(p) != "__init__"], ids=name)
def test_arrows_point_down(path):
    assert room(path) in LEVEL, f"{name(path)} is in no room of the plan"
    assert not list(upward(path)), f"{name(path)} (floor {LEVEL[room(path)]}) imports what is not below it"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_each_library_has_one_door(path):
    for found in imported(path):
        doors = DOORS.get(found.partition(".")[0])
        allowed = doors is None or any(name(path) == d or (d.endswith("/") and name(path).startswith(d)) for d in doors)
        assert allowed, f"{name(path)} imports {found}; only {doors} may"


def test_kernels_know_torch_and_triton_only():
    """A package `kernels` in a checkout would shadow another of this name for every process started there."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    known = {"torch", "triton", "kernels", *sys.stdlib_module_names}
    for path in (p for p in FILES if name(p).startswith("kernels/")):
        assert {found.partition(".")[0] for found in imported(path)} <= known, name(path)


@pytest.mark.parametrize("path", [p for p in FILES if name(p).startswith("scoring/")], ids=name)
def test_what_is_logged_is_said_where_secrets_are_taken_out(path):
    """`scoring/log.py`; `respond/logs.py` listens, and `pool/ray.py` tells Ray to be quiet."""
    knows = name(path) in ("scoring/log.py", "scoring/respond/logs.py", "scoring/pool/ray.py")
    assert knows or "logging" not in imported(path), name(path)
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute) and n.attr == "getLogger"]
    assert not calls or name(path) in ("scoring/log.py", "scoring/respond/logs.py"), name(path)


def test_every_floor_is_looked_at():
    """The rule itself can see: arrows that we know of are found, and an upward one would be."""
    assert {"scoring/jobs/run.py", "kernels/add_norm.py"} <= {name(p) for p in FILES}
    assert any(found.startswith("scoring.engine") for found in imported(ROOT / "scoring" / "jobs" / "run.py"))
    assert (
        LEVEL["jobs"] > LEVEL["engine"] > LEVEL["models"] > LEVEL["sources"] == LEVEL["sinks"] > LEVEL["columns"] > LEVEL["types"]
    )


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_and_functions_stay_small(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES, f"{name(path)} has {lines} lines"
    long = {f.name: length(f) for f in functions(path) if length(f) > MOST_FUNCTION_LINES}
    assert not long, f"{name(path)}: functions of more than {MOST_FUNCTION_LINES} lines: {long}"


def test_most_functions_fit_in_ten_lines():
    lengths = [length(f) for path in FILES for f in functions(path)]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION_LINES


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_file_says_what_it_is_for(path):
    if path.name == "__init__.py" and not path.read_text().strip():
        pytest.fail(f"{name(path)} is empty: a room needs its door plate")
    assert ast.get_docstring(ast.parse(path.read_text())), f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=name)
def test_door_plates_are_short(path):
    plate = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert len(plate.splitlines()) <= MOST_PLATE_LINES


def test_no_file_is_named_after_nothing():
    stems = {p: {*p.stem.lower().split("_"), *(part.lower() for part in p.relative_to(ROOT).parts[:-1])} for p in FILES}
    assert {name(p): words & NO_NAMES for p, words in stems.items() if words & NO_NAMES} == {}


def test_test_files_have_names_of_their_own():
    """Tests have no packages, so two files of one name would be one module."""
    assert [n for n, count in Counter(p.name for p in CODE if p.name.startswith("test_")).items() if count > 1] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_tests_mirror_the_rooms():
    rooms = {p.name for p in (ROOT / "scoring").iterdir() if p.is_dir()} | {"house", "system", "kernels", "command"}
    found = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert found <= rooms, f"tests of no room: {sorted(found - rooms)}"


def test_nothing_generated_is_tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    generated = (".venv/", ".demo/", ".bench/", "dist/", "outputs/", "multirun/")
    assert [f for f in listed if f.startswith(generated) or "__pycache__" in f or f.endswith((".pkl", ".pickle", ".pt"))] == []

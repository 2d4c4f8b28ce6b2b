"""`make gpu-check`, rehearsed on the CPU as on a bare machine: without the libraries that such a one lacks.

What needs CUDA cannot run here. That a kernel which is wrong, dies or hangs costs only itself can.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
ABSENT = ("ray", "polars", "hydra", "omegaconf", "pydantic", "obstore", "dataframely", "rfc8785", "scipy", "rich", "hypothesis")
BLOCKER = f"""
import sys
class Bare:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
"""
KERNELS = sorted(path.stem for path in (ROOT / "kernels").glob("*.py"))
sys.path.append(str(ROOT / "benchmarks"))
sys.path.append(str(ROOT / "tests" / "kernels"))


def environment(folder):
    (folder / "sitecustomize.py").write_text(BLOCKER)
    plain = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TRITON_INTERPRET")}
    return plain | {"PYTHONPATH": str(folder), "OUT": str(folder / "out")}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rehearsal")
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--rehearse"]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "out", done.stdout


@pytest.fixture(scope="module")
def found(rehearsal):
    (path,) = rehearsal[0].glob("gpu-check-*.json")
    return json.loads(path.read_text())


def checks(found, part, kernel=""):
    return {event["check"] for event in found["events"] if event["part"] == part and event["kernel"] == kernel}


def test_blocked_libraries_are_really_absent(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import polars"], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert "No module named 'polars'" in done.stderr


@pytest.mark.slow
def test_every_part_and_kernel_is_tried_and_nothing_fails(found):
    assert found["failed"] == []
    assert checks(found, "facts") == {"machine", "copy", "pcie", "matmul bfloat16", "matmul float32"}
    for kernel in KERNELS:
        assert checks(found, "parity", kernel) == {"float64", "bits", "graph", "compile"}
        assert checks(found, "speed", kernel) >= {"arguments", "first launch", "tuning", "rival", "timing", "beside", "compiled"}
    forests = {"forest bundle", "forest lane cpu", "forest lane simulated", "forest bare cpu"}
    assert checks(found, "lane") == {"data", "bundle", "lane cpu", "lane simulated", "bare cpu", "imports"} | forests
    kinds = ("short", "mixed", "long")
    ours = {f"{what} {kind}" for what in ("lane", "alone") for kind in kinds}
    assert checks(found, "text") >= {"texts", "model", "open", "agreement cpu", "imports"} | ours


@pytest.mark.slow
def test_what_was_left_out_has_a_reason(found):
    skipped = [event for event in found["events"] if event["status"] == "skip"]
    assert {event["why"] for event in skipped} == {"CUDA only"}
    assert {event["kernel"] for event in skipped} == set(KERNELS)


@pytest.mark.slow
def test_every_configuration_of_a_timed_key_is_timed(found):
    from scoring.kernels import add_norm

    timed = {(e["key"], e["place"]) for e in found["events"] if e.get("check") == "tuning" and e["kernel"] == "add_norm"}
    keys = {key for key, _ in timed}
    assert timed == {(key, place) for key in keys for place in range(len(add_norm.CONFIGS[key]))}
    assert keys


@pytest.mark.slow
def test_a_kernel_is_told_with_its_floor_its_goal_and_who_was_beside_it(found):
    assert sorted({entry["kernel"] for entry in found["kernels"]}) == KERNELS
    entry = next(entry for entry in found["kernels"] if entry["kernel"] == "add_norm")
    assert entry["bytes"] > 0
    assert entry["goal"] == found["goals"]["add_norm"]
    assert entry["predicted_seconds"] is None, "predictions are for GPUs"
    assert entry["share_of_copy"] > 0
    beside = {rival["name"]: rival for rival in entry["rivals"]}
    assert set(beside) == {"torch eager", "torch.compile"}
    for rival in beside.values():
        assert rival["ratio"] == pytest.approx(rival["theirs"]["seconds"] / rival["ours"]["seconds"])
        assert rival["apart"] < 1e-4, "a rival computes the same"


@pytest.mark.slow
def test_the_lane_scores_every_row_and_tells_its_stages(found):
    lanes = [event for event in found["events"] if event["check"].startswith("lane ")]
    assert len({event["check"] for event in lanes if event["part"] == "text"}) == 3
    for lane in lanes:
        assert set(lane["stages"]) == {"read", "encode", "score", "stage"}
        assert lane["per_second"] > 0
    assert {route for lane in lanes for route in lane["routes"]} == {"cpu", "gpu"}


@pytest.mark.slow
def test_vectors_of_the_device_are_those_of_the_cpu_and_of_other_texts_others(found):
    (event,) = (event for event in found["events"] if event["check"] == "agreement cpu")
    assert event["cosine_least"] > 0.999
    assert event["of_others_mean"] < 0.9, "texts of random words would all have one vector, and agreement would say nothing"


def test_lines_of_texts_name_what_stands_beside_them():
    from gpu import account, texts

    done = [{"check": "lane short", "per_second": rate} for rate in (80e3, 90e3, 100e3)]
    done += [{"check": "rival short", "rival": "sentence-transformers bf16, batch 1024", "per_second": 30e3}]
    tokens = {"forward_tokens_per_second": 10e6, "products_tokens_per_second": 20e6, "tokenise_rows_per_second": 1e5, "n": 3}
    done += [{"check": "alone short"} | tokens, {"check": "agreement bf16", "cosine_least": 0.9995}]
    found = {line["name"]: (line["ratio"], line["unit"], line["n"]) for line in texts.lines(done, False, account._line)}
    assert found == {
        "text short / sentence-transformers bf16, batch 1024": (3.0, "rows/s", 3),
        "text short, forward / its products alone": (0.5, "tokens/s", 3),
        "text short / tokenising alone": (0.9, "rows/s", 3),
        "text, least cosine to sentence-transformers bf16 / 0.999": (1.001, "cosine", 1),
    }
    assert "text short / predicted" in {line["name"] for line in texts.lines(done, True, account._line)}


@pytest.mark.slow
def test_last_lines_are_the_promised_objects(rehearsal, found):
    last = rehearsal[1].strip().splitlines()[-len(found["lines"]) :]
    assert [json.loads(line) for line in last] == found["lines"]
    assert all(list(line) == ["name", "ours", "theirs", "ratio", "unit", "n"] for line in found["lines"])
    assert {line["name"] for line in found["lines"]} >= {f"{kernel}: checks passed / tried" for kernel in KERNELS}


@pytest.mark.slow
def test_the_tuned_table_is_one_that_kernels_read(rehearsal, found):
    (path,) = rehearsal[0].glob("tuned-*.json")
    table = json.loads(path.read_text())
    assert table == found["tuned"]
    assert set(table) == set(KERNELS)
    assert all(isinstance(place, int) for keys in table.values() for place in keys.values())


@pytest.mark.slow
def test_kernels_that_die_or_lie_cost_only_themselves(tmp_path):
    """A tree with three copies of one kernel: one ends its process, one is right, one is wrong."""
    for part in ("benchmarks", "tests/kernels", "kernels/frame"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "golden", "results"))
    (tmp_path / "scoring").symlink_to(ROOT / "scoring")
    source = (ROOT / "kernels" / "add_norm.py").read_text()
    ends = {"dies": "__import__('os')._exit(9)", "good": "return y, summed", "lies": "return y * 1.5, summed"}
    for name, end in ends.items():
        changed = source.replace('NAME = "add_norm"', f'NAME = "{name}"').replace("    return y, summed\n", f"    {end}\n")
        (tmp_path / "kernels" / f"{name}.py").write_text(changed)
    code = "import json, gpu_check; run = gpu_check.Run(True, 200); run.part('parity', [['dies', 'good', 'lies']])"
    command = [sys.executable, "-c", f"{code}; print(json.dumps(run.events))"]
    done = subprocess.run(
        command, cwd=tmp_path / "benchmarks", env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    events = [event for event in json.loads(done.stdout.splitlines()[-1]) if "status" in event]
    by_kernel = {name: [event for event in events if event["kernel"] == name] for name in ends}
    assert [(e["status"], e["why"][:11]) for e in by_kernel["dies"]] == [("fail", "exit code 9")]
    assert {e["status"] for e in by_kernel["good"]} == {"ok", "skip"}
    wrong = [e for e in by_kernel["lies"] if e["check"] == "float64"]
    assert {e["status"] for e in wrong} == {"fail"}
    assert "output 0" in wrong[0]["why"]


def attempts(tmp_path, code):
    """Run attempts of a recorder `r` in a process; its exit code and events."""
    start = (
        f"import sys, time; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); from pathlib import Path; from gpu import record\n"
    )
    made = (
        f"record.GRACE_S = 0.5; r = record.Recorder(Path({str(tmp_path / 'e')!r}), 'p', time.monotonic() + 60); r.begin('k', [])\n"
    )
    done = subprocess.run([sys.executable, "-c", start + made + code], capture_output=True, text=True, check=False, timeout=60)
    return done, [json.loads(line) for line in (tmp_path / "e").read_text().splitlines()][1:]


def test_an_attempt_that_is_too_slow_is_given_up_and_the_next_is_made(tmp_path):
    code = "r.attempt(lambda: time.sleep(30), 0.2, check='slow'); r.attempt(lambda: {'x': 1}, 9, check='next')"
    done, events = attempts(tmp_path, code)
    assert done.returncode == 0
    assert [(e["check"], e["status"], e.get("x")) for e in events] == [("slow", "fail", None), ("next", "ok", 1)]


def test_a_call_that_never_comes_back_ends_the_process(tmp_path):
    """sum() of an endless iterator holds the interpreter as a driver does that waits for a kernel: no signal is heard."""
    code = "import itertools; r.attempt(lambda: sum(itertools.repeat(0)), 0.2, check='hang'); print('came back')"
    done, events = attempts(tmp_path, code)
    assert done.returncode == 1
    assert "came back" not in done.stdout
    assert events == []


def test_an_error_that_breaks_the_context_ends_the_process_and_is_told(tmp_path):
    code = "def work(): raise RuntimeError('CUDA error: an illegal memory access was encountered')\nr.attempt(work, 9, check='bad')"
    done, events = attempts(tmp_path, code)
    assert done.returncode == 3
    assert events[0]["status"] == "fail"


def test_a_rival_that_cannot_is_no_failure(tmp_path):
    done, events = attempts(tmp_path, "r.attempt(lambda: 1 / 0, 9, must=False, check='rival')")
    assert done.returncode == 0
    assert events[0]["status"] == "missing"
    assert events[0]["why"].startswith("ZeroDivisionError")


def tuning(case, place, seconds, key="narrow"):
    return {"kernel": "k", "key": key, "case": case, "place": place, "seconds": seconds, "check": "tuning", "status": "ok"}


def test_best_configuration_is_the_one_with_the_best_mean_ratio():
    from gpu.tuned import best

    events = [tuning("small", 0, 1.0), tuning("small", 1, 0.5), tuning("small", 2, 0.9)]
    events += [tuning("big", 0, 100.0), tuning("big", 1, 150.0), tuning("big", 2, 90.0)]
    assert best(events) == {"k": {"narrow": 1}}, "0.5 x 1.5 is below 0.9 x 0.9; the sum of seconds would say 2"
    assert best([*events, tuning("third", 0, 1.0), tuning("third", 2, 1.0)]) == {"k": {"narrow": 2}}, "1 failed on a case"


def test_a_gain_within_noise_changes_nothing():
    from gpu.tuned import best

    assert best([tuning("a", 0, 1.0), tuning("a", 1, 0.99)]) == {"k": {"narrow": 0}}
    assert best([tuning("a", 1, 0.5)]) == {"k": {"narrow": 0}}, "nothing to compare with"


def test_predictions_follow_the_binding_floor():
    from gpu.goals import predicted

    h100 = "NVIDIA H100 80GB HBM3"
    assert predicted("add_norm", "any", {"bytes": 3.35e12, "flops": 1e30}, h100) == pytest.approx(1 / 0.8)
    assert predicted("packed_attention", "any", {"bytes": 1, "flops": 300e12}, h100) == pytest.approx(1.0)
    assert predicted("add_norm", "any", {"bytes": 1, "flops": 1}, "rehearsal-cpu") is None
    assert predicted("unheard_of", "any", {"bytes": 1, "flops": 1}, h100) is None


def test_every_kernel_has_a_goal_and_goals_name_cases_that_there_are():
    import walk
    from gpu import goals, place, rivals

    for kernel in KERNELS:
        module = walk.kernel(kernel)
        cases = [*module.cases(), *rivals.more_cases(module, place.Place(rehearsal=False))]
        names = {f"{kernel} {case.name}" for case in cases if case.size == "large"} | {kernel}
        assert {name for name in goals.GOALS if name.split()[0] == kernel} <= names
        assert kernel in goals.GOALS, f"write the prediction for {kernel} down before it is measured"


def packed(lengths, dtype=torch.float32, **more):
    draw = torch.Generator().manual_seed(0)
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    qkv = torch.randn(sum(lengths), 3, 2, 8, generator=draw).to(dtype)
    return {"qkv": qkv, "offsets": offsets, "scale": 0.3, "window": -1, "cos": None, "sin": None, "slopes": None} | more


@pytest.mark.parametrize("lengths", [[5, 0, 1, 7], [4, 4]])
def test_the_padded_rival_computes_attention(lengths):
    from gpu.rivals import padded

    given = packed(lengths)
    out, full = padded(given)(), [n for n in lengths if n]
    for place, part in enumerate(given["qkv"].split(full)):
        q, k, v = part.unbind(1)
        wanted = torch.einsum("hqk,khd->qhd", (torch.einsum("qhd,khd->hqk", q, k) * 0.3).softmax(-1), v)
        torch.testing.assert_close(out[place].transpose(0, 1)[: full[place]], wanted)


def test_rivals_that_cannot_do_a_case_say_why():
    from gpu.rivals import of

    class Attention:
        NAME = "packed_attention"

    works, missing = of(Attention, packed([3, 4]))
    assert set(works) == {"padded SDPA"}
    assert "bfloat16 or float16 on CUDA" in missing["varlen_attn"]
    works, missing = of(Attention, packed([3, 4], slopes=torch.ones(2)))
    assert not works
    assert set(missing) == {"varlen_attn", "padded SDPA"}

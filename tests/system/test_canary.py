"""Law 8 with canaries: planted as secrets and as personal data wherever they might be repeated, and looked for in every output.

Secrets may be nowhere. Personal data may be in the rows that are published or quarantined, as the contract treats them, and nowhere
else: not in what commands say, nor in logs, records, reports, metrics, events, or what receivers are sent.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import Commands, Done
from gossip import Gossip
from receiver import Receiver, receiver

from scoring.models.bundle import describe_inputs, write
from scoring.settings import Column

FAMILIES = Path(__file__).parents[1] / "jobs/families"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "canary/aws+4f81secret",
    "WAREHOUSE_PASSWORD": "canary-pass&word 77",
    "OPENLINEAGE_API_KEY": "canary-lineage-91c4",
    "PUSHED_WITH": "canary-bearer-0a1b",  # its name says nothing: that of the setting does
    "SCORING_PRIVACY_KEY": "5e" * 32,
}
URL_SECRETS = ("canary-user", "canary-in-url", "canary-signature")
PERSON, OTHER, NAME = "p07@canary.example", "p08@canary.example", "Zorbelina O'Canary"
NOTE, CAST, CODE, LINE, HEADER, KEY = "Quxley", "canarycast12,5", "CANARYCODE", "canaryline", "canaryheader", "canarykey"
NUMBER = 918273.25
PERSONAL = (PERSON, OTHER, "Zorbelina", NOTE, CAST, CODE, LINE, HEADER, KEY, f"{NUMBER:.2f}", "918273")
ROWS = 40


def rows(day: int, bad: int) -> list[dict[str, object]]:
    """Rows of people; `bad` of them cannot be cast, as many break the pattern."""
    made: list[dict[str, object]] = []
    for n in range(ROWS):
        who = PERSON if n % 10 == 7 else OTHER if n % 10 == 8 else f"q{n:02d}@canary.example"
        amount = CAST if n < bad else f"{n}.5"
        code = CODE + "!" if bad <= n < 2 * bad else f"c{n}"
        x0 = NUMBER if n == ROWS - 1 else n / 10
        own = {"id": day * ROWS + n, "email": who, "name": NAME, "phone": 55501000 + n, "note": f"{NOTE} {n}", "code": code}
        made.append(own | {"amount": amount, "x0": x0, "x1": 0.5, "few": NOTE if n == 3 else "ab"[n % 2]})
    return made


def csv(path: Path, made: list[dict[str, object]], header: bool = True, more: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(made[0])] if header else []
    lines += [",".join(f'"{v}"' if isinstance(v, str) else str(v) for v in one.values()) for one in made]
    path.write_text("\n".join([*lines, more]) if more else "\n".join(lines) + "\n")


def headless() -> list[dict[str, object]]:
    """A row that will pass for a header line."""
    return [{**rows(4, 0)[0], "note": f"{HEADER}@x {NAME}", "x1": 0.25, "few": HEADER}]


def bundle(folder: Path) -> Path:
    torch.manual_seed(1)
    net = Gossip(NUMBER).eval()
    inputs = {"x0": Column("float32"), "x1": Column("float32"), "amount": Column("float64")}
    golden = pa.table({"x0": pa.array([0.5], pa.float32()), "x1": pa.array([0.5], pa.float32()), "amount": [1.0]})
    with torch.inference_mode():
        score = net(torch.tensor([[0.5, 0.5, 1.0]]))[:, 0].numpy()
    manifest = {"family": "module", "name": "gossip", "version": "1", "inputs": describe_inputs(inputs), "outputs": ["score"]}
    manifest |= {"tolerance": {"gpu": 1e-3, "cpu": 1e-5}, "constructor": {"secret": NUMBER}, "arguments": {"x": list(inputs)}}
    return write(folder, manifest, dict(net.state_dict()), golden.append_column("expected.score", pa.array(score)))


CONTRACT = """
contract:
  columns:
    id: {dtype: int64}
    email: {dtype: string, pii: direct, treatment: pseudonymise, purpose: test}
    name: {dtype: string, treatment: mask}
    phone: {dtype: int64, pii: direct, treatment: drop}
    note: {dtype: string}
    few: {dtype: string}
    code: {dtype: string, pattern: "c[0-9]+"}
    amount: {dtype: float64, min: 0}
  unique: [id]
  limits: {"schema:missing": {level: warn}, unique: {level: warn}}
  privacy: {subject: email}
"""


@dataclass
class World:
    """Everything that was said and sent. `files` looks at what is on disk now."""

    place: Path
    run: Commands
    lineage: Receiver
    gateway: Receiver
    said: list[Done] = field(default_factory=list)

    def __call__(self, *words: str, codes: tuple[int, ...] = (0,), given: str = "") -> Done:
        done = self.run(*words, given=given)
        self.said.append(done)
        assert done.code in codes, f"{words}: {done.code}\n{done.said}"
        return done

    def job(self, verb: str, workspace: str, source: str, *more: str, codes: tuple[int, ...] = (0,), kind: str = "csv") -> Done:
        words = [f"--config-dir={self.place}/conf", "job=canary", f"source={kind}", f"source.path={self.place}/{source}"]
        words += [
            f"workspace={self.place}/{workspace}",
            f"model.bundle={self.place}/bundle",
            f"respond.lineage.url={self.lineage.url}/l",
        ]
        words += [f"respond.metrics.pushgateway={self.gateway.url}", f"respond.metrics.textfile={self.place}/{workspace}.prom"]
        return self(verb, *words, *more, codes=codes)

    def texts(self) -> Iterator[tuple[str, bytes]]:
        """Every output but the rows themselves; of Parquet files, what their footers say of the run."""
        for done in self.said:
            yield f"scoring {' '.join(done.words[:1])}", done.said.encode()
        for one in (*self.lineage.got, *self.gateway.got):
            yield f"sent to {one.path}", one.body.encode()
        for path in self.place.rglob("*"):
            name = path.relative_to(self.place).as_posix()
            if path.is_file() and not name.startswith(("in", "bundle", "conf")):
                if path.suffix == ".parquet":
                    yield from self._footer(name, path)
                else:
                    yield name, name.encode() + path.read_bytes()

    @staticmethod
    def _footer(name: str, path: Path) -> Iterator[tuple[str, bytes]]:
        found = pq.ParquetFile(path)
        for key, value in (found.metadata.metadata or {}).items():
            if key != b"ARROW:schema":
                yield f"{name} footer", key + value
        if not name.split("/")[1].startswith(("scores", "quarantine")) and "/staged/" not in name and "/quarantine/" not in name:
            yield f"{name} rows", str(found.read().to_pylist()).encode()


def found(texts: Iterator[tuple[str, bytes]], canaries: tuple[str, ...]) -> list[tuple[str, str, bytes]]:
    """(where, which, what stands around it)."""
    hits = []
    for where, text in texts:
        for canary in canaries:
            at = text.lower().find(canary.lower().encode())
            if at >= 0:
                hits.append((where, canary, text[max(0, at - 60) : at + 60]))
    return hits


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Commands over data that would get into anything; then every verb, in both of its forms."""
    place = tmp_path_factory.mktemp("canary")
    scratch = tmp_path_factory.mktemp("scratch")
    bundle(place / "bundle")
    (place / "conf/job").mkdir(parents=True)
    settings = "engine: {kind: inline, window_rows: 16, retry: {backoff_s: 0.01, backoff_cap_s: 0.02}}\nhardware: {device: cpu}\n"
    settings += "source: {carry: [id, email, name, phone]}\nmodel: {module: 'gossip:Gossip'}\nrelease: {max_bad_share: 0.4}\n"
    settings += "respond: {limit_s: 30, logs: {level: debug}, metrics: {token_env: PUSHED_WITH}}\n"
    (place / "conf/job/canary.yaml").write_text(f"# @package _global_\n{settings}{CONTRACT}")
    csv(place / "in/a/day=1/part.csv", rows(1, 3), more=f"{LINE},too,few,fields\n")
    csv(place / "in/a/day=2/part.csv", rows(2, 12))
    csv(place / "in/a/day=3/0.csv", [{**one, f"{KEY} 7@x": 1} for one in rows(3, 0)])  # a column that nobody asked for
    csv(place / "in/a/day=3/1.csv", headless(), header=False)
    csv(place / "in/a/day=4/part.csv", rows(4, 0), more=f'9,"{LINE} never closed,1\n2,3\n')
    with ExitStack() as stack:
        run = stack.enter_context(Commands(scratch, SECRETS, FAMILIES, Path(__file__).parent))
        made = World(place, run, stack.enter_context(receiver()), stack.enter_context(receiver(500)))
        yield made


def test_canaries_of_a_workspace_and_all_its_verbs(world: World) -> None:
    """A run with published, held and broken partitions, and every verb that looks at it or changes it."""
    workspace = f"workspace={world.place}/w"
    done = world.job("run", "w", "in/a", "run_id=r", "-v", codes=(65,))
    assert "held" in done.out
    assert "partition.held" in done.err
    world.job("run", "w", "in/a", "run_id=r", "--json", codes=(65,))
    world.job("plan", "w", "in/a")
    world("doctor", workspace, "--json")
    for form in ((), ("--json",)):
        world("quarantine", workspace, "samples=9", *form)
        world("verify", workspace, *form)
        world("report", "r", workspace, *form)
    world("release-held", "r", "day=2", workspace, "reason=looked", "--json")
    world.job("requeue", "w", "in/a", "contract.columns.code.pattern='[Cc].*'", "reason=mended", codes=(0, 78))
    world("erase", workspace, "subject=-", "reason=asked", given=f"{OTHER}\n")
    assert list((world.place / "w/runs/r").glob("log.jsonl")), "there is a log"
    assert world.lineage.got
    assert found(world.texts(), PERSONAL) == []
    assert found(world.texts(), (*SECRETS.values(), *URL_SECRETS)) == []


def test_published_columns_are_treated_and_the_quarantine_is_private(world: World) -> None:
    """The canaries were there to be found: the quarantine has them, scores have none of a treated column."""
    scores = [pq.read_table(p, partitioning=None).to_pylist() for p in (world.place / "w/scores").rglob("*.parquet")]
    assert scores
    assert not [c for c in (PERSON, "Zorbelina", "phone") if c in str(scores)]
    kept = [p for p in (world.place / "w/quarantine").rglob("*.parquet")]
    text = str([pq.read_table(p, partitioning=None).to_pylist() for p in kept])
    assert all(canary in text for canary in (PERSON, NOTE, CAST, LINE, "918273.25"))
    assert (world.place / "w/quarantine").stat().st_mode & 0o077 == 0


def jsonl(path: Path, lines: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))


def test_canaries_in_lines_and_keys_of_json(world: World) -> None:
    """Keys of objects may be anybody's, and broken lines hold whatever they hold."""
    made = rows(1, 2)
    jsonl(world.place / "in/j/part.jsonl", [*made[:20], {**made[20], f"{KEY} 7@x": 1}, f'{{"email": "{LINE}', *made[21:]])
    world.job("run", "j", "in/j", "-v", "release.max_bad_share=1.0", kind="jsonl")
    assert found(world.texts(), PERSONAL) == []


def test_canaries_that_a_model_repeats_in_plain_words(world: World) -> None:
    """What it says cannot be told from what it should not say: class and place are all that is told."""
    sys.path.insert(0, str(FAMILIES))
    import telltale

    telltale.bundle(world.place / "telltale")
    texts = [{"id": n, "text": f"{telltale.BAD} from {HEADER} of {NOTE}" if n == 7 else "some words"} for n in range(20)]
    jsonl(world.place / "in/t/part.jsonl", list(texts))
    words = [
        "source=jsonl",
        f"source.path={world.place}/in/t",
        f"workspace={world.place}/t",
        f"model.bundle={world.place}/telltale",
    ]
    done = world("run", *words, "engine=inline", "hardware=cpu", "source.carry=[id]", codes=(70,))
    assert re.search(r"ValueError in telltale\.py:\d+", done.out), done.out
    assert found(world.texts(), PERSONAL) == []


class Links:
    """Ray's own logs go with its folder when a run ends: each is given a second name while it is there."""

    def __init__(self, temporary: Path, kept: Path) -> None:
        self._temporary, self._kept, self._over = temporary, kept, threading.Event()
        self._thread = threading.Thread(target=self._keep)

    def __enter__(self) -> None:
        self._kept.mkdir()
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.wait(0.02):
            with suppress(OSError):  # folders come and go meanwhile
                for path in self._temporary.glob("scoring-*/r/session_*/logs/**/*"):
                    if path.is_file() and not path.is_symlink() and not (kept := self._kept / path.name).exists():
                        os.link(path, kept)


@pytest.mark.slow
def test_canaries_on_ray(world: World) -> None:
    """The same data through lanes in processes of their own: their logs, and Ray's, are looked through as well."""
    csv(world.place / "in/ray/day=1/part.csv", rows(1, 3), more=f"{LINE},too,few,fields\n")
    csv(world.place / "in/ray/day=1/z.csv", headless(), header=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary, Links(Path(temporary), world.place / "ray-logs"):
        world.run.environment["TMPDIR"] = temporary
        done = world.job(
            "run",
            "ray",
            "in/ray",
            "engine.kind=ray",
            "engine.lanes=2",
            "run_id=r",
            "release.max_bad_share=null",
            "-v",
            codes=(0, 65),
        )
        del world.run.environment["TMPDIR"]
    assert "slice.done" in done.err
    lanes = [json.loads(line) for path in (world.place / "ray/runs/r/lanes").iterdir() for line in path.read_text().splitlines()]
    assert {line["event"] for line in lanes} >= {"lane.open"}
    assert all(line["run_id"] == "r" for line in lanes)
    assert any("worker" in path.name for path in (world.place / "ray-logs").iterdir()), "Ray's logs were kept"
    assert found(world.texts(), (*PERSONAL, *SECRETS.values())) == []


FAILS = {  # what stands on the command line, and what is said
    "carry of a file without a header line": (
        ("source.path={place}/in/headless", "contract.columns={}", "contract.unique=[]"),
        "may be data",
    ),
    "a password in an address": (
        ("source.path='https://canary-user:canary-in-url@host/x?X-Amz-Signature=canary-signature'",),
        "cannot be read",
    ),
    "a word that is not understood": (("source.path=https://canary-user:canary-in-url@host/x?sig=canary-signature",), "understood"),
    "a password in the address of the workspace": (
        ("workspace='ftp://canary-user:canary-in-url@host/x'",),
        "is not known",
    ),
    "a key in place of its variable's name": (
        (f"contract.privacy.key_env={'ab' * 32}",),
        "The environment variable that is named there is not set",
    ),
    "a token in place of its variable's name": (("respond.lineage.token_env=canary-in-url",), "is no name of an environment"),
    "a secret that comes from the environment": (("engine.lanes=${oc.env:WAREHOUSE_PASSWORD}",), "engine.lanes"),
    "a secret as a value": ((f"engine.lanes={SECRETS['OPENLINEAGE_API_KEY']}",), "engine.lanes"),
    "an option with a secret": (("--password=canary-in-url",), "is not an option"),
}


@pytest.mark.parametrize("case", FAILS)
def test_canaries_in_what_is_refused(case: str, world: World) -> None:
    (world.place / "in/headless").mkdir(exist_ok=True)
    csv(world.place / "in/headless/1.csv", headless(), header=False)
    given, said = FAILS[case]
    words = tuple(word.replace("{place}", str(world.place)) for word in given)
    done = world.job("run", f"refused-{list(FAILS).index(case)}", "in/a", *words, codes=(64, 69, 78))
    assert said in done.err, done.err
    assert found(world.texts(), (*PERSONAL, *SECRETS.values(), *URL_SECRETS, "ab" * 32)) == []

"""The command `models import-text`: one bundle that reads back as it was meant, the same however often; and how it refuses."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import foreign
import numpy as np
import pytest
import safetensors.torch

from scoring.errors import ScoringError
from scoring.jobs import import_text
from scoring.jobs.arguments import words
from scoring.models.bundle import read
from scoring.models.encoder_shape import read_pooling, read_projections, read_shape, tensors_of
from scoring.models.heads import outputs, read_heads
from scoring.models.plain_encoder import PlainEncoder
from scoring.models.templates import read_text
from scoring.models.tokenise import Tokeniser
from scoring.types import Output


def command(*given):
    known = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "scoring", "models", "import-text", *map(str, given)],
        env=known,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def imported(*given):
    """What the verb says, in this process: starting one takes seconds."""
    found, code = import_text.command(words("models import-text", [*map(str, given)]))
    assert code == 0
    return asdict(found)


def scored(folder):
    """The plain meaning of what was written, by the tokeniser that jobs use, beside the golden outputs."""
    bundle = read(folder)
    body = bundle.body
    text, shape = read_text(body, bundle.inputs), read_shape(body.fields("encoder"))
    pooling, projections = read_pooling(body.fields("pooling")), read_projections(body)
    heads = read_heads(body) if body.has("heads") else ()
    unit, columns = False, outputs(heads) if heads else ()
    if not heads:
        unit, own = body.flag("unit"), body.fields("embedding")
        width = projections[-1].outputs if projections else shape.hidden
        columns = (Output(own.text("name"), width, own.text("store")),)
        own.done()
    body.done()
    tensors = bundle.tensors(tensors_of(shape, projections, sum(head.width for head in heads)))
    plain = PlainEncoder(shape, pooling, projections, unit, heads, tensors)
    golden = bundle.golden(columns)
    texts = Tokeniser(folder / "tokenizer.json", text, shape.types > 1, 1)(golden.to_batches()[0])
    found = [plain.outputs(sequences_of(texts, item)) for item in texts.order]
    expected = np.column_stack([np.array(golden[f"expected.{c.name}"].to_pylist()) for c in columns])
    return bundle, np.stack([one.numpy() for one in found]), expected, columns


def sequences_of(texts, item):
    """(ids, types) of all sequences of an item."""
    edges = texts.offsets[texts.first[item] : texts.first[item + 1] + 1].tolist()
    spans = [slice(*pair) for pair in pairwise(edges)]
    return [(texts.ids[s].tolist(), None if texts.types is None else texts.types[s].tolist()) for s in spans]


@pytest.mark.parametrize(
    ("make", "given", "names"),
    [
        (lambda f: foreign.sentence(foreign.bert(f)), [], ["embedding"]),
        (lambda f: foreign.bert(f), ["overlong=windows", "max_length=16", "store=int8", "null=quarantine"], ["embedding"]),
        (lambda f: foreign.bert(f), ["text={title} {{{body}}}", "store=float16"], ["embedding"]),
        (lambda f: foreign.bert(f, foreign.BY_LABEL), [], ["label_bad", "label_fair", "label_good"]),
        (lambda f: foreign.bert(f, foreign.BY_LABEL, problem_type="multi_label_classification"), [], ["bad", "fair", "good"]),
        (lambda f: foreign.bert(f, foreign.ONE_LABEL), ["query={query}", "text={passage}"], ["score"]),
    ],
    ids=["sentence", "windows", "columns", "classes", "labels", "pairs"],
)
def test_a_bundle_says_what_it_means(make, given, names, tmp_path):
    said = imported(make(tmp_path / "folder"), f"out={tmp_path / 'bundle'}", *given)
    bundle, found, expected, columns = scored(tmp_path / "bundle")
    assert (said["outputs"], said["digest"], said["name"], said["version"]) == (names, bundle.digest, "folder", "1")
    assert [column.name for column in columns] == names
    assert len(expected) >= 15
    assert np.abs(found - expected).max() < 1e-6
    assert len(np.unique(expected.round(6), axis=0)) > 10, "golden rows must tell models apart"
    assert said["parameters"] == sum(
        t.numel() for t in safetensors.torch.load_file(tmp_path / "bundle/weights.safetensors").values()
    )


def test_an_import_is_the_same_each_time_and_the_tokenizer_is_as_it_was(tmp_path):
    folder = foreign.sentence(foreign.bert(tmp_path / "folder"), prompts={"prompts": {"q": "query: "}})
    given = ("name=mini", "version=7", "prompt=q", "max_length=20")
    one = imported(folder, f"out={tmp_path / 'one'}", *given)
    other = command(folder, f"out={tmp_path / 'other'}", *given, "--json")
    assert (other.returncode, other.stderr) == (0, "")
    assert json.loads(other.stdout) == one | {"out": str(tmp_path / "other")}
    assert (tmp_path / "one/tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert (one["name"], one["version"], one["max_length"], one["inputs"]) == ("mini", "7", 20, ["text"])
    assert "query: {text}" in (tmp_path / "one/model.yaml").read_text()
    done = command(folder, f"out={tmp_path / 'one'}", *given)
    assert (done.returncode, len(done.stderr.splitlines())) == (78, 1)
    assert "is there already; name another folder" in done.stderr


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ([], 64, "needs out=…"),
        (["out={out}", "max_length=many"], 64, "is not a whole number"),
        (["out={out}", "lenght=7"], 64, "does not know 'lenght'"),
        (["out={out}", "max_length=0"], 78, "max_length=0 cannot be"),
        (["out={out}", "store=int4"], 78, "store=int4 is not known"),
        (["out={out}", "query={query}"], 78, "query=… makes pairs"),
        (["out={out}", "text={text}\udcff"], 78, "bytes that are not UTF-8"),
        (["out=/proc/nothing/here"], 78, "cannot be written"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_refusals_leave_nothing_behind(given, code, said, tmp_path):
    out = tmp_path / "bundle"
    with pytest.raises(ScoringError, match=said) as found:
        imported(foreign.bert(tmp_path / "folder"), *(word.replace("{out}", str(out)) for word in given))
    assert (found.value.exit_code, len(str(found.value).splitlines())) == (code, 1)
    assert not out.exists()


def test_folders_that_are_refused(tmp_path):
    for change, said in (({"model_type": "mpnet"}, "mpnet"), ({"auto_map": {"AutoModel": "x.Y"}}, "trust_remote_code")):
        folder = foreign.bert(tmp_path / said)
        foreign.write(folder / "config.json", foreign.BERT | change)
        done = command(folder, f"out={tmp_path / 'bundle'}")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (78, "", 1)
        assert said in done.stderr
        assert not (tmp_path / "bundle").exists()

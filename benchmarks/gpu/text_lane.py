"""Texts of the shape of MiniLM-L6: our lane from Parquet to staged vectors, its parts alone, and sentence-transformers beside it.

Weights are random, words are drawn: what counts for speed is the shape, how long texts are and how many tokens a word has. Bundle
and rival are made of one folder, so that both must give the same vectors.

short   some 9 words, as questions to an assistant
mixed   seven of those for each long one
long    some 220 words, as posts to a newsgroup, cut at 256 tokens
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from gpu import clock, words
from gpu.lane import ABSENT, cores
from gpu.place import ROOT, Place
from gpu.record import Event, Recorder

from scoring.engine.lane import LaneSpec, build
from scoring.kernels.frame import operator
from scoring.models.huggingface.model import Asked, read_model
from scoring.models.load import load
from scoring.models.texts import Texts
from scoring.models.write_text import write_text
from scoring.settings import Hardware, Job, Source
from scoring.settings import Model as ModelSettings
from scoring.sources import discover, parquet, slices
from scoring.types import Receipt

sys.path.append(str(ROOT / "tests"))
MINILM = {"vocab_size": words.VOCABULARY, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
MINILM |= {"intermediate_size": 1536, "max_position_embeddings": 512}
CUT = 256  # tokens of a text at most
ROWS = {"short": 262_144, "mixed": 65_536, "long": 16_384}  # of our lane
THEIRS = {"short": 32_768, "mixed": 12_288, "long": 4_096}  # of those, for what takes longer a row
FEW = 8  # in a rehearsal
FILES, ROUNDS = 8, 3
BATCH_TOKENS = 1 << 18  # of the bare forward
RIVALS = (("bf16", 1024), ("bf16", 256), ("fp32", 1024), ("fp32", 256))
ALIKE = 512  # rows whose vectors are compared


def run(recorder: Recorder, kernels: list[str], place: Place) -> None:
    """What is ours comes first: of sentence-transformers the import alone takes ten seconds, and it may not be there."""
    del kernels
    operator.force(None)  # a lane chooses by its device, in a rehearsal too
    kinds = {kind: FEW if place.rehearsal else rows for kind, rows in ROWS.items()}
    folder = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    try:
        made = recorder.attempt(lambda: _written(folder, kinds), 40, check="texts")
        if made is None or recorder.attempt(lambda: _model(folder, place), 40, check="model") is None:
            return
        for turn in range(1 if place.rehearsal else ROUNDS):
            for kind, rows in kinds.items():
                recorder.attempt(partial(_lane, folder, kind, rows, turn, place), 30, check=f"lane {kind}", turn=turn)
        ours = _Ours(folder, place)
        recorder.attempt(ours.open, 30, check="open")
        recorder.attempt(ours.agrees, 30, check="agreement cpu")
        for kind in kinds:
            recorder.attempt(partial(ours.alone, kind), 20, check=f"alone {kind}")
        recorder.attempt(_imports, 5, check="imports")
        _rivals(recorder, _Theirs(folder, place), ours)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rivals(recorder: Recorder, theirs: _Theirs, ours: _Ours) -> None:
    """In 16 bits first, as users would on such a device; all kinds in turn, so that each has one before any has all."""
    if recorder.attempt(theirs.open, 40, must=False, check="sentence-transformers") is None:
        return
    for precision, batch in RIVALS[:1] if ours.place.rehearsal else RIVALS:
        if batch == RIVALS[0][1]:
            recorder.attempt(partial(theirs.agree, precision, ours), 20, must=False, check=f"agreement {precision}")
        for kind in THEIRS:
            names = {"check": f"rival {kind}", "rival": f"sentence-transformers {precision}, batch {batch}"}
            recorder.attempt(partial(theirs.encode, kind, precision, batch), 12, must=False, **names)


def _written(folder: Path, kinds: dict[str, int]) -> Event:
    """Parquet files with `id` and `text`, in as many row groups as files."""
    lexicon, spent = words.lexicon(), 0.0
    for kind, rows in kinds.items():
        (folder / kind).mkdir()
        drawn = words.texts(lexicon, kind, rows)
        began = time.perf_counter()
        for number, (start, stop) in enumerate(pairwise(np.linspace(0, rows, FILES + 1).astype(int).tolist())):
            given = pa.table({"id": pa.array(range(start, stop), pa.int64()), "text": pa.array(drawn[start:stop])})
            pq.write_table(given, folder / kind / f"part-{number}.parquet")
        spent += time.perf_counter() - began
    return {"rows": kinds, "writing": spent}


def _model(folder: Path, place: Place) -> Event:
    """A folder as sentence-transformers writes it, and the bundle that we import from it."""
    import foreign

    config = MINILM | ({"num_hidden_layers": 1} if place.rehearsal else {})
    foreign.bert(folder / "foreign", **config, tensors=words.weights(foreign.bert_tensors(config)))
    foreign.add_tokenizer(
        folder / "foreign", words.tokenizer(), tokenizer_class="BertTokenizer", pad_token="[PAD]", model_max_length=CUT
    )
    pooling = ("Pooling", {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}, None)
    foreign.sentence(folder / "foreign", pooling, ("Normalize", {}, None), sentence_bert={"max_seq_length": CUT})
    found = read_model(str(folder / "foreign"), Asked())
    write_text(
        folder / "bundle", name="gpu-check-text", version="1", inputs=found.inputs, text=found.text, encoder=found.shape,
        pooling=found.pooling, projections=found.projections, unit=found.unit, embedding=found.embedding, heads=found.heads,
        tensors=found.tensors, tokenizer=found.tokenizer, golden=pa.table({"text": ["", *_plain(folder, "short", 5)]}),
    )  # fmt: skip
    return {"weights": sum(tensor.numel() for tensor in found.tensors.values()), "max_length": found.text.max_length}


def _lane(folder: Path, kind: str, rows: int, turn: int, place: Place) -> Event:
    """From the first slice handed out to the last receipt. Rounds share a workspace: the batch size that the first found is kept,
    as it is from one night to the next.
    """
    source = Source("parquet", str(folder / kind), carry=("id",), duplicates="keep", slice_rows=max(1, rows // FILES))
    hardware = Hardware("simulated" if place.rehearsal else "cuda")
    job = Job(str(folder / "workspace"), source, ModelSettings(str(folder / "bundle")), hardware=hardware)
    began = time.perf_counter()
    lane = build(LaneSpec(job, f"{kind}-{turn}", cores()), "gpu")
    work = [one for part in discover.partitions(source, parquet.SUFFIXES) for one in slices.plan(part, source)]
    start = time.perf_counter()
    with ThreadPoolExecutor(job.engine.in_flight) as pool:
        receipts = list(pool.map(lane.process, work, map(str, range(len(work)))))
    wall = time.perf_counter() - start
    stages, routes, done = Counter[str](), Counter[str](), Counter[str]()
    for receipt in receipts:
        if not isinstance(receipt, Receipt):
            raise RuntimeError(receipt.message)
        stages.update(receipt.seconds)
        routes.update(receipt.routes)
        done.update(receipt.work)
    assert routes == {"gpu": rows}, f"routes are {dict(routes)} of {rows} rows"
    found = {"per_second": rows / wall, "tokens_per_second": done["tokens"] / wall, "wall": wall, "start_up": start - began}
    return found | {"stages": dict(stages), "routes": dict(routes), "work": dict(done), "slices": len(work)}


class _Ours:
    """The model on its device, in a bare loop."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place, self._folder = place, folder

    def open(self) -> None:
        self._model = load(self._folder / "bundle", self.place.device)

    def vectors(self, rows: int) -> torch.Tensor:
        """Of the first texts of all kinds."""
        parts = [_texts(self._folder, kind, rows) for kind in ROWS]
        return torch.cat([self._scored(self._model, given) for given in parts])

    def agrees(self) -> Event:
        """16 bits on the device beside float32 on the CPU; and texts are told apart, else agreement would say nothing."""
        rows, plain = 8 if self.place.rehearsal else ALIKE // 4, load(self._folder / "bundle", "cpu")
        exact = torch.cat([self._scored(plain, _texts(self._folder, kind, rows)) for kind in ROWS])
        found = _alike(self.vectors(rows), exact)
        assert found["cosine_least"] >= 0.999, f"the least cosine to the CPU's vectors is {found['cosine_least']:.5f}"
        return found | {"rows": len(exact)}

    @staticmethod
    def _scored(model: Any, given: pa.RecordBatch) -> torch.Tensor:
        encoded = model.encode(given)
        found = model.forward(encoded.to(model.device)).float().cpu()
        return found if encoded.order is None else found[torch.from_numpy(encoded.order)]

    def alone(self, kind: str) -> Event:
        """Tokens by the cores; the forward of tokens that lie on the device; and the products that it makes, with nothing between
        them.
        """
        given = _texts(self._folder, kind, FEW if self.place.rehearsal else ROWS[kind] // 2)
        began = time.perf_counter()
        encoded = self._model.encode(given)
        spent = time.perf_counter() - began
        parts = [part.to(self._model.device) for part in _batches(encoded)]
        tokens = sum(len(part.ids) for part in parts)
        forward = self._timed(lambda: [self._model.forward(part) for part in parts])
        largest = max(len(part.ids) for part in parts)
        products = clock.one(self._products(largest), self.place.cuda, clock.ROUNDS)
        found = {"rows": len(given), "tokens": tokens, "tokenise_rows_per_second": len(given) / spent, "batches": len(parts)}
        found |= {"forward_tokens_per_second": tokens / forward, "products_tokens_per_second": largest / products["seconds"]}
        return found | {"n": clock.ROUNDS}

    def _timed(self, work: Callable[[], Any]) -> float:
        """By the clock on the wall, as a lane waits."""
        work()
        times = []
        for _ in range(clock.ROUNDS):
            self.place.wait()
            began = time.perf_counter()
            work()
            self.place.wait()
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2]

    def _products(self, tokens: int) -> Callable[[], Any]:
        device, dtype = self._model.device, torch.bfloat16 if self.place.cuda else torch.float32
        sizes = [(384, 1152), (384, 384), (384, 1536), (1536, 384)]
        pairs = [
            (torch.randn(tokens, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)) for k, n in sizes
        ]
        layers = 1 if self.place.rehearsal else MINILM["num_hidden_layers"]

        def work() -> None:
            for _ in range(layers):
                for x, weight in pairs:
                    torch.nn.functional.linear(x, weight)

        return work


class _Theirs:
    """sentence-transformers with the same weights on the same device."""

    def __init__(self, folder: Path, place: Place) -> None:
        self._folder, self._place = folder, place
        self._models: dict[str, Any] = {}

    def open(self) -> Event:
        import sentence_transformers
        import transformers

        for precision, dtype in {"bf16": torch.bfloat16, "fp32": torch.float32}.items():
            path = str(self._folder / "foreign")
            model = sentence_transformers.SentenceTransformer(path, device=self._place.device, local_files_only=True)
            self._models[precision] = model.eval() if dtype == torch.float32 else model.to(dtype).eval()
        return {"sentence_transformers": sentence_transformers.__version__, "transformers": transformers.__version__}

    def agree(self, precision: str, ours: _Ours) -> Event:
        rows = 8 if self._place.rehearsal else ALIKE
        theirs = [self._models[precision].encode(_plain(self._folder, kind, rows), convert_to_tensor=True) for kind in ROWS]
        return _alike(ours.vectors(rows), torch.cat(theirs).float().cpu())

    def encode(self, kind: str, precision: str, batch: int) -> Event:
        """As its documentation says; the first batch is not timed."""
        texts, model = _plain(self._folder, kind, THEIRS[kind]), self._models[precision]
        model.encode(texts[:batch], batch_size=batch)
        self._place.wait()
        began = time.perf_counter()
        model.encode(texts, batch_size=batch, show_progress_bar=False)
        self._place.wait()
        spent = time.perf_counter() - began
        return {"per_second": len(texts) / spent, "rows": len(texts), "seconds": spent}


def _texts(folder: Path, kind: str, rows: int) -> pa.RecordBatch:
    """The first rows of a kind."""
    found = pa.concat_tables(pq.read_table(path, columns=["text"]) for path in sorted((folder / kind).iterdir()))
    return found.slice(0, rows).combine_chunks().to_batches()[0]


def _plain(folder: Path, kind: str, rows: int) -> list[str]:
    found: list[str] = _texts(folder, kind, rows).column("text").to_pylist()
    return found


def _batches(encoded: Texts) -> Iterator[Texts]:
    start = 0
    while start < encoded.rows:
        count = encoded.fit(start, BATCH_TOKENS)
        yield encoded.narrow(start, count)
        start += count


def _alike(ours: torch.Tensor, theirs: torch.Tensor) -> Event:
    """Cosines of each text's two vectors, beside those of vectors of different texts."""
    cosine = torch.nn.functional.cosine_similarity(ours, theirs)
    others = torch.nn.functional.cosine_similarity(ours, theirs.roll(1, 0))
    return {"cosine_least": float(cosine.min()), "cosine_mean": float(cosine.mean()), "of_others_mean": float(others.mean())}


def _imports() -> Event:
    found = sorted(name for name in ABSENT if name in sys.modules)
    assert not found, f"a bare GPU machine has no {', '.join(found)}, and scoring texts imported it"
    return {"absent": list(ABSENT)}

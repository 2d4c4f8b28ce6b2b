"""A family of texts as small as one can be: each different text is an item, the longest first, and costs its characters.

Numbers of a text are made of its characters; `boom` makes it raise, `gone` is no number.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from scoring.models.bundle import describe_inputs, write
from scoring.models.golden import score_table
from scoring.settings import Column
from scoring.types import Output

WIDTH = 5
INPUTS = {"text": Column("string", nullable=False)}


def numbers(text: str) -> list[float]:
    """The score, then the vector."""
    codes = np.frombuffer(text.encode() or b"\0", np.uint8).astype(np.float64)
    return [len(text) / 10, codes.mean(), -codes.std(), float(codes[0]), 1 / (1 + len(text)), 0.0]


def bundle(folder, store="float32"):
    texts = ["", "a", "some words", "a" * 300, "a"]
    wanted = np.array([numbers(text) for text in texts], np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(wanted[:, 1:].reshape(-1)), WIDTH)
    golden = pa.table({"text": texts, "expected.score": wanted[:, 0].copy(), "expected.vector": vectors})
    manifest = {"family": "lengths", "name": "lengths", "version": "1", "inputs": describe_inputs(INPUTS), "store": store}
    manifest |= {"tolerance": {"gpu": 1e-5, "cpu": 1e-5}}
    return write(folder, manifest, {"nothing": torch.zeros(1)}, golden, b'{"any": "tokenizer"}')


def open_model(found, device, module, precision):
    store = found.body.text("store")
    found.body.done()
    found.tensors({"nothing": (torch.float32, (1,))})
    assert found.tokenizer().read_bytes() == b'{"any": "tokenizer"}'
    return Lengths(found, device, store)


@dataclass
class Texts:
    texts: list[str]
    order: np.ndarray | None = None
    facts: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self):
        return len(self.texts)

    def fit(self, start, budget):
        costs = np.cumsum([len(text) + 2 for text in self.texts[start:]])
        return max(1, int(np.searchsorted(costs, budget, "right")))

    def cost(self, start, count):
        return sum(len(text) + 2 for text in self.texts[start : start + count])

    def narrow(self, start, rows):
        return Texts(self.texts[start : start + rows])

    def to(self, device):
        return self

    def counted(self):
        return {}

    def work(self):
        return self.facts


class Lengths:
    unit = "tokens"
    reentrant = True

    def __init__(self, found, device, store):
        self.name, self.version, self.digest = found.name, found.version, found.digest
        self.inputs, self.tolerance, self.device = found.inputs, found.tolerance, device
        self.outputs = (Output("score"), Output("vector", WIDTH, store))

    def count(self, edges):
        return frozenset()

    def encode(self, batch):
        given = [text or "" for text in batch.column("text").to_pylist()]
        items = sorted(dict.fromkeys(given), key=len, reverse=True)
        place = {text: n for n, text in enumerate(items)}
        tokens, all_tokens = (sum(len(text) + 2 for text in texts) for texts in (items, given))
        facts = {"texts": len(given), "unique_texts": len(items), "tokens": tokens, "tokens_saved": all_tokens - tokens}
        return Texts(items, np.array([place[text] for text in given], np.int64), facts)

    def forward(self, encoded):
        if "boom" in encoded.texts:
            raise ValueError("boom")
        found = torch.tensor([numbers(text) for text in encoded.texts], dtype=torch.float32)
        found[[text == "gone" for text in encoded.texts], 2] = torch.nan
        return found

    def score(self, table):
        return score_table(self, table)

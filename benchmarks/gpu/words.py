"""Words of no language, as rare and as long as those of one, with the tokenizer and the weights of a model that has never learned.

What a text costs is decided by how many words it has, how many tokens a word has and how often words come again; all three are
drawn here as in English: frequencies by Zipf's law, some 1.1 tokens a word.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import numpy as np
import torch

VOCABULARY = 30_522
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SYLLABLES = tuple("".join(parts) for parts in product("bdfgklmnprstvz", "aeiou", ("", "n", "r", "s")))
LETTERS = "abcdefghijklmnopqrstuvwxyz"
RARE = 8_000  # words beyond the vocabulary, which are made of several tokens
LENGTHS = {"short": (np.log(9.0), 0.35), "long": (np.log(220.0), 0.7)}  # words of a text: log-normal
MOST_WORDS = 1_500


def lexicon() -> list[str]:
    """The most frequent first; the same at every call."""
    toss = random.Random(7)
    found = dict.fromkeys(SYLLABLES)
    while len(found) < VOCABULARY - _reserved() + RARE + len(SYLLABLES):
        found["".join(toss.choices(SYLLABLES, k=toss.choice((2, 2, 3, 3, 4))))] = None
    return list(found)[len(SYLLABLES) :]


def _reserved() -> int:
    return len(SPECIAL) + 2 * (len(SYLLABLES) + len(LETTERS)) + 2


def texts(known: list[str], kind: str, rows: int) -> list[str]:
    rng = np.random.default_rng(len(kind))
    if kind == "mixed":
        short, long = texts(known, "short", rows), texts(known, "long", rows // 8)
        return [long[n // 8] if n % 8 == 7 and n // 8 < len(long) else short[n] for n in range(rows)]
    lengths = np.clip(rng.lognormal(*LENGTHS[kind], rows), 1, MOST_WORDS).astype(np.int64)
    weight = 1 / (np.arange(len(known)) + 2.7)  # Mandelbrot's form of Zipf's law
    drawn = np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(int(lengths.sum())))
    ends = np.cumsum(lengths).tolist()
    spelled = [known[place] for place in np.minimum(drawn, len(known) - 1).tolist()]
    return [
        " ".join(spelled[end - size : end]) + ("?" if end % 2 else ".") for end, size in zip(ends, lengths.tolist(), strict=True)
    ]


def tokenizer() -> Any:
    """As BERT's: [CLS] text [SEP], words cut into the longest pieces that are known."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = [*SYLLABLES, *LETTERS, *(f"##{piece}" for piece in (*SYLLABLES, *LETTERS)), ".", "?"]
    known = [*SPECIAL, *pieces, *lexicon()[: VOCABULARY - _reserved()]]
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(known)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ids
    )
    made.decoder = decoders.WordPiece()
    return made


def weights(drawn: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Changed so that numbers stay of order 1 from layer to layer, and words count for more than their places."""
    shared = ("position_embeddings", "token_type_embeddings")
    found = {name: tensor / 2 if tensor.dim() == 2 else tensor for name, tensor in drawn.items()}
    found |= {name: tensor / 10 for name, tensor in drawn.items() if any(part in name for part in shared)}
    return found | {name: 1 + tensor for name, tensor in drawn.items() if name.endswith("LayerNorm.weight")}

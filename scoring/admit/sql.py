"""A row rule as text: what it may say at all, and where its meaning is plain, a tree that numpy can answer.

Rules may come from a bundle, so they are data (law 8): a word that is not on the lists below is refused before Polars sees it. Thus
no rule can read a file, select, aggregate or look at another row, and none can raise on a value (hence TRY_CAST, no CAST).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from scoring.errors import ConfigError

MAX_LENGTH, MAX_DEPTH = 1_000, 32
_WORDS = (
    "AND OR NOT IN BETWEEN LIKE ILIKE IS NULL TRUE FALSE CASE WHEN THEN ELSE END DATE TIMESTAMP AS INT INTEGER BIGINT FLOAT DOUBLE"
    " REAL VARCHAR TEXT BOOLEAN"
)
_FUNCTIONS = (
    "ABS CEIL FLOOR ROUND SIGN SQRT EXP LN LOG10 COALESCE NULLIF GREATEST LEAST IF LENGTH CHAR_LENGTH OCTET_LENGTH LOWER UPPER"
    " LTRIM RTRIM TRIM SUBSTR LEFT RIGHT STARTS_WITH ENDS_WITH CONCAT REPLACE TRY_CAST MOD POW"
)
WORDS, FUNCTIONS = frozenset(_WORDS.split()), frozenset(_FUNCTIONS.split())
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+)|(?P<text>'(?:[^'\\]|'')*')|(?P<quoted>"(?:[^"\\]|"")+")"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<comment>--|/\*)|(?P<sign><=|>=|<>|!=|\|\||[<>=+\-*/%(),]))"""
)  # no backslash: whether it escapes a quote is a matter of dialect, and what is text here must be text to Polars
_COMPARISONS = {"=": "==", "==": "==", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


@dataclass(frozen=True)
class Token:
    kind: str
    text: str

    @property
    def word(self) -> str:
        """In capitals, if it is an unquoted word or a sign."""
        return self.text.upper() if self.kind in ("word", "sign") else ""


@dataclass(frozen=True)
class Sum:
    """Arithmetic: + or - or * of two terms; "abs" of the left one."""

    sign: str
    left: Term
    right: Term = 0


@dataclass(frozen=True)
class Compare:
    sign: str
    left: Term
    right: Term


@dataclass(frozen=True)
class IsNull:
    column: str
    wanted: bool


@dataclass(frozen=True)
class Both:
    """AND of all, or OR when `every` is False."""

    every: bool
    parts: tuple[Tree, ...]


Term: TypeAlias = "str | float | int | Sum"  # a str is the name of a column
Tree: TypeAlias = "Compare | IsNull | Both"


def tokens(sql: str, columns: frozenset[str], where: str) -> list[Token]:
    """The words of a rule, all of them allowed.

    Raises:
        ConfigError: the rule is too long or deep, or says a word that is no declared column and not on the lists.
    """
    if not sql.strip() or len(sql) > MAX_LENGTH:
        raise ConfigError(f"{where}: a rule has 1 to {MAX_LENGTH:,} characters, not {len(sql):,}.")
    found, place, depth = [], 0, 0
    while sql[place:].strip():
        match = _TOKEN.match(sql, place)
        if match is None or match.lastgroup == "comment":
            _refuse(where, sql[place:].split()[0][:20])
        place, kind = match.end(), str(match.lastgroup)
        text = match[kind]
        found.append(Token("column", text[1:-1].replace('""', '"')) if kind == "quoted" else Token(kind, text))
        depth += (text == "(") - (text == ")") if kind == "sign" else 0
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH}.")
    return [_known(token, found[n + 1 : n + 2], columns, where) for n, token in enumerate(found)]


def _known(token: Token, behind: list[Token], columns: frozenset[str], where: str) -> Token:
    called = bool(behind) and behind[0].text == "(" and behind[0].kind == "sign"
    if token.kind == "column" or (token.kind == "word" and token.text in columns and not called):
        if token.text not in columns:
            raise ConfigError(f"{where}: {token.text!r} is no declared column. Declare it in contract.columns.")
        return Token("column", token.text)
    if token.kind == "word" and token.word not in WORDS and not (called and token.word in FUNCTIONS):
        if called:
            _refuse(where, f"{token.text}()")
        raise ConfigError(f"{where}: {token.text!r} is no word of a row rule and no column that contract.columns declares.")
    return token


def _refuse(where: str, what: str) -> NoReturn:
    raise ConfigError(
        f"{where}: {what} is not allowed in a row rule, which looks at one row and nothing else. "
        f"Functions: {', '.join(sorted(FUNCTIONS))}."
    )


def plain(words: list[Token]) -> Tree | None:
    """The rule as comparisons of sums, NULL tests, AND, OR, NOT and BETWEEN; None if it says anything else."""
    reader = _Reader(words)
    try:
        tree = reader.either(True)
    except _OtherwiseError:
        return None
    return tree if reader.done else None


class _OtherwiseError(Exception):
    """The rule says something that only Polars understands."""


class _Reader:
    """Recursive descent. `meant` False is read under a NOT, which moves inwards to the comparisons (De Morgan, also with NULL)."""

    def __init__(self, words: list[Token]) -> None:
        self._words, self._at = words, 0

    @property
    def done(self) -> bool:
        return self._at == len(self._words)

    def either(self, meant: bool) -> Tree:
        return self._several("OR", not meant, lambda: self._all(meant))

    def _all(self, meant: bool) -> Tree:
        return self._several("AND", meant, lambda: self._one(meant))

    def _several(self, between: str, every: bool, part: Callable[[], Tree]) -> Tree:
        parts = [part()]
        while self._took(between):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Both(every, tuple(parts))

    def _one(self, meant: bool) -> Tree:
        if self._took("NOT"):
            return self._one(not meant)
        if self._took("("):
            inner = self.either(meant)
            self._need(")")
            return inner
        return self._comparison(meant)

    def _comparison(self, meant: bool) -> Tree:
        left = self._operand()
        if self._took("IS"):
            wanted = not self._took("NOT")
            self._need("NULL")
            return IsNull(self._name(left), wanted == meant)
        negated = self._took("NOT")
        if self._took("BETWEEN"):
            low = self._operand()
            self._need("AND")
            return self._within(left, low, self._operand(), meant != negated)
        sign = _COMPARISONS.get(self._next().word)
        if negated or sign is None:
            raise _OtherwiseError
        return Compare(sign if meant else _OPPOSITE[sign], left, self._operand())

    @staticmethod
    def _within(value: Term, low: Term, high: Term, inside: bool) -> Tree:
        signs = (">=", "<=") if inside else ("<", ">")
        return Both(inside, (Compare(signs[0], value, low), Compare(signs[1], value, high)))

    def _operand(self) -> Term:
        found = self._product()
        while not self.done and (sign := self._words[self._at].word) in ("+", "-"):
            self._at += 1
            found = Sum(sign, found, self._product())
        return found

    def _product(self) -> Term:
        found = self._factor()
        while self._took("*"):
            found = Sum("*", found, self._factor())
        return found

    def _factor(self) -> Term:
        if self._took("-"):
            inner = self._factor()
            return -inner if isinstance(inner, (int, float)) else Sum("-", 0, inner)
        if self._took("ABS"):
            self._need("(")
            found: Term = Sum("abs", self._operand())
            self._need(")")
            return found
        token = self._next()
        if token.kind == "number":
            return int(token.text) if token.text.isdigit() else float(token.text)
        if token.kind != "column":
            raise _OtherwiseError
        return token.text

    @staticmethod
    def _name(operand: Term) -> str:
        if not isinstance(operand, str):
            raise _OtherwiseError
        return operand

    def _next(self) -> Token:
        if self.done:
            raise _OtherwiseError
        self._at += 1
        return self._words[self._at - 1]

    def _took(self, word: str) -> bool:
        found = not self.done and self._words[self._at].word == word
        self._at += found
        return found

    def _need(self, word: str) -> None:
        if not self._took(word):
            raise _OtherwiseError

"""Reads filter expressions: ``type == "jetson" and region in ("eu", "us") and not maintenance and version < "2.4"``."""

import json
import re
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any, Final, cast

from lark import Lark, Token, Transformer, UnexpectedInput, UnexpectedToken

from schemas.errors import PolicyError
from schemas.filters import FIELDS, OPERATORS, Comparison, FieldKind, Filter, Joined, Not, Value

_GRAMMAR: Final = r"""
    ?start: some
    ?some: every ("or" every)*
    ?every: part ("and" part)*
    ?part: "not" part -> negated | "(" some ")" | comparison
    comparison: NAME -> flag | NAME OPERATOR value -> one | NAME membership "(" value ("," value)* ")" -> several
    membership: "in" -> is_in | "not" "in" -> is_not_in
    value: TEXT -> text | NUMBER -> number | NAME -> word
    TEXT: /"([^"\\]|\\.)*"/ | /'[^']*'/
    NUMBER.2: /[0-9]+(?![0-9A-Za-z._+-])/
    NAME: /[A-Za-z0-9_][A-Za-z0-9_.+-]*/
    OPERATOR: "==" | "!=" | "<=" | ">=" | "<" | ">"
    %ignore /[ \t\r\n]+/
"""
_EXAMPLES: Final = ('type == "jetson"', 'region in ("eu", "us")', 'version < "2.4"', "not maintenance")
_BREAK: Final = re.compile(r"[\r\n\t]")
_PARENTHESES_MAX: Final = 64
_DIGITS_MAX: Final = 18
_MEANT: Final = {"=": "==", "&": "and", "|": "or", "!": "not"}


class _WrongError(Exception):
    """What is wrong, with the token where it is."""

    def __init__(self, token: Token, message: str) -> None:
        super().__init__(message)
        self.token = token


class _Builder(Transformer[Token, Any]):
    """Turns a parse tree into a Filter."""

    def some(self, parts: list[Filter]) -> Filter:
        return Joined("or", tuple(parts))

    def every(self, parts: list[Filter]) -> Filter:
        return Joined("and", tuple(parts))

    def negated(self, parts: list[Filter]) -> Filter:
        match parts[0]:
            case Not(part):
                return part
            case Comparison(field, "==", (bool(value),)):
                return Comparison(field, "==", (not value,))
            case part:
                return Not(part)

    def is_in(self, _items: list[Token]) -> str:
        return "in"

    def is_not_in(self, _items: list[Token]) -> str:
        return "not in"

    def text(self, items: list[Token]) -> tuple[Token, Value]:
        return items[0], _unquoted(items[0])

    def number(self, items: list[Token]) -> tuple[Token, Value]:
        number = items[0]
        if len(number) > _DIGITS_MAX:
            raise _WrongError(number, f"a number has at most {_DIGITS_MAX} digits")
        return number, int(number)

    def word(self, items: list[Token]) -> tuple[Token, Value]:
        word = items[0]
        if word not in {"true", "false"}:
            raise _WrongError(word, f"a text stands in quotes: {json.dumps(str(word))}")
        return word, word == "true"

    def flag(self, items: list[Token]) -> Filter:
        name = items[0]
        if _kind(name) is not FieldKind.FLAG:
            raise _WrongError(name, f"{name} is {_kind(name)} and needs a comparison, {_example(name)}")
        return Comparison(str(name), "==", (True,))

    def one(self, items: list[Any]) -> Filter:
        name, sign, value = items
        kind = _kind(name)
        if sign not in OPERATORS[kind]:
            raise _WrongError(sign, f"{name} is {kind}, which can be compared with {', '.join(OPERATORS[kind])}")
        if kind is FieldKind.FLAG:
            return Comparison(str(name), "==", (_checked(name, value) is (sign == "=="),))
        return Comparison(str(name), str(sign), (_checked(name, value),))

    def several(self, items: list[Any]) -> Filter:
        name, sign, *values = items
        if sign not in OPERATORS[_kind(name)]:
            raise _WrongError(name, f"{name} is true or false: write {name} or not {name}")
        return Comparison(str(name), sign, tuple(_checked(name, value) for value in values))


def _unquoted(token: Token) -> str:
    if token.startswith("'"):
        return str(token[1:-1])
    try:
        return str(json.loads(token))
    except ValueError:
        raise _WrongError(token, "it is no text: use the escapes of JSON, or single quotes") from None


def _kind(name: Token) -> FieldKind:
    if name not in FIELDS:
        near = get_close_matches(name, FIELDS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise _WrongError(name, f"there is no field {name}; {meant}there are {', '.join(FIELDS)}")
    return FIELDS[str(name)]


def _checked(name: Token, given: tuple[Token, Value]) -> Value:
    """Return a value if it is of the field's kind."""
    token, value = given
    wanted = {FieldKind.FLAG: bool, FieldKind.NUMBER: int}.get(_kind(name), str)
    if type(value) is not wanted:
        raise _WrongError(token, f"{name} is {_kind(name)}, {_example(name)}")
    return value


def _example(name: Token) -> str:
    match _kind(name):
        case FieldKind.FLAG:
            return f"for example {name} or not {name}"
        case FieldKind.NUMBER:
            return f"for example {name} > 1000000"
        case FieldKind.VERSION:
            return f'for example {name} < "2.4"'
        case _:
            return f'for example {name} == "one"'


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False, transformer=_Builder())


@lru_cache(maxsize=64)
def parse_filter(text: str) -> Filter:
    """Parse a filter expression over ``FIELDS``.

    ``and`` binds closer than ``or``, ``not`` closest. Texts and versions stand in quotes; versions are compared as
    versions; a field that is true or false stands by itself.

    Raises:
        PolicyError: It does not parse; the author's fault. The text shows a caret and what would be understood.
    """
    text = _BREAK.sub(" ", text)
    if text.count("(") > _PARENTHESES_MAX:
        raise PolicyError(f"more than {_PARENTHESES_MAX} parentheses: list values with in (...), or split the devices")
    try:
        parsed: Any = _parser().parse(text)
    except UnexpectedInput as error:
        is_over = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        column = len(text) + 1 if is_over or error.column < 1 else error.column
        word = text[column - 1 : column]
        meant = f"; write {_MEANT[word]!r}" if word in _MEANT else ""
        message = f"cannot read it from here on{meant}; for example: {', '.join(_EXAMPLES)}"
        raise _unreadable(text, column, message) from error
    except _WrongError as error:
        raise _unreadable(text, error.token.column or 1, str(error)) from error
    return cast("Filter", parsed)


def _unreadable(text: str, column: int, message: str) -> PolicyError:
    return PolicyError(f"column {column}: {message}\n{text}\n{' ' * (column - 1)}^")

"""Functions on texts and regular expressions, and ``format``.

Source: the CEL strings extension and Kubernetes' "Common Expression Language in Kubernetes", regex library.
"""

from __future__ import annotations

import math
from typing import Any

from bamikube.api.cel import operators
from bamikube.api.cel.functions.model import STRING_FACTOR, Function, declare, length, pattern_cost, walk
from bamikube.api.cel.functions.standard import pattern
from bamikube.api.cel.types import CelError, NoOverload, TypeValue, Uint
from bamikube.api.numbers import whole

_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MOST = 2_000_000  # characters of a text that an expression may make


def _text(*values: Any) -> None:
    if not all(type(value) is str for value in values):
        raise NoOverload()


def _int(value: Any) -> int:
    if type(value) is not int:
        raise NoOverload()
    return value


def _char_at(text: str, index: int) -> str:
    _text(text)
    if not 0 <= _int(index) <= len(text):
        raise CelError(f"index out of range: {index}")
    return text[index : index + 1]


def index_of(text: str, part: str, start: int = 0) -> int:
    _text(text, part)
    if not 0 <= _int(start) <= len(text) and part:
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def last_index_of(text: str, part: str, *rest: int) -> int:
    _text(text, part)
    if not rest:
        return text.rfind(part)
    start = _int(rest[0])
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    return text.rfind(part, 0, start + len(part))


def _join(items: Any, separator: str = "") -> str:
    _text(separator)
    if not isinstance(items, list):
        raise NoOverload("join")
    _text(*items)
    return separator.join(items)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    _text(text, old, new)
    found = text.count(old) if count < 0 else min(count, text.count(old))
    if len(text) + found * len(new) > _MOST:
        raise CelError("the text is too long")
    return text.replace(old, new, _int(count))


def _split(text: str, separator: str, count: int = -1) -> list[str]:
    _text(text, separator)
    if _int(count) == 0:
        return []
    if count == 1:
        return [text]
    if not separator:
        letters = list(text)
        return letters if count < 0 or len(letters) <= count else [*letters[: count - 1], text[count - 1 :]]
    return text.split(separator, count - 1 if count > 0 else -1)


def _substring(text: str, start: int, *rest: int) -> str:
    _text(text)
    end = _int(rest[0]) if rest else len(text)
    if not 0 <= _int(start) <= len(text) or not 0 <= end <= len(text) or start > end:
        raise CelError(
            f"invalid substring range. start: {start}, end: {end}" if rest else f"index out of range: {start}"
        )
    return text[start:end]


def _mapped(table: dict[int, int]) -> Any:
    def call(text: str) -> str:
        _text(text)
        return text.translate(table)

    return call


def _trim(text: str) -> str:
    _text(text)
    return text.strip()


def _reverse(text: str) -> str:
    _text(text)
    return text[::-1]


_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def _quote(text: str) -> str:
    _text(text)
    return '"' + "".join(_ESCAPES.get(each, each) for each in text) + '"'


def _find(text: str, expression: str) -> str:
    _text(text, expression)
    found = pattern(expression).search(text)
    return str(found.group(0)) if found is not None else ""


def _find_all(text: str, expression: str, limit: int = -1) -> list[str]:
    _text(text, expression)
    found: list[str] = []
    if _int(limit) == 0:
        return found
    for match in pattern(expression).finditer(text):
        found.append(match.group(0))
        if len(found) == limit:
            break
    return found


# -- format ----------------------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    """A value as ``%s`` prints it."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{key}: {each}" for key, each in sorted((_shown(k), _shown(v)) for k, v in value.items())
            )
            + "}"
        )
    if value is None:
        return "null"
    if isinstance(value, TypeValue):
        return value.name
    return operators.to_string(value)


def _clause(kind: str, precision: int, value: Any) -> str:
    number = type(value)
    if kind == "s":
        return _shown(value)
    if kind == "d" and number in (int, Uint):
        return str(int(value))
    if kind in "fe" and number in (int, Uint, float):
        value = float(value)
        if math.isnan(value) or math.isinf(value):
            return "NaN" if math.isnan(value) else ("∞" if value > 0 else "-∞")
        return f"{value:.{precision}{kind}}"
    if kind == "b" and number in (int, Uint, bool):
        return format(int(value), "b")
    if kind == "o" and number in (int, Uint):
        return format(int(value), "o")
    if kind in "xX":
        if number in (int, Uint):
            return format(int(value), kind)
        if number is str or number is bytes:
            digits = (value.encode() if number is str else value).hex()
            return digits.upper() if kind == "X" else str(digits)
    raise CelError(
        f'error during formatting: unrecognized formatting clause "{kind}" for {operators.type_name(value)}'
    )


def _format(text: str, values: Any) -> str:
    """``'%s is %d'.format([a, b])``."""
    _text(text)
    if not isinstance(values, list):
        raise NoOverload("format")
    out: list[str] = []
    at = taken = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            out.append(text[at:])
            break
        out.append(text[at:percent])
        at = percent + 1
        precision = 6
        if text[at : at + 1] == "%":
            out.append("%")
            at += 1
            continue
        if text[at : at + 1] == ".":
            end = at + 1
            while end < len(text) and "0" <= text[end] <= "9":
                end += 1
            wanted = whole(text[at + 1 : end] or "0")
            precision, at = 100 if wanted is None else min(wanted, 100), end
        kind = text[at : at + 1]
        at += 1
        if not kind or kind not in "sdfebxXo":
            raise CelError(f'error during formatting: unrecognized formatting clause "{kind}"')
        if taken >= len(values):
            raise CelError(f"error during formatting: index {taken} out of range")
        out.append(_clause(kind, precision, values[taken]))
        taken += 1
    return "".join(out)


def _escape_key(key: Any) -> str:
    """A field's name as a part of a JSON pointer (RFC 6901)."""
    _text(key)
    return str(key).replace("~", "~0").replace("/", "~1")


FUNCTIONS: dict[str, Function] = {
    "charAt": Function(_char_at),
    "join": Function(_join, lambda args, result: math.ceil(length(result) * 2 * STRING_FACTOR)),
    "lowerAscii": Function(_mapped(_LOWER), walk()),
    "upperAscii": Function(_mapped(_UPPER), walk()),
    "replace": Function(_replace, walk(2 * STRING_FACTOR)),
    "split": Function(_split, walk(2 * STRING_FACTOR)),
    "substring": Function(_substring, walk()),
    "trim": Function(_trim, walk()),
    "reverse": Function(_reverse, walk()),
    "strings.quote": Function(_quote, walk()),
    "jsonpatch.escapeKey": Function(_escape_key, walk()),
    "format": Function(_format, walk()),
    "find": Function(_find, pattern_cost),
    "findAll": Function(_find_all, pattern_cost),
}

DECLARED = declare(
    [
        "string.find(string) -> string",
        "string.findAll(string) -> list<string>",
        "string.findAll(string, int) -> list<string>",
        "jsonpatch.escapeKey(string) -> string",
    ]
)

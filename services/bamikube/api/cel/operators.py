"""Equality, order, arithmetic and conversions of CEL values.

Integers are 64 bits wide and never wrap: what does not fit is an error. Numbers of different kinds are equal when they
are the same number; values of different types are unequal, never an error; a ``bool`` is no number.

Source: the CEL language definition ("Equality", "Ordering", "Numeric overflow", "Type conversions").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bamikube.api.cel import moments
from bamikube.api.cel.types import (
    CelError,
    Duration,
    MapList,
    NoOverload,
    Optional,
    SetList,
    Timestamp,
    TypeValue,
    Uint,
)

NUMBERS = frozenset({int, float, Uint})
_PLAIN = frozenset({str, int, bool})
MIN_INT, MAX_INT, MAX_UINT = -(2**63), 2**63 - 1, 2**64 - 1


def equal(left: Any, right: Any) -> bool:
    kind, other = type(left), type(right)
    if kind is other and kind in _PLAIN:
        return bool(left == right)
    if kind in NUMBERS and other in NUMBERS:
        return bool(left == right)
    if isinstance(left, list) and isinstance(right, list):
        return _equal_lists(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return len(left) == len(right) and all(
            key in right and equal(value, right[key]) for key, value in left.items()
        )
    if kind is not other:
        return False
    if kind is Optional:
        if not (left.present and right.present):
            return left.present == right.present
        return equal(left.value, right.value)
    return bool(left == right)


def _equal_lists(left: list[Any], right: list[Any]) -> bool:
    if len(left) != len(right):
        return False
    if isinstance(left, MapList) and isinstance(right, list):
        there = {left.key(item): item for item in right}
        return all(left.key(item) in there and equal(item, there[left.key(item)]) for item in left)
    if isinstance(left, SetList):
        return all(contains(right, item) for item in left)
    return all(map(equal, left, right))


def contains(items: Any, item: Any) -> bool:
    """``item in items``, for lists and the keys of maps."""
    if isinstance(items, dict):
        return find_key(items, item)[0]
    if not isinstance(items, list):
        raise NoOverload("_in_")
    if type(item) is str:
        return item in items
    return any(equal(item, each) for each in items)


def find_key(items: dict[Any, Any], key: Any) -> tuple[bool, Any]:
    """Whether a map has the key, and its value. Numbers match numbers; a bool matches no number."""
    if type(key) is str:
        return (True, items[key]) if key in items else (False, None)
    for each, value in items.items():
        if equal(each, key):
            return True, value
    return False, None


_ORDERED = frozenset({str, bool, bytes, Timestamp, Duration})


def compare(left: Any, right: Any) -> int | None:
    """-1, 0 or 1; None when one of them is not a number. Raises NoOverload for types without an order."""
    kind, other = type(left), type(right)
    if kind is not int or other is not int:
        comparable = (kind in NUMBERS and other in NUMBERS) or (kind is other and kind in _ORDERED)
        if not comparable:
            raise NoOverload()
    if left < right:
        return -1
    if left > right:
        return 1
    return 0 if left == right else None


def _int(value: int) -> int:
    if MIN_INT <= value <= MAX_INT:
        return value
    raise CelError("integer overflow")


def _uint(value: int) -> Uint:
    if 0 <= value <= MAX_UINT:
        return Uint(value)
    raise CelError("unsigned integer overflow")


def _number(function: str, calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operator on two numbers of the same kind."""

    def operate(left: Any, right: Any) -> Any:
        kind = type(left)
        if kind is not type(right):
            raise NoOverload(function)
        if kind is int:
            return _int(calculate(left, right))
        if kind is float:
            return calculate(left, right)
        if kind is Uint:
            return _uint(calculate(int(left), int(right)))
        raise NoOverload(function)

    return operate


_add_numbers = _number("_+_", lambda left, right: left + right)
_subtract_numbers = _number("_-_", lambda left, right: left - right)
multiply = _number("_*_", lambda left, right: left * right)


def add(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is other and (kind is str or kind is bytes):
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        return _add_lists(left, right)
    if kind is Timestamp or other is Timestamp or kind is Duration:
        if {kind, other} == {Timestamp, Duration}:
            return moments.timestamp(left.nanos + right.nanos)
        if kind is other is Duration:
            return moments.span(left.nanos + right.nanos)
        raise NoOverload("_+_")
    return _add_numbers(left, right)


def _add_lists(left: list[Any], right: list[Any]) -> list[Any]:
    if isinstance(left, SetList):
        return SetList([*left, *(item for item in right if not contains(left, item))])
    if isinstance(left, MapList):
        news = {left.key(item): item for item in right}
        kept = [news.pop(left.key(item), item) for item in left]
        return MapList([*kept, *news.values()], left.keys)
    return [*left, *right]


def subtract(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is Timestamp:
        if other is Timestamp:
            return moments.span(left.nanos - right.nanos)
        if other is Duration:
            return moments.timestamp(left.nanos - right.nanos)
    if kind is other is Duration:
        return moments.span(left.nanos - right.nanos)
    return _subtract_numbers(left, right)


def divide(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is not type(right) or kind not in NUMBERS:
        raise NoOverload("_/_")
    if kind is float:
        if right == 0.0:
            sign = math.copysign(1.0, left) * math.copysign(1.0, right)
            return math.nan if left == 0.0 or math.isnan(left) else math.copysign(math.inf, sign)
        return left / right
    if right == 0:
        raise CelError("division by zero")
    quotient = abs(left) // abs(right)
    return _uint(quotient) if kind is Uint else _int(quotient if (left < 0) == (right < 0) else -quotient)


def modulo(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is not type(right) or kind not in (int, Uint):
        raise NoOverload("_%_")
    if right == 0:
        raise CelError("modulus by zero")
    rest = abs(left) % abs(right)
    return Uint(rest) if kind is Uint else (-rest if left < 0 else rest)


def negate(value: Any) -> Any:
    if type(value) is int:
        return _int(-value)
    if type(value) is float:
        return -value
    raise NoOverload("-_")


def index(items: Any, key: Any) -> Any:
    """``items[key]``. Raises CelError when there is nothing."""
    if isinstance(items, dict):
        found, value = find_key(items, key)
        if not found:
            raise CelError(f"no such key: {shown(key)}")
        return value
    if not isinstance(items, list):
        raise NoOverload("_[_]")
    if type(key) is float and key.is_integer():
        key = int(key)
    if type(key) not in (int, Uint):
        raise CelError(f"unsupported index type '{type_name(key)}' in list")
    if not 0 <= key < len(items):
        raise CelError(f"index out of bounds: {key}")
    return items[key]


def shown(value: Any) -> str:
    """A key as error messages show it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- conversions -----------------------------------------------------------------------------------------------------


def to_int(value: Any) -> int:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is Uint:
        return _int(int(value))
    if kind is float:
        if not -(2.0**63) < value < 2.0**63:  # also refuses NaN
            raise CelError("integer overflow")
        return int(value)
    if kind is Timestamp:
        return int(value.nanos // 1_000_000_000)
    if kind is str:
        return _int(_parse(value, "int"))
    raise NoOverload("int")


def _parse(text: str, kind: str) -> int:
    body = text[1:] if text[:1] in ("-", "+") and kind == "int" else text
    if not (body.isascii() and body.isdigit()) or len(body) > 20:
        raise CelError(f'strconv.Parse{kind.capitalize()}: parsing "{text}": invalid syntax')
    return int(text)


def to_uint(value: Any) -> Uint:
    kind = type(value)
    if kind is Uint:
        return Uint(value)
    if kind is int:
        return _uint(value)
    if kind is float:
        if not 0 <= value < 2.0**64:
            raise CelError("unsigned integer overflow")
        return Uint(int(value))
    if kind is str:
        return _uint(_parse(value, "uint"))
    raise NoOverload("uint")


def to_double(value: Any) -> float:
    kind = type(value)
    if kind in NUMBERS:
        return float(value)
    if kind is str:
        try:
            return float(value)
        except ValueError:
            raise CelError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None
    raise NoOverload("double")


def to_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    if type(value) is str:
        if value in ("true", "True", "TRUE", "t", "1"):
            return True
        if value in ("false", "False", "FALSE", "f", "0"):
            return False
        raise CelError(f"type conversion error from 'string' to 'bool': {value}")
    raise NoOverload("bool")


def to_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode()
    raise NoOverload("bytes")


def to_string(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is Uint:
        return str(int(value))
    if kind is float:
        return double_text(value)
    if kind is bytes:
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    if kind is Timestamp:
        return moments.timestamp_text(value)
    if kind is Duration:
        return moments.duration_text(value)
    text = getattr(value, "text", None)
    if isinstance(text, str):
        return text
    raise NoOverload("string")


def double_text(value: float) -> str:
    """A double as Go's shortest form prints it: ``1``, ``1.5``, ``1e+21``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value.is_integer() and abs(value) < 1e21:
        return "-0" if value == 0 and math.copysign(1.0, value) < 0 else str(int(value))
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    sign, digits = ("-", exponent[1:]) if exponent[0] == "-" else ("+", exponent.lstrip("+"))
    return f"{mantissa.removesuffix('.0')}e{sign}{digits.zfill(2)}"


_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    TypeValue: "type",
    Optional: "optional_type",
}


def type_name(value: Any) -> str:
    """The name ``type(value)`` has in CEL."""
    name = _NAMES.get(type(value))
    if name is not None:
        return name
    if isinstance(value, list):
        return "list"
    if isinstance(value, dict):
        return getattr(value, "name", "map") if type(value) is not dict else "map"
    return str(getattr(value, "type_name", type(value).__name__))


def size(value: Any) -> int:
    """``size(value)``: characters, bytes, elements or entries."""
    if isinstance(value, (str, bytes, list, dict)):
        return len(value)
    raise NoOverload("size")

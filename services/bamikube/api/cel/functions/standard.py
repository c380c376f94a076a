"""The standard functions of CEL; the checker knows their declarations.

Source: the CEL language definition, "List of standard definitions".
"""

from __future__ import annotations

import math
from typing import Any

import re2

from bamikube.api.cel import moments, operators
from bamikube.api.cel.functions.model import STRING_FACTOR, Function, length, pattern_cost, walk
from bamikube.api.cel.types import ABSENT, CelError, Duration, NoOverload, Optional, Timestamp, TypeValue
from bamikube.api.memory import remembered

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20


@remembered(1024)
def pattern(text: str) -> Any:
    """A compiled regular expression. Raises CelError."""
    try:
        return re2.compile(text, _OPTIONS)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        reason = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise CelError(f"error parsing regexp: {reason}") from None


def _matches(text: Any, expression: Any) -> bool:
    if type(text) is not str or type(expression) is not str:
        raise NoOverload("matches")
    return pattern(expression).search(text) is not None


def _contains(text: Any, part: Any) -> bool:
    if type(text) is not str or type(part) is not str:
        raise NoOverload("contains")
    return part in text


def _starts(text: Any, part: Any) -> bool:
    if type(text) is not str or type(part) is not str:
        raise NoOverload("startsWith")
    return text.startswith(part)


def _ends(text: Any, part: Any) -> bool:
    if type(text) is not str or type(part) is not str:
        raise NoOverload("endsWith")
    return text.endswith(part)


def _timestamp(value: Any) -> Timestamp:
    if type(value) is Timestamp:
        return value
    if type(value) is int:
        return moments.timestamp(value * moments.SECOND)
    if type(value) is str:
        return moments.parse_timestamp(value)
    raise NoOverload("timestamp")


def _duration(value: Any) -> Duration:
    if type(value) is Duration:
        return value
    if type(value) is int:
        return moments.span(value)
    if type(value) is str:
        return moments.parse_duration(value)
    raise NoOverload("duration")


def _part(name: str) -> Function:
    def call(value: Any, zone: str = "") -> int:
        return moments.part(name, value, zone)

    return Function(call)


def _text_cost(args: tuple[Any, ...], result: Any) -> int:
    kind = type(args[0])
    return math.ceil(length(args[0]) * STRING_FACTOR) if kind is str or kind is bytes else 1


# -- optionals -------------------------------------------------------------------------------------------------------


def _optional(value: Any) -> Optional:
    if type(value) is not Optional:
        raise NoOverload()
    return value


def _value(value: Any) -> Any:
    if not _optional(value).present:
        raise CelError("optional.none() dereference")
    return value.value


def _of_non_zero(value: Any) -> Optional:
    zero = value is None or (isinstance(value, (bool, int, float, str, bytes, list, dict)) and not value)
    return ABSENT if zero else Optional(True, value)


FUNCTIONS: dict[str, Function] = {
    "size": Function(operators.size),
    "contains": Function(
        _contains,
        lambda args, result: (
            math.ceil(length(args[0]) * STRING_FACTOR) * math.ceil(length(args[1]) * STRING_FACTOR)
        ),
    ),
    "startsWith": Function(_starts, walk(argument=1)),
    "endsWith": Function(_ends, walk(argument=1)),
    "matches": Function(_matches, pattern_cost),
    "int": Function(operators.to_int),
    "uint": Function(operators.to_uint),
    "double": Function(operators.to_double),
    "bool": Function(operators.to_bool),
    "bytes": Function(operators.to_bytes, _text_cost),
    "string": Function(operators.to_string, _text_cost),
    "dyn": Function(lambda value: value),
    "type": Function(lambda value: TypeValue(operators.type_name(value))),
    "timestamp": Function(_timestamp),
    "duration": Function(_duration),
    **{name: _part(name) for name in moments.PARTS},
    "optional.of": Function(lambda value: Optional(True, value)),
    "optional.ofNonZeroValue": Function(_of_non_zero),
    "optional.none": Function(lambda: ABSENT),
    "hasValue": Function(lambda value: _optional(value).present),
    "value": Function(_value),
}

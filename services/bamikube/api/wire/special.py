"""Messages whose JSON is not an object of their fields.

Times are texts, quantities are texts, int-or-string is one or the other, and some messages only wrap raw JSON.
Every decoder here gets the message's fields (already read: number to value) and gives the JSON value; every encoder
gets the JSON value and gives the message's fields. ``None`` from a decoder means: nothing was said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

Fields = list[tuple[int, Any]]  # field number and value: int, str, bytes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {
    "h": 3600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ns": 1,
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|μs|ns)")


def _moment(values: dict[int, Any]) -> datetime:
    try:
        return _EPOCH + timedelta(seconds=int(values.get(1, 0)), microseconds=int(values.get(2, 0)) // 1000)
    except OverflowError:
        raise ValueError(f"time out of range: {values.get(1)} seconds since 1970") from None


def decode_time(values: dict[int, Any]) -> str | None:
    """``metav1.Time``: RFC 3339 in whole seconds; an empty message is no time at all."""
    return _moment({1: values.get(1, 0)}).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20) if values else None


def decode_micro_time(values: dict[int, Any]) -> str | None:
    """``metav1.MicroTime``: RFC 3339 with six digits of fraction."""
    return _moment(values).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27) if values else None


def _parsed(text: Any) -> datetime:
    if not isinstance(text, str):
        raise ValueError(f"not a time: {text!r}")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without zone: {text}")
    return moment


def encode_time(text: Any) -> Fields:
    seconds = (_parsed(text) - _EPOCH) // timedelta(seconds=1)
    return [(1, seconds), (2, 0)]


def encode_micro_time(text: Any) -> Fields:
    micros = (_parsed(text) - _EPOCH) // timedelta(microseconds=1)
    return [(1, micros // 10**6), (2, micros % 10**6 * 1000)]


def decode_quantity(values: dict[int, Any]) -> str:
    return _text(values.get(1, b"")) or "0"


def encode_quantity(value: Any) -> Fields:
    return [(1, str(value))]


def decode_int_or_string(values: dict[int, Any]) -> int | str:
    if values.get(1, 0) == 1:
        return _text(values.get(3, b""))
    number: int = values.get(2, 0)
    return number


def encode_int_or_string(value: Any) -> Fields:
    if isinstance(value, str):
        return [(1, 1), (2, 0), (3, value)]
    return [(1, 0), (2, int(value)), (3, "")]


def decode_duration(values: dict[int, Any]) -> str:
    """Go's text of a duration: ``1h0m0s``, ``1.5s``, ``200ms``."""
    nanos = int(values.get(1, 0))
    sign, nanos = ("-", -nanos) if nanos < 0 else ("", nanos)
    if not nanos:
        return "0s"
    if nanos < 10**9:
        name, unit = next((name, _UNITS[name]) for name in ("ms", "µs", "ns") if nanos >= _UNITS[name])
        return f"{sign}{_decimal(nanos, unit)}{name}"
    seconds, minutes, hours = nanos % (60 * 10**9), nanos // (60 * 10**9) % 60, nanos // (3600 * 10**9)
    text = f"{_decimal(seconds, 10**9)}s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    return f"{whole}.{str(rest + unit)[1:].rstrip('0')}" if rest else str(whole)


def encode_duration(text: Any) -> Fields:
    """Raises ``ValueError`` for what Go's ``time.ParseDuration`` does not take."""
    plain = str(text).lstrip("+-")
    parts = _DURATION.findall(plain)
    if plain != "0" and (not parts or "".join(number + unit for number, unit in parts) != plain):
        raise ValueError(f"not a duration: {text!r}")
    nanos = 0
    for number, unit in parts:
        whole, _, rest = number.partition(".")
        nanos += int(whole or "0") * _UNITS[unit] + (
            int(rest) * _UNITS[unit] // 10 ** len(rest) if rest else 0
        )
    return [(1, -nanos if str(text).startswith("-") else nanos)]


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"raw JSON inside a message: {error}") from None


def decode_raw(values: dict[int, Any]) -> Any:
    """Raw JSON: ``FieldsV1``, ``RawExtension``, ``JSON``."""
    raw = values.get(1, b"")
    return _json(raw) if raw else None


def encode_raw(value: Any) -> Fields:
    return [(1, orjson.dumps(value))]


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise ValueError("a number where a text belongs")
    return value.decode()


Decoder = Callable[[dict[int, Any]], Any]
Encoder = Callable[[Any], Fields]

_META = "k8s.io.apimachinery.pkg.apis.meta.v1."
_EXTENSIONS = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions."

SPECIAL: dict[str, tuple[Decoder, Encoder]] = {
    _META + "Time": (decode_time, encode_time),
    _META + "MicroTime": (decode_micro_time, encode_micro_time),
    _META + "Duration": (decode_duration, encode_duration),
    _META + "FieldsV1": (decode_raw, encode_raw),
    "k8s.io.apimachinery.pkg.runtime.RawExtension": (decode_raw, encode_raw),
    _EXTENSIONS + "v1.JSON": (decode_raw, encode_raw),
    _EXTENSIONS + "v1beta1.JSON": (decode_raw, encode_raw),
    "k8s.io.apimachinery.pkg.api.resource.Quantity": (decode_quantity, encode_quantity),
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": (decode_int_or_string, encode_int_or_string),
}

# Messages that only wrap a list of texts, and are that list in JSON.
LISTS = ("ExtraValue", "Verbs")

# "A schema, or something simpler": message to the number and shape of the simpler thing.
ALTERNATIVES = {
    "JSONSchemaPropsOrBool": "bool",
    "JSONSchemaPropsOrArray": "schemas",
    "JSONSchemaPropsOrStringArray": "texts",
}

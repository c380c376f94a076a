"""Timestamps and durations of CEL: reading, writing, and the parts of them.

Source: the CEL language definition ("Abstract types", the list of standard definitions); texts are those of RFC 3339
and of Go's ``time.ParseDuration``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bamikube.api.cel.types import CelError, Duration, NoOverload, Timestamp

SECOND = 1_000_000_000
LONGEST_NUMBER = 19  # digits of a part of a duration; what is longer is more than any duration holds
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))\Z"
)
_MIN = -62135596800 * SECOND  # 0001-01-01T00:00:00Z
_MAX = 253402300800 * SECOND  # the end of 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(nanos: int) -> Timestamp:
    """Raises CelError outside of the years 1 to 9999."""
    if _MIN <= nanos < _MAX:
        return Timestamp(nanos)
    raise CelError("timestamp overflow")


def span(nanos: int) -> Duration:
    if -(2**63) <= nanos < 2**63:
        return Duration(nanos)
    raise CelError("integer overflow")


def parse_timestamp(text: str) -> Timestamp:
    match = _RFC3339.match(text)
    if match is None:
        raise CelError(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        )
    *numbers, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime(*map(int, numbers), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        raise CelError(f'parsing time "{text}": out of range') from None
    seconds = int((moment - _EPOCH) / timedelta(seconds=1))
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += -offset if sign == "+" else offset
    return timestamp(seconds * SECOND + int((fraction or "").ljust(9, "0")))


def parse_duration(text: str) -> Duration:
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None:
            break
        whole, _, part = match.group(1).partition(".")
        unit = _UNITS[match.group(2)]
        if len(whole) > LONGEST_NUMBER:
            break
        total += int(whole or "0") * unit
        if part:
            total += int(part[:18]) * unit // 10 ** len(part[:18])
        at = match.end()
    if not rest or at < len(rest):
        raise CelError(f'time: invalid duration "{text}"')
    return span(sign * total)


def duration_text(value: Duration) -> str:
    """Seconds with as many decimals as needed: ``90s``, ``1.5s``."""
    whole, part = divmod(abs(value.nanos), SECOND)
    text = f"{whole}.{part:09d}".rstrip("0") if part else str(whole)
    return ("-" if value.nanos < 0 else "") + text + "s"


def timestamp_text(value: Timestamp) -> str:
    seconds, part = divmod(value.nanos, SECOND)
    moment = _EPOCH + timedelta(seconds=seconds)
    fraction = f".{part:09d}".rstrip("0") if part else ""
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}Z"


def _zone(name: str) -> tzinfo:
    """A zone by name (``Europe/Berlin``) or offset (``+01:00``)."""
    offset = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name)
    if offset:
        delta = timedelta(hours=int(offset.group(2)), minutes=int(offset.group(3)))
        return timezone(-delta if offset.group(1) == "-" else delta)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CelError(f"unknown time zone {name}") from None


def _local(value: Timestamp, zone: str) -> datetime:
    moment = _EPOCH + timedelta(seconds=value.nanos // SECOND)
    return moment.astimezone(_zone(zone)) if zone and zone != "UTC" else moment


def part(function: str, value: Timestamp | Duration, zone: str = "") -> int:
    """What ``getFullYear``, ``getHours`` and their like return."""
    if isinstance(value, Duration):
        unit = {
            "getHours": 3600 * SECOND,
            "getMinutes": 60 * SECOND,
            "getSeconds": SECOND,
            "getMilliseconds": 1_000_000,
        }
        if function not in unit:
            raise NoOverload(function)
        whole = abs(value.nanos) // unit[function]
        return -whole if value.nanos < 0 else whole
    if not isinstance(value, Timestamp):
        raise NoOverload(function)
    moment = _local(value, zone)
    match function:
        case "getFullYear":
            return moment.year
        case "getMonth":
            return moment.month - 1
        case "getDayOfYear":
            return moment.timetuple().tm_yday - 1
        case "getDayOfMonth":
            return moment.day - 1
        case "getDate":
            return moment.day
        case "getDayOfWeek":
            return moment.isoweekday() % 7
        case "getHours":
            return moment.hour
        case "getMinutes":
            return moment.minute
        case "getSeconds":
            return moment.second
        case "getMilliseconds":
            return value.nanos % SECOND // 1_000_000
    raise NoOverload(function)


PARTS = (
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
)

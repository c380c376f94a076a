"""Is this a schedule, and is this a time zone?

The form is robfig/cron's: five fields, names of months and days, macros. Source: the API reference (CronJob).
"""

from __future__ import annotations

import re
import zoneinfo

from bamikube.api.errors import Cause
from bamikube.api.memory import remembered
from bamikube.api.numbers import whole
from bamikube.api.validation.rules import invalid, required

_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_CRON_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)
_EVERY = re.compile(r"@every ([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+")


def _cron_number(text: str, names: list[str], low: int) -> int | None:
    if text.lower() in names:
        return names.index(text.lower()) + low
    return whole(text)


def _cron_field(text: str, low: int, high: int, names: list[str]) -> str:
    """What is wrong with one field of a schedule; "" when nothing is."""
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and not whole(step):
            return f"step of range should be a positive number: {part}"
        if span in ("*", "?"):
            continue
        first, dash, last = span.partition("-")
        start = _cron_number(first, names, low)
        end = _cron_number(last, names, low) if dash else start
        if start is None or end is None:
            return f"failed to parse int from {first if start is None else last}"
        if start < low:
            return f"beginning of range ({start}) below minimum ({low}): {part}"
        if end > high:
            return f"end of range ({end}) above maximum ({high}): {part}"
        if start > end:
            return f"beginning of range ({start}) beyond end of range ({end}): {part}"
    return ""


def schedule(field: str, text: str, *, zoned: bool = False) -> list[Cause]:
    """A cron schedule: five fields, a macro such as ``@daily``, or ``@every 1h30m``."""
    if not text:
        return [required(field)]
    if "TZ" in text:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        if zoned:
            detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        return [invalid(field, text, detail)]
    if text.startswith("@"):
        known = text in _MACROS or _EVERY.fullmatch(text)
        return [] if known else [invalid(field, text, f"unrecognized descriptor: {text}")]
    parts = text.split()
    if len(parts) != len(_CRON_FIELDS):
        return [invalid(field, text, f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]")]
    wrong = [
        _cron_field(part, low, high, names)
        for part, (_, low, high, names) in zip(parts, _CRON_FIELDS, strict=True)
    ]
    return [invalid(field, text, message) for message in wrong if message][:1]


@remembered(1024)
def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def time_zone(field: str, name: str | None) -> list[Cause]:
    """A name of the IANA time zone database."""
    if name is None:
        return []
    if not name:
        return [invalid(field, name, "timeZone must be nil or non-empty string")]
    if name.lower() == "local":
        detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid(field, name, detail)]
    return [] if _is_zone(name) else [invalid(field, name, f"unknown time zone {name}")]

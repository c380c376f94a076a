"""Durations as Go prints them, which is how they stand in Kubernetes' messages: ``512ms``, ``1m20s``, ``5m0s``."""

from __future__ import annotations

import re

_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|h|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}


def seconds(text: str) -> float:
    """The value of ``12h0m0s``, ``1.5s`` or ``0``. Raises ValueError."""
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; give for example 10m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def go(seconds: float, *, digits: int = 3) -> str:
    """``seconds``, cut off (not rounded) after that many digits of a second: 3 for milliseconds."""
    units = int(seconds * 10**digits + 1e-6) * 10 ** (9 - digits)
    if units == 0:
        return "0s"
    for limit, scale, unit in ((1_000, 1, "ns"), (1_000_000, 1_000, "µs"), (1_000_000_000, 1_000_000, "ms")):
        if units < limit:
            return f"{_decimal(units, scale)}{unit}"
    whole, rest = divmod(units, 1_000_000_000)
    hours, minutes = whole // 3600, whole // 60 % 60
    text = f"{_decimal(whole % 60 * 1_000_000_000 + rest, 1_000_000_000)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, scale: int) -> str:
    whole, rest = divmod(value, scale)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(scale)) - 1, '0').rstrip('0')}"

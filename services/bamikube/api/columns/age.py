"""How long ago, as people read it: two units at most, fewer the longer it is.

``59s``, ``2m5s``, ``15m``, ``3h10m``, ``26h``, ``2d4h``, ``30d``, ``2y15d``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bamikube.api.memory import remembered

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
UNKNOWN = "<unknown>"


def _pair(whole: int, unit: str, rest: int, small: str) -> str:
    return f"{whole}{unit}{rest}{small}" if rest else f"{whole}{unit}"


def human(seconds: float) -> str:
    """A duration in seconds for a table."""
    total = int(seconds)
    if total < -1:
        return "<invalid>"
    if total < 0:
        return "0s"
    minutes, hours, days = total // _MINUTE, total // _HOUR, total // _DAY
    if total < 2 * _MINUTE:
        return f"{total}s"
    if minutes < 10:
        return _pair(minutes, "m", total % _MINUTE, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if total < 2 * _YEAR:
        return f"{days}d"
    if total < 8 * _YEAR:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


@remembered(4096)
def seconds_of(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None when it is not one."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def since(text: str | None, now: float) -> str:
    """The age of a moment given in RFC 3339; ``<unknown>`` without one."""
    moment = seconds_of(text) if text else None
    return UNKNOWN if moment is None else human(now - moment)


def of(obj: dict[str, Any], now: float) -> str:
    """The age of an object."""
    return since((obj.get("metadata") or {}).get("creationTimestamp"), now)

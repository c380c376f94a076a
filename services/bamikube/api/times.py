"""Times in objects, read as seconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def seconds(text: str | None) -> float:
    """Seconds since the epoch of a ``Time`` or ``MicroTime``; 0.0 when there is none or it cannot be read."""
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def stamp(timestamp: float) -> str:
    """``metav1.Time`` of seconds since the epoch."""
    return datetime.fromtimestamp(int(timestamp), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

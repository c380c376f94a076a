"""Conditions in a status: finding one and setting one without moving its transition time for nothing."""

from __future__ import annotations

from typing import Any


def find(obj: dict[str, Any], type: str) -> dict[str, Any] | None:
    """The condition of that type in ``obj.status.conditions``."""
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition.get("type") == type:
            found: dict[str, Any] = condition
            return found
    return None


def is_true(obj: dict[str, Any], type: str) -> bool:
    condition = find(obj, type)
    return condition is not None and condition.get("status") == "True"


def put(conditions: list[dict[str, Any]], new: dict[str, Any], now: str) -> list[dict[str, Any]]:
    """``conditions`` with ``new`` in the place of its type. ``lastTransitionTime`` moves only when the status does."""
    result = []
    placed = False
    for old in conditions:
        if old.get("type") != new["type"]:
            result.append(old)
            continue
        since = old.get("lastTransitionTime", now) if old.get("status") == new["status"] else now
        result.append(new | {"lastTransitionTime": since})
        placed = True
    if not placed:
        result.append(new | {"lastTransitionTime": now})
    return result

"""Printer columns of a custom resource: what ``kubectl get`` shows.

The name comes first; then the columns of the version's ``additionalPrinterColumns``, or the age when it has none. A
cell takes the first value its path finds, and only a value of the column's type: ``date`` is shown as an age.

Source: Kubernetes' CustomResourceDefinition page, "Additional printer columns".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from bamikube.api.columns import age
from bamikube.api.columns.model import NAME, Printer, name
from bamikube.api.custom import jsonpath

Cell = Callable[[Any, float], Any]

_AGE = {
    "name": "Age",
    "type": "date",
    "jsonPath": ".metadata.creationTimestamp",
    "description": "CreationTimestamp is a timestamp representing the server time when this object was created. "
    "It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. "
    "It is represented in RFC3339 form and is in UTC.",
}


def _text(value: Any, now: float) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _whole(value: Any, now: float) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _number(value: Any, now: float) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _flag(value: Any, now: float) -> bool | None:
    return value if isinstance(value, bool) else None


def _date(value: Any, now: float) -> str | None:
    if not isinstance(value, str):
        return None
    return "<invalid>" if age.seconds_of(value) is None else age.since(value, now)


_CELLS: dict[str, Cell] = {
    "string": _text,
    "integer": _whole,
    "number": _number,
    "boolean": _flag,
    "date": _date,
}


def printer(columns: list[dict[str, Any]] | None) -> Printer:
    """The printer of a version. Paths have been checked when the definition was accepted."""
    columns = columns or [_AGE]
    shown = tuple(
        {
            "name": each["name"],
            "type": each["type"],
            "format": each.get("format") or "",
            "description": each.get("description")
            or f"Custom resource definition column (in JSONPath format): {each['jsonPath']}",
            "priority": each.get("priority") or 0,
        }
        for each in columns
    )
    readers = [(jsonpath.parse(each["jsonPath"]), _CELLS[each["type"]]) for each in columns]

    def cells(obj: dict[str, Any], now: float) -> list[Any]:
        row: list[Any] = [name(obj)]
        for steps, cell in readers:
            found = jsonpath.find(steps, obj)
            row.append(cell(found[0], now) if found and found[0] is not None else None)
        return row

    return Printer((NAME, *shown), cells)

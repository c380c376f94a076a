"""What a printer is: definitions of columns, and a function from an object to cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NONE = "<none>"
UNSET = "<unset>"

Cells = Callable[[dict[str, Any], float], list[Any]]


def column(
    name: str, kind: str = "string", *, wide: bool = False, form: str = "", about: str = ""
) -> dict[str, Any]:
    """A ``TableColumnDefinition``. Wide columns have priority 1: shown with ``-o wide`` only."""
    return {"name": name, "type": kind, "format": form, "description": about, "priority": int(wide)}


NAME = column("Name", form="name", about="Name of the object, unique within its namespace.")
AGE = column("Age", about="Time since the object was created.")
CREATED = column("Created At", form="date", about="When the object was created.")
CONTAINERS = column("Containers", wide=True, about="Names of the containers in the template.")
IMAGES = column("Images", wide=True, about="Images of the containers in the template.")
SELECTOR = column("Selector", wide=True, about="Which pods belong to the object.")


@dataclass(frozen=True, slots=True)
class Printer:
    """The columns of a kind, and its cells for an object at a moment (seconds since the epoch)."""

    columns: tuple[dict[str, Any], ...]
    cells: Cells


def name(obj: dict[str, Any]) -> str:
    return str((obj.get("metadata") or {}).get("name") or "")


def created(obj: dict[str, Any]) -> Any:
    return (obj.get("metadata") or {}).get("creationTimestamp")


def containers(obj: dict[str, Any]) -> tuple[str, str]:
    """Names and images of a template's containers, joined by commas."""
    template = (obj.get("spec") or {}).get("template") or obj.get("template") or {}
    listed = (template.get("spec") or {}).get("containers") or []
    return ",".join(each.get("name") or "" for each in listed), ",".join(
        each.get("image") or "" for each in listed
    )


def label_text(labels: dict[str, str] | None, empty: str = NONE) -> str:
    """``a=1,b=2``, sorted."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else empty


def selector_text(selector: dict[str, Any] | None) -> str:
    """A label selector on one line."""
    if selector is None:
        return NONE
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        key, operator, values = (
            each.get("key", ""),
            each.get("operator"),
            ",".join(sorted(each.get("values") or ())),
        )
        if operator == "In":
            parts.append(f"{key} in ({values})")
        elif operator == "NotIn":
            parts.append(f"{key} notin ({values})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(sorted(parts)) or NONE


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition of a type in an object's status."""
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == kind:
            found: dict[str, Any] = each
            return found
    return None

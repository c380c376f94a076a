"""What a printer is: definitions of columns, and a function from an object to cells."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api.schema.source import definition, definition_names

NONE = "<none>"
UNSET = "<unset>"

Cells = Callable[[dict[str, Any], float], list[Any]]


def column(
    name: str, kind: str = "string", *, wide: bool = False, form: str = "", about: str = ""
) -> dict[str, Any]:
    """A ``TableColumnDefinition``. Wide columns have priority 1: shown with ``-o wide`` only.

    ``about`` is its description, or ``=core.v1.PodSpec.nodeName``: what the API's documentation says of that field.
    """
    return {"name": name, "type": kind, "format": form, "description": about, "priority": int(wide)}


NAME = column("Name", form="name", about="=meta.v1.ObjectMeta.name")
AGE = column("Age", about="=meta.v1.ObjectMeta.creationTimestamp")
CREATED = column("Created At", "date", about="=meta.v1.ObjectMeta.creationTimestamp")
CONTAINERS = column("Containers", wide=True, about="Names of each container in the template.")
IMAGES = column("Images", wide=True, about="Images referenced by each container in the template.")


@dataclass(frozen=True, slots=True)
class Printer:
    """The columns of a kind, and its cells for an object at a moment (seconds since the epoch).

    ``order``: the rows of a list are sorted by it.
    """

    columns: tuple[dict[str, Any], ...]
    cells: Cells
    order: Callable[[dict[str, Any]], Any] | None = None


def documented(column: dict[str, Any]) -> dict[str, Any]:
    """A copy of the definition, its description written out."""
    about = column["description"]
    return {**column, "description": _documentation(about[1:])} if about.startswith("=") else dict(column)


@functools.cache
def _documentation(field: str) -> str:
    struct, _, name = field.rpartition(".")
    for full in definition_names():
        if full.endswith(f".{struct}"):
            return str(definition(full)["properties"][name].get("description", ""))
    raise KeyError(field)


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


def selector_text(selector: dict[str, Any] | None, empty: str = NONE) -> str:
    """A label selector on one line, sorted by key; ``empty`` when it selects nothing or everything."""
    if selector is None:
        return empty
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        key, operator, values = (
            each.get("key", ""),
            each.get("operator"),
            ",".join(sorted(each.get("values") or ())),
        )
        if operator == "In":
            parts.append((key, f"{key} in ({values})"))
        elif operator == "NotIn":
            parts.append((key, f"{key} notin ({values})"))
        else:
            parts.append((key, key if operator == "Exists" else f"!{key}"))
    return ",".join(text for _, text in sorted(parts, key=lambda part: part[0])) or empty


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition of a type in an object's status."""
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == kind:
            found: dict[str, Any] = each
            return found
    return None

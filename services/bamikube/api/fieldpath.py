"""Paths to fields, in the two notations Kubernetes uses.

*Errors* name the field that is wrong: ``spec.containers[0].ports[1].name``, ``metadata.labels[app]``. A
:class:`Path` builds those cheaply: children are made while walking down, text only when somebody asks.

*The downward API* asks for a value: ``metadata.name``, ``metadata.labels['app.kubernetes.io/name']``.
:func:`extract` answers it, :func:`subscript` takes such a path apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SUBSCRIPT = re.compile(r"([^\[]+)\['(.*)'\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Path:
    """A field: its parent and the last step."""

    parent: Path | None = None
    step: str = ""

    def child(self, *names: str) -> Path:
        """The field ``name`` below this one, and so on."""
        path = self
        for name in names:
            path = Path(path, f".{name}")
        return path

    def index(self, number: int) -> Path:
        """An element of a list."""
        return Path(self, f"[{number}]")

    def key(self, key: str) -> Path:
        """A value of a map."""
        return Path(self, f"[{key}]")

    def __str__(self) -> str:
        steps: list[str] = []
        path: Path | None = self
        while path is not None:
            steps.append(path.step)
            path = path.parent
        return "".join(reversed(steps)).removeprefix(".")


ROOT = Path()


def subscript(path: str) -> tuple[str, str | None]:
    """``metadata.labels['app']`` is ``("metadata.labels", "app")``; a path without subscript has ``None``."""
    match = _SUBSCRIPT.fullmatch(path)
    return (match[1], match[2]) if match else (path, None)


def escape(value: str) -> str:
    """One line of the downward API's ``key="value"`` files: quoted as Go's ``strconv.Quote`` does."""
    plain = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(plain.get(character, character) for character in value) + '"'


def format_map(values: Mapping[str, str]) -> str:
    """All labels or annotations, a sorted line for each, as the downward API writes them into a file."""
    return "\n".join(f"{key}={escape(values[key])}" for key in sorted(values))


def extract(obj: Mapping[str, Any], path: str) -> str:
    """The text of a metadata field for the downward API; missing labels and annotations are the empty text.

    Raises ``ValueError`` for a path that the downward API does not offer.
    """
    metadata: Mapping[str, Any] = obj.get("metadata") or {}
    where, key = subscript(path)
    if where in ("metadata.labels", "metadata.annotations"):
        values: Mapping[str, str] = metadata.get(where.removeprefix("metadata.")) or {}
        return format_map(values) if key is None else values.get(key, "")
    if key is None and where in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(metadata.get(where.removeprefix("metadata."), ""))
    raise ValueError(f"unsupported fieldPath: {path}")

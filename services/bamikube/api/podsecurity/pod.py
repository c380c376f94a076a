"""A pod as the checks see it, and how they speak of its containers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Object = dict[str, Any]


class Pod:
    """Metadata and spec of a pod, or of a template of pods. ``containers`` are all of them, in the order of messages."""

    __slots__ = ("annotations", "containers", "context", "spec", "windows")

    def __init__(self, metadata: Mapping[str, Any], spec: Object) -> None:
        self.spec = spec
        self.annotations: Mapping[str, str] = metadata.get("annotations") or {}
        self.context: Object = spec.get("securityContext") or {}
        self.containers: list[Object] = [
            *(spec.get("initContainers") or ()),
            *(spec.get("containers") or ()),
            *(spec.get("ephemeralContainers") or ()),
        ]
        self.windows = (spec.get("os") or {}).get("name") == "windows"


def context_of(container: Object) -> Object:
    context: Object = container.get("securityContext") or {}
    return context


def quoted(words: Iterable[str]) -> str:
    """``"a", "b"``."""
    return ", ".join(f'"{word}"' for word in words)


def plural(one: str, many: str, things: Sequence[Any]) -> str:
    return one if len(things) == 1 else many


def named(containers: Sequence[Object]) -> str:
    """``container "a"``, ``containers "a", "b"``."""
    names = quoted(str(one.get("name", "")) for one in containers)
    return f"{plural('container', 'containers', containers)} {names}"


def setters(pod: bool, containers: Sequence[Object]) -> str:
    """``pod and containers "a", "b"``; "" when nobody set anything."""
    parts = ["pod"] if pod else []
    if containers:
        parts.append(named(containers))
    return " and ".join(parts)

"""Warnings: an object is accepted, and its author should know something about it.

What is deprecated, what has no effect, what will surprise. ``on_create`` and ``on_update`` answer with the texts; they
look at an object that is already valid. Most kinds have nothing to say, and then nothing is looked at. Source:
KEP-1693; the texts are those people know from Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bamikube.api.resources import Resource
from bamikube.api.warnings import kinds, pods

# Given the object and, on update, its predecessor.
Warn = Callable[[dict[str, Any], "dict[str, Any] | None"], list[str]]

_WARN: dict[tuple[str, str], Warn] = {**kinds.WARN, **pods.WARN}


def on_create(resource: Resource, obj: dict[str, Any]) -> list[str]:
    """What the author of a new object should know."""
    warn = _WARN.get(resource.key)
    return warn(obj, None) if warn is not None else []


def on_update(resource: Resource, new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """What the author of a change should know."""
    warn = _WARN.get(resource.key)
    return warn(new, old) if warn is not None else []


def has(resource: Resource) -> bool:
    """Whether the kind ever warns."""
    return resource.key in _WARN

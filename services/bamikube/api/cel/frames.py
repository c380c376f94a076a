"""One run of an expression: the variables it sees, what it has spent, and how values are looked into.

Selecting (``a.b``, ``has(a.b)``, ``a.?b``, ``a[?b]``) is here as well, since lazy objects are filled while an expression
runs and spend from its budget.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from bamikube.api.cel import operators
from bamikube.api.cel.types import ABSENT, CelError, NoOverload, Optional, Uint

UNLIMITED = 1 << 62
MISSING = object()  # where None is a value


class Frame:
    """One evaluation: ``vars`` by name, ``cost`` so far, and the ``limit`` it must not pass."""

    __slots__ = ("cost", "limit", "vars")

    def __init__(self, variables: dict[str, Any], limit: int = UNLIMITED) -> None:
        self.vars = variables
        self.cost = 0
        self.limit = limit


Eval = Callable[[Frame], Any]


class Lazy(abc.ABC):
    """An object whose fields are worked out when they are first looked at (``variables`` of a policy)."""

    __slots__ = ()

    @abc.abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is such a field."""

    @abc.abstractmethod
    def field(self, frame: Frame, name: str) -> Any:
        """Its value. Raises CelError when there is no such field."""


def select(value: Any, field: str, frame: Frame) -> Any:
    """``value.field``. Raises CelError."""
    if isinstance(value, dict):
        found = value.get(field, MISSING)
        if found is MISSING:
            raise CelError(f"no such key: {field}")
        return found
    if isinstance(value, Lazy):
        return value.field(frame, field)
    if type(value) is Optional:
        return optional_select(value, field, frame)
    raise NoOverload()


def has(value: Any, field: str) -> bool:
    if isinstance(value, dict):
        return field in value
    if isinstance(value, Lazy):
        return value.has(field)
    if type(value) is Optional:
        return value.present and has(value.value, field)
    raise NoOverload()


def optional_select(value: Any, field: str, frame: Frame) -> Optional:
    if type(value) is Optional:
        if not value.present:
            return ABSENT
        value = value.value
    return Optional(True, select(value, field, frame)) if has(value, field) else ABSENT


def optional_index(value: Any, key: Any) -> Optional:
    if type(value) is Optional:
        if not value.present:
            return ABSENT
        value = value.value
    if isinstance(value, dict):
        found, item = operators.find_key(value, key)
        return Optional(True, item) if found else ABSENT
    if isinstance(value, list):
        if type(key) not in (int, Uint):
            raise NoOverload("_[?_]")
        return Optional(True, value[key]) if 0 <= key < len(value) else ABSENT
    raise NoOverload("_[?_]")

"""Types of CEL expressions, as the checker finds them, and the values that JSON has no form for.

A type is a small frozen value: ``Type("list", (Type("int"),))``, ``Type("object", name="Widget.spec")``. Values are
plain Python where CEL and JSON agree (``str``, ``bool``, ``int`` for int, ``float`` for double, ``bytes``, ``None``,
``list``, ``dict``); the rest are the classes below.

Source: the CEL language definition ("Values").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Type:
    """``kind``: dyn, null, bool, int, uint, double, string, bytes, timestamp, duration, list, map, object, opaque,
    type, error. ``params`` are element, key and value types; ``name`` is that of an object or opaque type."""

    kind: str
    params: tuple[Type, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        if self.kind in ("object", "opaque"):
            inner = f"({', '.join(map(str, self.params))})" if self.params else ""
            return self.name + inner
        return f"{self.kind}({', '.join(map(str, self.params))})" if self.params else self.kind


DYN = Type("dyn")
NULL = Type("null")
BOOL = Type("bool")
INT = Type("int")
UINT = Type("uint")
DOUBLE = Type("double")
STRING = Type("string")
BYTES = Type("bytes")
TIMESTAMP = Type("timestamp")
DURATION = Type("duration")


def list_of(item: Type) -> Type:
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def opaque(name: str, *params: Type) -> Type:
    return Type("opaque", params, name)


class Uint(int):
    """An unsigned integer of 64 bits."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of time in nanoseconds."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment, in nanoseconds since 1970-01-01T00:00:00Z."""

    nanos: int


class Optional:
    """A value that may be missing: the outcome of ``a.?b``."""

    __slots__ = ("present", "value")

    def __init__(self, present: bool, value: Any = None) -> None:
        self.present = present
        self.value = value


ABSENT = Optional(False)


@dataclass(frozen=True, slots=True)
class TypeValue:
    """What ``type(x)`` returns."""

    name: str


class SetList(list[Any]):
    """A list of ``x-kubernetes-list-type: set``: equal whatever the order, ``+`` is the union."""

    __slots__ = ()


class MapList(list[Any]):
    """A list of ``x-kubernetes-list-type: map``: equal whatever the order, ``+`` replaces by key.

    ``keys`` are the fields whose values tell the elements apart.
    """

    __slots__ = ("keys",)

    def __init__(self, items: Any, keys: tuple[str, ...]) -> None:
        super().__init__(items)
        self.keys = keys

    def key(self, item: Any) -> tuple[Any, ...]:
        return tuple(item.get(name) if isinstance(item, dict) else None for name in self.keys)


class Struct(dict[str, Any]):
    """A message made by an expression (``Object.spec{replicas: 1}``, ``JSONPatch{...}``); ``name`` is its type."""

    __slots__ = ("name",)

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.name = name


class CelError(Exception):
    """An evaluation that failed; logical operators may absorb it."""


class NoOverload(CelError):
    """A function was given types it does not take."""

    def __init__(self, function: str = "") -> None:
        super().__init__("no such overload" + (f": {function}" if function else ""))


class BudgetExceeded(Exception):
    """The evaluation cost more than it may. Nothing absorbs it."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class CompileError(Exception):
    """The expression does not parse or does not fit its types. The text is what Kubernetes prints after
    ``compilation failed:``."""

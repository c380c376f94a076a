"""What a function of CEL is here: its declarations for the checker, its Python, and what a call costs.

``declare`` reads a line as the documentation writes them::

    quantity(string) -> Quantity            a function
    Quantity.isGreaterThan(Quantity) -> bool    a member

The values that Kubernetes adds are small immutable classes; ``type_name`` is what ``type(x)`` says of them, ``text``
what ``string(x)`` gives. Source: "Common Expression Language in Kubernetes", Kubernetes CEL libraries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bamikube.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    CelError,
    NoOverload,
    Type,
    list_of,
    map_of,
)

STRING_FACTOR = 0.1  # cost of walking over one character
REGEX_FACTOR = 0.25  # cost of one character of a pattern, per unit of text

# (arguments, result) -> what the call cost, beside its arguments
CostRule = Callable[[tuple[Any, ...], Any], int]


@dataclass(frozen=True, slots=True)
class Function:
    """``call`` takes the target first. ``cost`` None: 1."""

    call: Callable[..., Any]
    cost: CostRule | None = None


@dataclass(frozen=True, slots=True)
class Declaration:
    """One overload for the checker."""

    name: str
    overload: str
    params: tuple[Type, ...]
    result: Type
    member: bool


QUANTITY = Type("object", (), "kubernetes.Quantity")
IP = Type("object", (), "net.IP")
CIDR = Type("object", (), "net.CIDR")
URL = Type("object", (), "kubernetes.URL")
FORMAT = Type("object", (), "kubernetes.NamedFormat")
SEMVER = Type("object", (), "kubernetes.Semver")
AUTHORIZER = Type("object", (), "kubernetes.authorization.Authorizer")
PATH_CHECK = Type("object", (), "kubernetes.authorization.PathCheck")
GROUP_CHECK = Type("object", (), "kubernetes.authorization.GroupCheck")
RESOURCE_CHECK = Type("object", (), "kubernetes.authorization.ResourceCheck")
DECISION = Type("object", (), "kubernetes.authorization.Decision")
OPAQUE = (
    QUANTITY,
    IP,
    CIDR,
    URL,
    FORMAT,
    SEMVER,
    AUTHORIZER,
    PATH_CHECK,
    GROUP_CHECK,
    RESOURCE_CHECK,
    DECISION,
)

_SIMPLE: dict[str, Type] = {
    "bool": BOOL,
    "bytes": BYTES,
    "double": DOUBLE,
    "duration": DURATION,
    "dyn": DYN,
    "int": INT,
    "string": STRING,
    "timestamp": TIMESTAMP,
    "uint": UINT,
    "list": list_of(DYN),
    "map": map_of(DYN, DYN),
    **{each.name.rpartition(".")[2]: each for each in OPAQUE},
}


def _type(text: str) -> Type:
    if text.startswith("list<"):
        return list_of(_type(text[5:-1]))
    if text.startswith("optional<"):
        return Type("opaque", (_type(text[9:-1]),), "optional_type")
    return _SIMPLE[text]


def declare(lines: Iterable[str]) -> list[Declaration]:
    """The declarations of lines; an overload's id is made of its types, as ``string_to_quantity`` would be."""
    declared = []
    for line in lines:
        head, _, result = line.partition(" -> ")
        before, _, params = head.removesuffix(")").partition("(")
        target, dot, name = before.rpartition(".")
        types = [_type(each) for each in params.split(", ") if each]
        member = bool(dot) and (target in _SIMPLE or "<" in target)
        if member:
            types.insert(0, _type(target))
        else:
            name = before
        words = "_".join(re.sub(r"\W+", "_", str(each)).strip("_") for each in types)
        declared.append(
            Declaration(name, f"{name}_{words}".replace(".", "_"), tuple(types), _type(result), member)
        )
    return declared


def a_string(value: Any) -> str:
    """``value`` when it is a string. Raises NoOverload."""
    if type(value) is not str:
        raise NoOverload()
    return value


def succeeds(call: Callable[..., Any]) -> Callable[..., bool]:
    """``isX`` of ``x``: whether it would not fail."""

    def test(*args: Any) -> bool:
        try:
            call(*args)
        except CelError as error:
            if isinstance(error, NoOverload):
                raise
            return False
        return True

    return test


def length(value: Any) -> int:
    """The size that costs are counted in: characters, elements, entries; 1 for anything else."""
    return len(value) if isinstance(value, (str, bytes, list, dict)) else 1


def walk(factor: float = STRING_FACTOR, argument: int = 0) -> CostRule:
    """The cost of walking over one argument."""
    return lambda args, result: math.ceil(length(args[argument]) * factor)


def traversal(value: Any) -> int:
    """The cost of looking at all of a value."""
    if isinstance(value, (str, bytes)):
        return int(len(value) * STRING_FACTOR)
    if isinstance(value, list):
        return sum(map(traversal, value))
    if isinstance(value, dict):
        return sum(traversal(key) + traversal(each) for key, each in value.items())
    return 1


def pattern_cost(args: tuple[Any, ...], result: Any) -> int:
    return math.ceil((1 + length(args[0])) * STRING_FACTOR) * math.ceil(length(args[1]) * REGEX_FACTOR)

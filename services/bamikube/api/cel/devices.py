"""Expressions that choose devices, judged when a class or a claim is written.

They know one variable::

    device.driver                                  "gpu.example.com"
    device.attributes["gpu.example.com"].memory    a bool, an int, a text or a version
    device.capacity["gpu.example.com"].memory      a quantity

and may give a name to a part: ``cel.bind(gpu, device.attributes["gpu.example.com"], gpu.fast && gpu.large)``.

What they may cost is bounded by how much a device may tell: 32 attributes and capacities, keys of 63 (domain) and 32
(identifier) characters, texts of 64.

Source: Kubernetes' "Dynamic Resource Allocation", KEP-4381.
"""

from __future__ import annotations

import functools

from bamikube.api.cel.cost import estimate
from bamikube.api.cel.environment import Environment, ObjectType
from bamikube.api.cel.functions.model import QUANTITY
from bamikube.api.cel.schemas import Decl
from bamikube.api.cel.types import BOOL, DYN, STRING, CompileError, Type, map_of
from bamikube.api.errors import Cause
from bamikube.api.validation.rules import forbidden, invalid, too_long

LONGEST = 10 * 1024  # bytes of an expression
DEAREST = 1_000_000
MOST = 32  # attributes and capacities of a device

_DEVICE = Type("object", (), "kubernetes.DRADevice")
_DOMAIN, _NAME = Decl(STRING, 63), Decl(STRING, 32)


def _by_domain(value: Decl) -> Decl:
    named = Decl(map_of(STRING, value.type), MOST, item=value, key=_NAME)
    return Decl(map_of(STRING, named.type), MOST, item=named, key=_DOMAIN)


_FIELDS = {
    "driver": Decl(STRING, 63),
    "attributes": _by_domain(Decl(DYN, 64)),
    "capacity": _by_domain(Decl(QUANTITY)),
}
_DECL = Decl(_DEVICE, fields=_FIELDS)


@functools.cache
def _environment() -> Environment:
    fields = {name: decl.type for name, decl in _FIELDS.items()}
    return Environment({"device": _DEVICE}, (ObjectType(_DEVICE.name, fields),), bind=True)


@functools.lru_cache(maxsize=256)
def _fault(expression: str) -> tuple[str, bool]:
    """What is wrong with an expression, "" when nothing; and whether it is the cost."""
    try:
        program = _environment().compile(expression)
    except CompileError as error:
        return f"compilation failed: {error}", False
    if program.type not in (BOOL, DYN):
        return f"must evaluate to bool or the unknown type, not {program.type}", False
    if estimate(program.checked, {"device": _DECL}).most > DEAREST:
        return "too complex, exceeds cost limit", True
    return "", False


def selector_faults(field: str, expression: str) -> list[Cause]:
    """What is wrong with the expression of a selector, which stands at ``field``."""
    if len(expression.encode(errors="replace")) > LONGEST:
        return [too_long(field, LONGEST)]
    fault, dear = _fault(expression)
    if not fault:
        return []
    return [forbidden(field, fault) if dear else invalid(field, expression, fault)]

"""The operators with what they cost, as the compiler takes them.

None for a cost means one. ``+`` knows the list that a fold gathers in (:class:`Growing`) and appends to it instead of making a
copy for each element.

Source of costs: Kubernetes' "Resource constraints" of CEL.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bamikube.api.cel import operators
from bamikube.api.cel.functions.model import STRING_FACTOR, length
from bamikube.api.cel.types import NoOverload


class Growing(list[Any]):
    """The list that ``map`` and ``filter`` gather in: appended to instead of copied."""

    __slots__ = ()


def _add(left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int:
        total = left + right
        if operators.MIN_INT <= total <= operators.MAX_INT:
            return total
    if type(left) is Growing:
        if not isinstance(right, list):
            raise NoOverload("_+_")
        left.extend(right)
        return left
    return operators.add(left, right)


def _not(value: Any) -> bool:
    if value is True:
        return False
    if value is False:
        return True
    raise NoOverload("!_")


def _ordered(test: Callable[[int], bool]) -> Callable[[Any, Any], bool]:
    def call(left: Any, right: Any) -> bool:
        order = operators.compare(left, right)
        return order is not None and test(order)

    return call


def _compared(left: Any, right: Any) -> int:
    if type(left) is int or type(right) is int:
        return 1
    return math.ceil(min(length(left), length(right)) * STRING_FACTOR)


def _joined(left: Any, right: Any) -> int:
    kind = type(left)
    if kind is int:
        return 1
    return math.ceil((length(left) + length(right)) * STRING_FACTOR) if kind is str or kind is bytes else 1


Operator = tuple[Callable[..., Any], "Callable[[Any, Any], int] | None"]

OPERATORS: dict[str, Operator] = {
    "_==_": (operators.equal, _compared),
    "_!=_": (lambda left, right: not operators.equal(left, right), _compared),
    "_<_": (_ordered(lambda order: order < 0), _compared),
    "_<=_": (_ordered(lambda order: order <= 0), _compared),
    "_>_": (_ordered(lambda order: order > 0), _compared),
    "_>=_": (_ordered(lambda order: order >= 0), _compared),
    "_+_": (_add, _joined),
    "_-_": (operators.subtract, None),
    "_*_": (operators.multiply, None),
    "_/_": (operators.divide, None),
    "_%_": (operators.modulo, None),
    "-_": (operators.negate, None),
    "!_": (_not, None),
    "@in": (
        lambda item, items: operators.contains(items, item),
        lambda item, items: length(items) if isinstance(items, list) else 1,
    ),
}

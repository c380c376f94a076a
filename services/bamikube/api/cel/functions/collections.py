"""Functions on lists, sets and numbers.

Source: Kubernetes' "Common Expression Language in Kubernetes", list library; the CEL sets and math extensions.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from bamikube.api.cel import operators
from bamikube.api.cel.functions import strings
from bamikube.api.cel.functions.model import Declaration, Function, declare, traversal
from bamikube.api.cel.types import CelError, Duration, NoOverload, Uint


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise NoOverload()
    return value


def _is_sorted(items: Any) -> bool:
    checked = _list(items)
    return all((operators.compare(left, right) or 0) <= 0 for left, right in itertools.pairwise(checked))


def _sum(items: Any) -> Any:
    checked = _list(items)
    if not checked:
        return 0
    total = checked[0]
    if type(total) not in (int, Uint, float, Duration):
        raise NoOverload("sum")
    for each in checked[1:]:
        total = operators.add(total, each)
    return total


def _extreme(name: str, sign: int) -> Any:
    def call(items: Any) -> Any:
        checked = _list(items)
        if not checked:
            raise CelError(f"{name} called on empty list")
        best = checked[0]
        for each in checked[1:]:
            if (operators.compare(each, best) or 0) * sign > 0:
                best = each
        return best

    return call


def _index_of(items: Any, item: Any, *rest: int) -> int:
    if type(items) is str:
        return strings.index_of(items, item, *rest)
    return next((index for index, each in enumerate(_list(items)) if operators.equal(each, item)), -1)


def _last_index_of(items: Any, item: Any, *rest: int) -> int:
    if type(items) is str:
        return strings.last_index_of(items, item, *rest)
    checked = _list(items)
    return next(
        (index for index in range(len(checked) - 1, -1, -1) if operators.equal(checked[index], item)), -1
    )


def _contains_all(items: Any, wanted: Any) -> bool:
    there = _list(items)
    return all(operators.contains(there, each) for each in _list(wanted))


def _equivalent(left: Any, right: Any) -> bool:
    return _contains_all(left, right) and _contains_all(right, left)


def _intersects(left: Any, right: Any) -> bool:
    there = _list(right)
    return any(operators.contains(there, each) for each in _list(left))


def _pairs(args: tuple[Any, ...], result: Any) -> int:
    return max(1, len(args[0])) * max(1, len(args[1]))


def _greatest(name: str, sign: int) -> Any:
    def call(*values: Any) -> Any:
        numbers = list(values[0]) if len(values) == 1 and isinstance(values[0], list) else list(values)
        if not numbers or any(type(each) not in operators.NUMBERS for each in numbers):
            raise NoOverload(name)
        best = numbers[0]
        for each in numbers[1:]:
            if (operators.compare(each, best) or 0) * sign > 0:
                best = each
        return best

    return call


def _number(function: Any, *kinds: type) -> Any:
    def call(value: Any) -> Any:
        if type(value) not in kinds:
            raise NoOverload()
        return function(value)

    return call


def _abs(value: Any) -> Any:
    if type(value) not in operators.NUMBERS:
        raise NoOverload("math.abs")
    return operators.negate(value) if type(value) is not Uint and value < 0 else value


def _sign(value: Any) -> Any:
    if type(value) not in operators.NUMBERS:
        raise NoOverload("math.sign")
    return value if value != value else type(value)((value > 0) - (value < 0))


def _round(value: float) -> float:
    if math.isnan(value) or math.isinf(value):
        return value
    return math.copysign(math.floor(abs(value) + 0.5), value)


def _whole(function: Any) -> Any:
    return _number(
        lambda value: value if math.isinf(value) or math.isnan(value) else float(function(value)), float
    )


def _walked(args: tuple[Any, ...], result: Any) -> int:
    return traversal(args[0])


FUNCTIONS: dict[str, Function] = {
    "isSorted": Function(_is_sorted, _walked),
    "sum": Function(_sum, _walked),
    "min": Function(_extreme("min", -1), _walked),
    "max": Function(_extreme("max", 1), _walked),
    "indexOf": Function(_index_of, _walked),
    "lastIndexOf": Function(_last_index_of, _walked),
    "sets.contains": Function(_contains_all, _pairs),
    "sets.equivalent": Function(_equivalent, _pairs),
    "sets.intersects": Function(_intersects, _pairs),
    "math.@max": Function(_greatest("math.greatest", 1)),
    "math.@min": Function(_greatest("math.least", -1)),
    "math.abs": Function(_abs),
    "math.sign": Function(_sign),
    "math.ceil": Function(_whole(math.ceil)),
    "math.floor": Function(_whole(math.floor)),
    "math.round": Function(_number(_round, float)),
    "math.trunc": Function(_whole(math.trunc)),
    "math.isInf": Function(_number(math.isinf, float)),
    "math.isNaN": Function(_number(math.isnan, float)),
    "math.isFinite": Function(_number(math.isfinite, float)),
    "math.sqrt": Function(
        _number(lambda value: math.sqrt(value) if value >= 0 else math.nan, int, Uint, float)
    ),
}

_ORDERED = ("int", "uint", "double", "string", "bool", "bytes", "timestamp", "duration")
_NUMBERS = ("int", "uint", "double")
_SUMMED = ("int", "uint", "double", "duration")

DECLARED: list[Declaration] = declare(
    [
        *(f"list<{each}>.isSorted() -> bool" for each in _ORDERED),
        *(f"list<{each}>.sum() -> {each}" for each in _SUMMED),
        *(f"list<{each}>.{name}() -> {each}" for each in _ORDERED for name in ("min", "max")),
        "list.indexOf(dyn) -> int",
        "list.lastIndexOf(dyn) -> int",
        *(  # numbers of different kinds compare as numbers
            f"{operator}({left}, {right}) -> bool"
            for operator in ("_<_", "_<=_", "_>_", "_>=_")
            for left in _NUMBERS
            for right in _NUMBERS
            if left != right
        ),
        "sets.contains(list, list) -> bool",
        "sets.equivalent(list, list) -> bool",
        "sets.intersects(list, list) -> bool",
    ]
)

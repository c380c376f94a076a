"""Quantities in expressions: ``quantity("1.5Gi").isGreaterThan(quantity("1Gi"))``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bamikube.api.cel.functions.model import Function, a_string, declare, succeeds, walk
from bamikube.api.cel.types import CelError, NoOverload
from bamikube.api.quantity import NANOS, Quantity, QuantityError


@dataclass(frozen=True, slots=True)
class Amount:
    """``kubernetes.Quantity``; equal by amount."""

    quantity: Quantity
    type_name = "kubernetes.Quantity"

    @property
    def text(self) -> str:
        return str(self.quantity)


def quantity(text: Any) -> Amount:
    try:
        return Amount(Quantity.parse(a_string(text)))
    except QuantityError as error:
        raise CelError(str(error)) from None


def _nanos(value: Any) -> int:
    if type(value) is Amount:
        return value.quantity.nanos
    if type(value) is int:
        return int(value) * NANOS
    raise NoOverload()


def _amount(value: Any) -> Amount:
    if type(value) is not Amount:
        raise NoOverload()
    return value


def _is_integer(value: Any) -> bool:
    nanos = _nanos(_amount(value))
    return nanos % NANOS == 0 and -(2**63) <= nanos // NANOS < 2**63


def _as_integer(value: Any) -> int:
    if not _is_integer(value):
        raise CelError("cannot convert value to integer")
    return _nanos(value) // NANOS


def _sign(value: Any) -> int:
    nanos = _nanos(_amount(value))
    return (nanos > 0) - (nanos < 0)


def compare(left: Any, right: Any) -> int:
    """Negative, zero or positive. Raises NoOverload for anything but two quantities."""
    ours, theirs = _nanos(_amount(left)), _nanos(_amount(right))
    return (ours > theirs) - (ours < theirs)


def _combined(sign: int) -> Callable[[Any, Any], Amount]:
    def call(left: Any, right: Any) -> Amount:
        base = _amount(left).quantity
        return Amount(Quantity(base.nanos + sign * _nanos(right), base.format))

    return call


FUNCTIONS: dict[str, Function] = {
    "quantity": Function(quantity, walk()),
    "isQuantity": Function(succeeds(quantity), walk()),
    "sign": Function(_sign),
    "isInteger": Function(_is_integer),
    "asInteger": Function(_as_integer),
    "asApproximateFloat": Function(lambda value: _nanos(_amount(value)) / NANOS),
    "add": Function(_combined(1)),
    "sub": Function(_combined(-1)),
}

DECLARED = declare(
    [
        "quantity(string) -> Quantity",
        "isQuantity(string) -> bool",
        "Quantity.sign() -> int",
        "Quantity.isInteger() -> bool",
        "Quantity.asInteger() -> int",
        "Quantity.asApproximateFloat() -> double",
        *(
            f"Quantity.{name}({other}) -> Quantity"
            for name in ("add", "sub")
            for other in ("Quantity", "int")
        ),
    ]
)

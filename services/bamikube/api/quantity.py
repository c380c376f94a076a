"""Amounts of CPU, memory and storage, exactly.

A quantity is a decimal number with a suffix: ``500m`` of a core, ``128Mi`` of memory, ``12e6`` of anything. Kubernetes
keeps nothing finer than a billionth, so every quantity is a *whole number of nanos*, and that is how it is held here:
one Python integer, exact at any size, plus the family of suffixes it was written with. The family decides how it is
written again:

* ``BinarySI`` (``Ki Mi Gi Ti Pi Ei``): powers of 1024, as large a suffix as leaves a whole number;
* ``DecimalSI`` (``n u m k M G T P E`` or none): powers of 1000;
* ``DecimalExponent`` (``e3``, ``E-6``): powers of 1000, written as an exponent.

The canonical form has no fraction, no leading zeros and the largest suffix that keeps it whole:

>>> str(Quantity.parse("1.5Gi")), str(Quantity.parse("0.5")), str(Quantity.parse("1000m"))
('1536Mi', '500m', '1')

Source: the package documentation of ``k8s.io/apimachinery/pkg/api/resource``. Rounding to nanos goes away from zero
(asking for some of a resource never becomes asking for none), and numbers too long for 18 digits are capped at
2^63-1, as there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import total_ordering
from typing import Any

from bamikube.api.memory import remembered

BINARY = "BinarySI"
DECIMAL = "DecimalSI"
EXPONENT = "DecimalExponent"

NANOS = 10**9
_LARGEST = (2**63 - 1) * NANOS
_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_NAMES = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
_SHAPE = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)")
_EXPONENT_TEXT = re.compile(r"[+-]?[0-9]{1,18}")

# Digits and powers beyond these cannot change the (capped, rounded) result; cutting there keeps hostile input cheap.
_MOST_DIGITS = 64
_MOST_EXPONENT = 64

_WRONG_FORMAT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_WRONG_NUMBER = "unable to parse numeric part of quantity"
_WRONG_SUFFIX = "unable to parse quantity's suffix"


class QuantityError(ValueError):
    """A text is no quantity. The message is Kubernetes' own."""


def _divide_away(number: int, divisor: int) -> int:
    """``number / divisor``, rounded away from zero."""
    return -(-number // divisor) if number > 0 else number // divisor


@total_ordering
class Quantity:
    """An exact amount. Immutable; equal and hashed by amount, whatever the suffix: ``1Gi`` equals ``1024Mi``."""

    __slots__ = ("format", "nanos")

    nanos: int
    format: str

    def __init__(self, nanos: int, format: str = DECIMAL) -> None:
        object.__setattr__(self, "nanos", nanos)
        object.__setattr__(self, "format", format)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Quantity cannot be changed (tried to set {name})")

    @staticmethod
    def parse(text: str | int | float | Quantity) -> Quantity:
        """The quantity a text stands for; numbers (JSON allows them) are read as they are written.

        Raises :class:`QuantityError`.
        """
        if isinstance(text, str):
            return _parse(text)
        if isinstance(text, Quantity):
            return text
        if isinstance(text, bool) or not isinstance(text, int | float):
            raise QuantityError(_WRONG_FORMAT)
        if isinstance(text, int):
            return Quantity(text * NANOS) if abs(text) < 2**63 else _parse(str(text)[:_MOST_DIGITS])
        return _parse(repr(text))

    @classmethod
    def of(cls, number: int, format: str = DECIMAL) -> Quantity:
        """So many whole units."""
        return cls(number * NANOS, format)

    @classmethod
    def of_milli(cls, number: int, format: str = DECIMAL) -> Quantity:
        """So many thousandths: ``of_milli(500)`` is half a core."""
        return cls(number * 1_000_000, format)

    def value(self) -> int:
        """Whole units (bytes, cores), rounded away from zero."""
        return _divide_away(self.nanos, NANOS)

    def milli_value(self) -> int:
        """Thousandths (millicores), rounded away from zero."""
        return _divide_away(self.nanos, 1_000_000)

    def is_zero(self) -> bool:
        return self.nanos == 0

    def sign(self) -> int:
        """-1, 0 or 1."""
        return (self.nanos > 0) - (self.nanos < 0)

    def is_whole(self) -> bool:
        """No fraction: pods, storage and extended resources have to be whole."""
        return self.nanos % NANOS == 0

    def compare(self, other: Quantity) -> int:
        """-1, 0 or 1 for less, equal or more than ``other``."""
        return (self.nanos > other.nanos) - (self.nanos < other.nanos)

    def add(self, other: Quantity) -> Quantity:
        """The sum, written the way ``self`` is (the way ``other`` is when ``self`` is zero)."""
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)

    def sub(self, other: Quantity) -> Quantity:
        """The difference, written like :meth:`add`."""
        return Quantity(self.nanos - other.nanos, self.format if self.nanos else other.format)

    def mul(self, factor: int) -> Quantity:
        """``factor`` times this amount."""
        return Quantity(self.nanos * factor, self.format)

    def neg(self) -> Quantity:
        return Quantity(-self.nanos, self.format)

    __add__ = add
    __sub__ = sub
    __neg__ = neg

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __lt__(self, other: Quantity) -> bool:
        if not isinstance(other, Quantity):
            return NotImplemented
        return self.nanos < other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __bool__(self) -> bool:
        return self.nanos != 0

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __str__(self) -> str:
        """The canonical text."""
        if not self.nanos:
            return "0"
        # Small or broken amounts are clearer in decimals: 1536 bytes stay 1536, 0.5Ki is 512.
        if self.format == BINARY and abs(self.nanos) >= 1024 * NANOS and self.is_whole():
            number, power = self.nanos // NANOS, 0
            while number % 1024 == 0 and power < 6:
                number //= 1024
                power += 1
            return f"{number}{_BINARY_NAMES[power]}"
        number, exponent = self.nanos, -9
        highest = 18 if self.format != EXPONENT else 10**6
        while number % 1000 == 0 and exponent < highest:
            number //= 1000
            exponent += 3
        if self.format == EXPONENT:
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_NAMES[exponent]}"


def canonical(text: str | int | float) -> str:
    """The canonical text of a quantity: ``canonical("0.1")`` is ``"100m"``. Raises :class:`QuantityError`."""
    return str(Quantity.parse(text))


def total(quantities: Iterable[Quantity]) -> Quantity:
    """The sum of all; zero for none."""
    result = ZERO
    for quantity in quantities:
        result = result.add(quantity)
    return result


@remembered(8192)
def _parse(text: str) -> Quantity:
    match = _SHAPE.fullmatch(text)
    if not text or not match:
        raise QuantityError(_WRONG_FORMAT)
    sign, digits, fraction, suffix = match[1], match[2], match[3] or "", match[4]
    if not digits and not fraction:
        raise QuantityError(_WRONG_NUMBER)
    family, exponent = _suffix(suffix)
    digits = digits.lstrip("0")
    nanos = _nanos(digits, fraction, family, exponent)
    if family == BINARY and 0 < nanos < NANOS:
        family = DECIMAL  # less than one byte is not a power of 1024
    return Quantity(-nanos if sign == "-" else nanos, family)


def _suffix(suffix: str) -> tuple[str, int]:
    """Family and exponent (of 10, or of 2 for the binary family)."""
    if suffix in _DECIMAL_SUFFIXES:
        return DECIMAL, _DECIMAL_SUFFIXES[suffix]
    if suffix in _BINARY_SUFFIXES:
        return BINARY, _BINARY_SUFFIXES[suffix]
    if suffix[0] in "eE" and _EXPONENT_TEXT.fullmatch(suffix[1:]):
        return EXPONENT, int(suffix[1:])
    raise QuantityError(_WRONG_SUFFIX)


def _nanos(digits: str, fraction: str, family: str, exponent: int) -> int:
    """The amount in nanos: rounded up, and capped when the number has more digits than 64 bits surely hold."""
    if family == BINARY:
        exact = not fraction and len(digits) + exponent * 3 // 10 < 15
    else:
        exact = (
            len(digits) + len(fraction) <= 18
            and exponent - len(fraction) >= -9
            and exponent <= _MOST_EXPONENT
        )
    if len(digits) > _MOST_DIGITS:
        if family == BINARY or exponent > len(digits) - 2 * _MOST_DIGITS:
            cut = 0
        else:
            cut = len(digits) - _MOST_DIGITS
            fraction = digits[-cut:] + fraction
            digits = digits[:-cut]
            exponent += cut
        if not cut:
            return _LARGEST
    sticky = any(digit != "0" for digit in fraction[_MOST_DIGITS:])
    fraction = fraction[:_MOST_DIGITS]
    number = int(digits + fraction or "0")
    if family == BINARY:
        number *= 2**exponent
        exponent = 0
    if not number:
        return 1 if sticky else 0
    shift = exponent - len(fraction) + 9
    if shift > 2 * _MOST_EXPONENT:
        return _LARGEST
    if shift >= 0:
        nanos = number * 10**shift + sticky
    elif -shift > 4 * _MOST_DIGITS:
        nanos = 1
    else:
        whole, rest = divmod(number, 10**-shift)
        nanos = whole + (1 if rest or sticky else 0)
    return nanos if exact else min(nanos, _LARGEST)


ZERO = Quantity(0)

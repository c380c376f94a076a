"""Quantities as plain numbers, for the arithmetic of one node."""

from __future__ import annotations

from decimal import Decimal

from bamikube.api.quantity import Quantity


def number(text: str | int | float | Decimal) -> Decimal:
    """The value of ``500m``, ``2`` or ``64Mi``. Raises ValueError naming a text that is no quantity."""
    source = str(text) if isinstance(text, Decimal) else text
    return Decimal(Quantity.parse(source).nanos) / 1_000_000_000

"""All functions that expressions may call, by name; and the declarations of those the CEL library does not know."""

from __future__ import annotations

from bamikube.api.cel.functions import (
    addresses,
    authorizer,
    collections,
    formats,
    ordering,
    quantities,
    standard,
    strings,
    urls,
    versions,
)
from bamikube.api.cel.functions.model import Declaration, Function

# What the CEL library declares by itself, and what Kubernetes adds.
_ADDED = (strings, collections, quantities, versions, ordering, addresses, urls, formats, authorizer)

FUNCTIONS: dict[str, Function] = {
    name: function for room in (standard, *_ADDED) for name, function in room.FUNCTIONS.items()
}

DECLARED: list[Declaration] = [each for room in _ADDED for each in room.DECLARED]

__all__ = ["DECLARED", "FUNCTIONS", "Declaration", "Function"]

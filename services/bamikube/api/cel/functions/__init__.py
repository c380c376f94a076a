"""All functions that expressions may call, by name; and the declarations of those the CEL library does not know."""

from __future__ import annotations

from bamikube.api.cel.functions import authorizer, collections, kubernetes, standard, strings
from bamikube.api.cel.functions.model import Declaration, Function

FUNCTIONS: dict[str, Function] = {
    **standard.FUNCTIONS,
    **strings.FUNCTIONS,
    **collections.FUNCTIONS,
    **kubernetes.FUNCTIONS,
    **authorizer.FUNCTIONS,
}

DECLARED: list[Declaration] = [
    *strings.DECLARED,
    *collections.DECLARED,
    *kubernetes.DECLARED,
    *authorizer.DECLARED,
]

__all__ = ["DECLARED", "FUNCTIONS", "Declaration", "Function"]

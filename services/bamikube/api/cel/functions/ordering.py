"""The order of quantities and of versions, which share the names of their comparisons."""

from __future__ import annotations

from typing import Any

from bamikube.api.cel.functions import quantities, versions
from bamikube.api.cel.functions.model import Function, declare


def _compare(left: Any, right: Any) -> int:
    kind = versions if type(left) is versions.Semver else quantities
    return kind.compare(left, right)


FUNCTIONS: dict[str, Function] = {
    "isGreaterThan": Function(lambda left, right: _compare(left, right) > 0),
    "isLessThan": Function(lambda left, right: _compare(left, right) < 0),
    "compareTo": Function(_compare),
}

DECLARED = declare(
    f"{kind}.{name}({kind}) -> {result}"
    for kind in ("Quantity", "Semver")
    for name, result in (("isGreaterThan", "bool"), ("isLessThan", "bool"), ("compareTo", "int"))
)

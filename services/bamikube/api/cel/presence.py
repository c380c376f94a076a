"""Does a schema carry rules? Asked of every definition, so it loads nothing."""

from __future__ import annotations

from typing import Any

VALIDATIONS = "x-kubernetes-validations"


def has_rules(schema: Any) -> bool:
    """Whether rules stand anywhere in a schema."""
    if isinstance(schema, dict):
        if schema.get(VALIDATIONS):
            return True
        children = [
            *(schema.get("properties") or {}).values(),
            schema.get("items"),
            schema.get("additionalProperties"),
        ]
        return any(has_rules(child) for child in children)
    return False

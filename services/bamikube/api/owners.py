"""Who owns an object: owner references as the garbage collector and the controllers read them."""

from __future__ import annotations

from typing import Any


def references(obj: dict[str, Any]) -> list[dict[str, Any]]:
    return list(obj["metadata"].get("ownerReferences") or [])


def controller_of(obj: dict[str, Any]) -> dict[str, Any] | None:
    """The one reference with ``controller: true``."""
    return next((reference for reference in references(obj) if reference.get("controller")), None)


def controlled_by(obj: dict[str, Any], uid: str) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid


def controller_reference(owner: dict[str, Any]) -> dict[str, Any]:
    """A reference that makes ``owner`` (with apiVersion and kind) the controller of what carries it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }

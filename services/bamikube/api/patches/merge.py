"""JSON merge patch, RFC 7396: values replace, ``null`` removes, objects are merged, lists are replaced whole."""

from __future__ import annotations

from typing import Any

from bamikube.api.patches.errors import MAX_DEPTH, no_object, too_deep


def merge_patch(doc: dict[str, Any], patch: Any) -> dict[str, Any]:
    """``doc`` with ``patch`` merged into it.

    Raises :class:`~bamikube.api.patches.errors.PatchError` when the patch is no object or nested too deep.
    """
    if not isinstance(patch, dict):
        raise no_object(patch, "error decoding patch: ")
    merged: dict[str, Any] = _merge(doc, patch, 0)
    return merged


def _merge(target: Any, patch: Any, depth: int) -> Any:
    if not isinstance(patch, dict):
        return patch
    if depth > MAX_DEPTH:
        raise too_deep()
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merge(result.get(key), value, depth + 1)
        else:
            result[key] = value
    return result

"""JSON patch, RFC 6902, with its cost bounded.

The library ``jsonpatch`` does the operations. Around it stand two limits against patches that are small to send and
expensive to carry out: the number of operations, and what ``copy`` may add in total (a patch that copies a value onto
itself again and again would double it each time). And ``test`` compares as JSON does: ``1`` is not ``true``.
"""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer
import orjson

from bamikube.api.patches.errors import PatchError

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 * 1024 * 1024


def json_patch(doc: dict[str, Any], operations: Any) -> dict[str, Any]:
    """``doc`` after ``operations``, a list of ``{"op", "path", ...}``.

    Raises :class:`PatchError`.
    """
    if not isinstance(operations, list) or not all(isinstance(one, dict) for one in operations):
        raise PatchError("a JSON patch must be a list of operations", malformed=True)
    if len(operations) > MAX_OPERATIONS:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}",
            too_large=True,
        )
    # The library works in place and lets values of the patch into the document; both are copied first.
    result: Any = _copy(doc)
    copied = 0
    for operation in _copy(operations):
        kind = operation.get("op")
        if kind == "copy":
            copied += len(orjson.dumps(_resolve(result, operation.get("from"))))
            if copied > MAX_COPIED_BYTES:
                raise PatchError(f"the JSON patch copies more than {MAX_COPIED_BYTES} bytes", too_large=True)
        elif kind == "test":
            _test(result, operation)
            continue
        result = _apply(result, operation)
    if not isinstance(result, dict):
        raise PatchError("the JSON patch leaves no object")
    return result


def _copy(value: Any) -> Any:
    try:
        return orjson.loads(orjson.dumps(value))
    except (orjson.JSONEncodeError, orjson.JSONDecodeError) as error:
        raise PatchError(f"the document is not JSON: {error}", malformed=True) from None


def _resolve(doc: Any, pointer: Any) -> Any:
    if not isinstance(pointer, str):
        raise PatchError(f"not a JSON pointer: {pointer!r}", malformed=True)
    try:
        found = jsonpointer.resolve_pointer(doc, pointer)
    except jsonpointer.JsonPointerException:  # its text would show the whole object
        raise PatchError(f"nothing is at {pointer}") from None
    except (TypeError, KeyError, IndexError, ValueError):
        raise PatchError(f"nothing is at {pointer}") from None
    if isinstance(found, jsonpointer.EndOfList):  # the place behind the last element holds nothing yet
        raise PatchError(f"nothing is at {pointer}")
    return found


def _test(doc: Any, operation: dict[str, Any]) -> None:
    if "value" not in operation:
        raise PatchError("the operation test needs a value", malformed=True)
    found = _resolve(doc, operation.get("path"))
    options = orjson.OPT_SORT_KEYS
    if isinstance(found, dict | list) or type(found) is not type(operation["value"]):
        same = orjson.dumps(found, option=options) == orjson.dumps(operation["value"], option=options)
    else:
        same = found == operation["value"]
    if not same:
        raise PatchError(f"testing value {operation.get('path')} failed")


def _apply(doc: Any, operation: dict[str, Any]) -> Any:
    try:
        return jsonpatch.JsonPatch([operation]).apply(doc, in_place=True)
    except jsonpatch.InvalidJsonPatch as error:
        raise PatchError(str(error), malformed=True) from None
    except jsonpointer.JsonPointerException:  # its text would show the whole object
        raise PatchError(f"nothing is at {operation.get('path')}") from None
    except jsonpatch.JsonPatchException as error:
        raise PatchError(str(error)) from None
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        where = operation.get("path")
        raise PatchError(f"the operation {operation.get('op')} cannot be done at {where}") from None

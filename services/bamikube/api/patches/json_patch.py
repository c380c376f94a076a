"""JSON patch, RFC 6902, as Kubernetes carries it out, with its cost bounded.

The API server's patches are not quite the RFC's, which is why no library does this: ``replace`` of a member that is
not there adds it, a negative index counts from the end of a list, what stands before the first slash of a path means
nothing, copying what is not there gives ``null``, a ``test`` for ``null`` passes where there is nothing, and the
object itself (path ``""``) cannot be added or removed. The words of every fault are those Kubernetes' users know::

    remove operation does not apply: doc is missing path: "/spec/a/b": missing value
    testing value /spec/replicas failed: test failed

Two limits stand against patches that are small to send and expensive to carry out: the number of operations, and what
``copy`` may add in total (a patch that copies a value onto itself again and again would double it each time).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from bamikube.api.gojson import kind_of
from bamikube.api.patches.errors import PatchError

MAX_OPERATIONS = 10_000
MAX_COPIED_BYTES = 3 * 1024 * 1024

_INTEGER = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)
_INT64 = range(-(2**63), 2**63)
_MISSING = "missing value"
_ABSENT = object()


class _Fault(Exception):
    """An operation that cannot be carried out; without the words around it."""


def json_patch(doc: dict[str, Any], operations: Any) -> dict[str, Any]:
    """``doc`` after ``operations``, a list of ``{"op", "path", ...}``.

    Raises :class:`PatchError`.
    """
    _check(operations)
    if len(operations) > MAX_OPERATIONS:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}",
            too_large=True,
        )
    # Operations work in place and put values of the patch into the document; both are copied first.
    document = _Document(_copy(doc))
    for operation in _copy(operations):
        kind = (operation or {}).get("op")
        carry_out = _OPERATIONS.get(kind)
        if carry_out is None:
            raise PatchError(f"Unexpected kind: {'unknown' if kind is None else kind}")
        try:
            carry_out(document, operation)
        except _Fault as fault:
            raise PatchError(str(fault)) from None
    if not isinstance(document.root, dict):
        raise PatchError("the JSON patch leaves no object")
    return document.root


def _check(operations: Any) -> None:
    """The form of a patch, in the words of its decoder."""
    if type(operations) is not list:
        raise _undecodable(operations, "Go value of type []handlers.jsonPatchOp")
    for each in operations:
        if each is None:
            continue
        if type(each) is not dict:
            raise _undecodable(each, "Go value of type handlers.jsonPatchOp")
        for name in ("op", "path", "from"):
            if not isinstance(each.get(name), str | None):
                raise _undecodable(each[name], f"Go struct field jsonPatchOp.{name} of type string")


def _undecodable(value: Any, place: str) -> PatchError:
    return PatchError(
        f"error decoding patch: json: cannot unmarshal {kind_of(value)} into {place}", malformed=True
    )


def _copy(value: Any) -> Any:
    return orjson.loads(_text(value))


def _text(value: Any, options: int = 0) -> bytes:
    """A value as JSON. Operations can build what is nested deeper than JSON is written."""
    try:
        return orjson.dumps(value, option=options)
    except orjson.JSONEncodeError as error:
        raise PatchError(f"the document is not JSON: {error}", malformed=True) from None


class _Document:
    """What is patched, and how much was copied so far."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.copied = 0

    def find(self, pointer: str) -> tuple[Any, str] | None:
        """The object or list that holds what ``pointer`` names, and its key there; None: there is no such holder."""
        _, *parts = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/"))
        if not parts:
            return None
        holder = self.root
        for part in parts[:-1]:
            try:
                holder = _get(holder, part)
            except _Fault:
                return None
            if not isinstance(holder, dict | list):
                return None
        return holder, parts[-1]


def _index(holder: list[Any], key: str, length: int) -> int:
    """The place ``key`` names in a list that counts as ``length`` long."""
    if not _INTEGER.match(key):
        raise _Fault(f"strconv.Atoi: parsing {orjson.dumps(key).decode()}: invalid syntax")
    if len(key) > 20 or (index := int(key)) not in _INT64:
        raise _Fault(f'strconv.Atoi: parsing "{key}": value out of range')
    if not -length <= index < length:
        raise _Fault(f"Unable to access invalid index: {index}: invalid index referenced")
    return index + length if index < 0 else index


def _get(holder: Any, key: str) -> Any:
    if isinstance(holder, dict):
        return holder.get(key, _ABSENT)
    return holder[_index(holder, key, len(holder))]


def _put(holder: Any, key: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    elif key == "-":
        holder.append(value)
    else:
        try:
            place = _index(holder, key, len(holder) + 1)
        except _Fault as fault:
            odd = str(fault).startswith("strconv")
            raise _Fault(
                f"value was not a proper array index: '{key}': {fault}" if odd else str(fault)
            ) from None
        holder.insert(place, value)


def _drop(holder: Any, key: str) -> None:
    if isinstance(holder, dict):
        if key not in holder:
            raise _Fault(f"Unable to remove nonexistent key: {key}: {_MISSING}")
        del holder[key]
    else:
        del holder[_index(holder, key, len(holder))]


def _member(operation: dict[str, Any], name: str, what: str, brief: bool = False) -> str:
    """The path or origin of an operation; ``brief``: its fault does not say what is missing."""
    value = operation.get(name)
    if value is None:
        missing = {"path": "operation missing path field", "from": "operation, missing from field"}[name]
        raise _Fault(f"{what} operation failed to decode {name}: {'' if brief else missing + ': '}{_MISSING}")
    text: str = value
    return text


def _wrapped(words: str, act: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return act(*arguments)
    except _Fault as fault:
        raise _Fault(f"{words}: {fault}") from None


def _add(document: _Document, operation: dict[str, Any]) -> None:
    path = _member(operation, "path", "add", brief=True)
    found = document.find(path)
    if found is None:
        raise _Fault(f'add operation does not apply: doc is missing path: "{path}": {_MISSING}')
    _wrapped(f"error in add for path: '{path}'", _put, *found, operation.get("value"))


def _remove(document: _Document, operation: dict[str, Any]) -> None:
    path = _member(operation, "path", "remove", brief=True)
    found = document.find(path)
    if found is None:
        raise _Fault(f'remove operation does not apply: doc is missing path: "{path}": {_MISSING}')
    _wrapped(f"error in remove for path: '{path}'", _drop, *found)


def _replace(document: _Document, operation: dict[str, Any]) -> None:
    path = _member(operation, "path", "replace")
    value = operation.get("value")
    if path == "":
        if not isinstance(value, dict | list):
            raise _Fault("replace operation value must be object or array: %!w(<nil>)")
        document.root = value
        return
    found = document.find(path)
    if found is None:
        raise _Fault(f"replace operation does not apply: doc is missing path: {path}: {_MISSING}")
    holder, key = found
    if isinstance(holder, dict):
        holder[key] = value
        return
    try:
        holder[_index(holder, key, len(holder))] = value
    except _Fault:
        raise _Fault(f"replace operation does not apply: doc is missing key: {path}: {_MISSING}") from None


def _move(document: _Document, operation: dict[str, Any]) -> None:
    origin = _member(operation, "from", "move")
    found = document.find(origin)
    if found is None:
        raise _Fault(f"move operation does not apply: doc is missing from path: {origin}: {_MISSING}")
    value = _wrapped(f"error in move for path: '{found[1]}'", _get, *found)
    _wrapped(f"error in move for path: '{found[1]}'", _drop, *found)
    path = _member(operation, "path", "move")
    goal = document.find(path)
    if goal is None:
        raise _Fault(f"move operation does not apply: doc is missing destination path: {path}: {_MISSING}")
    _wrapped(f"error in move for path: '{path}'", _put, *goal, value)


def _copy_over(document: _Document, operation: dict[str, Any]) -> None:
    origin = _member(operation, "from", "copy")
    found = document.find(origin)
    if found is None:
        raise _Fault(f"copy operation does not apply: doc is missing from path: {origin}: {_MISSING}")
    value = _wrapped(f"error in copy for from: '{origin}'", _get, *found)
    path = _member(operation, "path", "copy", brief=True)
    goal = document.find(path)
    if goal is None:
        raise _Fault(f"copy operation does not apply: doc is missing destination path: {path}: {_MISSING}")
    written = b"null" if value is _ABSENT else _text(value)
    document.copied += len(written) if written != b"null" else 0
    if document.copied > MAX_COPIED_BYTES:
        raise _Fault(
            "Unable to complete the copy, the accumulated size increase of copy is "
            f"{document.copied}, exceeding the limit {MAX_COPIED_BYTES}"
        )
    _wrapped("error while adding value during copy", _put, *goal, orjson.loads(written))


def _test(document: _Document, operation: dict[str, Any]) -> None:
    path = _member(operation, "path", "test")
    if path == "":
        value = document.root
    else:
        found = document.find(path)
        if found is None:
            raise _Fault(f"test operation does not apply: is missing path: {path}: {_MISSING}")
        value = _wrapped(f"error in test for path: '{path}'", _get, *found)
    if not _same(None if value is _ABSENT else value, operation.get("value")):
        raise _Fault(f"testing value {path} failed: test failed")


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON texts are, whatever the order of members: 1 is neither 1.0 nor true."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict | list):
        return _text(one, orjson.OPT_SORT_KEYS) == _text(other, orjson.OPT_SORT_KEYS)
    return bool(one == other)


_OPERATIONS: dict[Any, Callable[[_Document, dict[str, Any]], None]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy_over,
    "test": _test,
}

"""The outcome of a patch that is no object of its kind: 422, where a body of that form would be 400.

The error shows what came out: of a JSON or merge patch the patched object, of a strategic merge patch the patch, as Go
prints a map, and the words of the converter that made an object of it::

     "" is invalid: patch: Invalid value: "map[spec:map[replicas:x]]": unrecognized type: int32
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from bamikube.api.errors import ApiError, Cause, invalid
from bamikube.api.schema.compile import Issue

_GO_KINDS = {"array": "slice", "object": "map", "number": "int64"}


@dataclass(frozen=True, slots=True)
class Patched:
    """``shown`` is asked for the value to show only when there is a fault; ``strategic`` is the dialect."""

    shown: Callable[[], str]
    strategic: bool = False

    def error(self, message: str) -> ApiError:
        quoted = json.dumps(self.shown(), ensure_ascii=False)
        return invalid("", "", [Cause("FieldValueInvalid", f"Invalid value: {quoted}: {message}", "patch")])

    def mistyped(self, issue: Issue, decoded: str) -> ApiError:
        """``decoded`` is what a decoder of JSON says of the issue."""
        return self.error(decoded if not self.strategic or issue.message else _converted(issue))


def _converted(issue: Issue) -> str:
    found = issue.found.partition(" ")[0]
    kind = _GO_KINDS.get(found, found) if issue.found == found else "float64"
    if issue.wanted.startswith("[]"):
        return f"cannot restore slice from {kind}"
    if issue.wanted.startswith("map["):
        return f"cannot restore map from {kind}"
    if "." in issue.wanted:
        return f"cannot restore struct from: {kind}"
    return f"unrecognized type: {issue.wanted}"

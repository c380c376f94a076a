"""What can be wrong with a patch."""

from __future__ import annotations

from typing import Any

from bamikube.api.gojson import kind_of

# Nested deeper than any real object; bounds recursion.
MAX_DEPTH = 300


class PatchError(ValueError):
    """A patch that cannot be applied.

    ``malformed`` tells the two answers apart: the patch itself is no patch (400 Bad Request), or it does not fit the
    object, such as a failed ``test`` or a missing path (422 Unprocessable Entity). ``too_large`` is 413.
    """

    def __init__(self, message: str, *, malformed: bool = False, too_large: bool = False) -> None:
        super().__init__(message)
        self.malformed = malformed
        self.too_large = too_large


def too_deep() -> PatchError:
    return PatchError(f"the document is nested deeper than {MAX_DEPTH} levels", malformed=True)


def no_object(patch: Any, before: str = "") -> PatchError:
    """A patch that has to be an object and is none."""
    what = kind_of(patch)
    return PatchError(
        f"{before}json: cannot unmarshal {what} into Go value of type map[string]interface {{}}",
        malformed=True,
    )

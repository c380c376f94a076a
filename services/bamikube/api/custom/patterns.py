"""Regular expressions of schemas: Go's dialect, whose engine is RE2.

RE2 takes time in proportion to the text whatever the expression, so nobody's pattern can hold the server up.
"""

from __future__ import annotations

import functools
from typing import Any


class PatternError(ValueError):
    """The text is no regular expression."""


@functools.lru_cache(maxsize=4096)
def compiled(pattern: str) -> Any:
    """Raises :class:`PatternError`."""
    import re2  # only clusters whose schemas have patterns load the engine

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        raise PatternError(
            text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        ) from None


def matches(pattern: str, text: str) -> bool:
    """Whether the expression is found anywhere in the text."""
    return compiled(pattern).search(text) is not None

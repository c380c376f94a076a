"""Whole numbers in text that came from outside.

Python is kinder than Go's strconv: ``str.isdigit`` says yes to a superscript two, which ``int`` then refuses, and ``int``
refuses what is longer than 4300 digits. Both would be an exception where a client is to be told what is wrong.
"""

from __future__ import annotations

_LONGEST = 19  # digits of the largest int64


def whole(text: str) -> int | None:
    """The number that ASCII digits and nothing else say; None for anything else, and beyond an int64."""
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > _LONGEST:
        text = text.lstrip("0") or "0"
        if len(text) > _LONGEST:
            return None
    number = int(text)
    return number if number < 1 << 63 else None

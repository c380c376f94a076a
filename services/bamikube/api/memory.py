"""Answers that are remembered, as far as the questions are short.

``lru_cache`` counts entries, not bytes. Texts that clients send may be megabytes long, and a few thousand of those are
all the memory there is; what is asked again and again is short.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

Answer = TypeVar("Answer")
LONGEST = 512  # characters of a text that is remembered


def remembered(
    size: int, longest: int = LONGEST
) -> Callable[[Callable[[str], Answer]], Callable[[str], Answer]]:
    """For a pure function of one text: the last ``size`` answers are kept, those to texts over ``longest`` are not."""

    def wrap(function: Callable[[str], Answer]) -> Callable[[str], Answer]:
        kept = lru_cache(maxsize=size)(function)

        @wraps(function)
        def ask(text: str) -> Answer:
            return kept(text) if len(text) <= longest else function(text)

        return ask

    return wrap

"""Answers that are remembered, as far as the questions are short, and what has been found good.

``lru_cache`` counts entries, not bytes. Texts that clients send may be megabytes long, and a few thousand of those are
all the memory there is; what is asked again and again is short.

Objects come in series: the pods of a set have the same containers, and a new version of a Deployment differs in an
image. :class:`Approved` remembers what a rule had nothing to say about, by digests of a fixed length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from hashlib import blake2b
from typing import Any, TypeVar

import orjson

Answer = TypeVar("Answer")
LONGEST = 512  # characters of a text that is remembered
FEW = 4  # of less than this to know what is there costs less than to remember it


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


def mark_of(value: Any) -> bytes:
    """What tells this value from every other one: a digest of its JSON. Nothing when it has none."""
    try:
        return blake2b(orjson.dumps(value), digest_size=16).digest()
    except (TypeError, ValueError):
        return b""


class Approved:
    """What a pure rule has found nothing wrong with: the last ``size`` values, by the digest of their JSON."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[bytes, None] = {}

    def judge(self, value: Any, rule: Callable[[], list[Answer]]) -> list[Answer]:
        """What ``rule`` finds wrong with ``value``, which is all that it looks at. It is not asked twice about the same."""
        mark = mark_of(value)
        if mark in self._known:
            return []
        found = rule()
        if not found:
            self.approve(mark)
        return found

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._known

    def approve(self, mark: bytes) -> None:
        """Remember the mark of something that is good. A value without a mark is judged each time."""
        if not mark:
            return
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]
        self._known[mark] = None

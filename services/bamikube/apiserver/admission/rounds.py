"""Asking mutating admission a second time, when somebody changed the object after others had seen it.

The chain runs once. When a webhook or a mutating policy has changed the object, it runs once more: built-in plugins
look again at everything, webhooks and policies only if they asked for it (``reinvocationPolicy: IfNeeded``), were
called in the first round, and something changed after that::

    round 0   a (IfNeeded) sees it, b changes it, c (IfNeeded) sees it      a is due: b came after it
    round 1   a is called, and changes it                                  c is due: a came after it; c is called
              there is no round 2

Source: Kubernetes' "Dynamic Admission Control", reinvocation policy.
"""

from __future__ import annotations

from typing import Any

import orjson


class Seen:
    """What a plugin knows of those it calls: who has seen the object, and who has to see it again."""

    __slots__ = ("_left", "_seen", "due")

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._left: bytes | None = None
        self.due: set[str] = set()

    def saw(self, ident: str) -> None:
        """``ident`` was called and wants to hear of later changes."""
        self._seen.add(ident)

    def changed(self) -> None:
        """The object changed: whoever has seen it is due."""
        self.due |= self._seen
        self._seen.clear()

    def leaves(self, obj: dict[str, Any] | None) -> None:
        """The plugin is done with the object for this round."""
        self._left = orjson.dumps(obj)

    def finds(self, obj: dict[str, Any] | None) -> None:
        """The plugin's next round begins: what others changed in between counts too."""
        if self._left is not None and self._left != orjson.dumps(obj):
            self.changed()


class Rounds:
    """``number`` is the round that runs, ``again`` whether another is wanted."""

    __slots__ = ("_plugins", "again", "number")

    def __init__(self) -> None:
        self.number = 0
        self.again = False
        self._plugins: dict[str, Seen] = {}

    def of(self, plugin: str) -> Seen:
        return self._plugins.setdefault(plugin, Seen())

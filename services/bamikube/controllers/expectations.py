"""What a controller has done and has not yet seen come back through its informer.

A decision made on a copy that lacks the pods one has just created would create them again. After each write the
controller notes what it expects to see; while anything is outstanding for a key, the key is not decided on. There is
nothing to count down: whether an expectation is met is read off the informer when it matters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bamikube.client.informer import Informer
from bamikube.kit.clock import Clock

# After this many seconds an unseen change no longer holds a key back: the informer has long been re-listed by then.
PATIENCE = 300.0


@dataclass(slots=True)
class _Expected:
    created: dict[str, float] = field(default_factory=dict)  # informer key -> deadline
    deleted: dict[tuple[str, str], float] = field(default_factory=dict)  # (informer key, uid) -> deadline


class Expectations:
    """Outstanding creations and deletions per controller key, judged against one informer."""

    def __init__(self, informer: Informer, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._held: dict[str, _Expected] = {}

    def created(self, key: str, child: str) -> None:
        """``child`` (an informer key) has been created for ``key``."""
        if self._informer.get(child) is None:
            self._held.setdefault(key, _Expected()).created[child] = self._clock.monotonic() + PATIENCE

    def deleted(self, key: str, child: str, uid: str) -> None:
        """``child`` with that uid has been asked to go."""
        self._held.setdefault(key, _Expected()).deleted[(child, uid)] = self._clock.monotonic() + PATIENCE

    def seen(self, key: str, child: str) -> None:
        """The informer has shown ``child``: it may be gone again by the time anybody asks."""
        if (expected := self._held.get(key)) is not None:
            expected.created.pop(child, None)

    def met(self, key: str) -> bool:
        """Whether everything done for ``key`` has been seen (or has been waited for long enough)."""
        expected = self._held.get(key)
        if expected is None:
            return True
        now = self._clock.monotonic()
        for child, deadline in list(expected.created.items()):
            if now >= deadline or self._informer.get(child) is not None:
                del expected.created[child]
        for (child, uid), deadline in list(expected.deleted.items()):
            seen = self._informer.get(child)
            gone = (
                seen is None or seen["metadata"].get("uid") != uid or "deletionTimestamp" in seen["metadata"]
            )
            if now >= deadline or gone:
                del expected.deleted[(child, uid)]
        if not expected.created and not expected.deleted:
            del self._held[key]
            return True
        return False

    def forget(self, key: str) -> None:
        self._held.pop(key, None)

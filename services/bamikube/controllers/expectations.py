"""What a controller has done and has not yet seen come back through its informer.

A decision made on a copy that lacks the pods one has just created would create them again. After each write the
controller notes what it expects to see; while anything is outstanding for a key, the key is not decided on.

Revisions are one count for the whole store, so a creation is seen as soon as the informer has come to the revision the
creation was answered with - also when the object is already gone again by then. Worked example: pods are created at
revisions 101, 103 and 104 while the informer is at 102; the key waits until the informer says 104.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bamikube.client.informer import Informer
from bamikube.kit.clock import Clock

# After this many seconds an unseen change no longer holds a key back: the informer has long been re-listed by then.
PATIENCE = 300.0


@dataclass(slots=True)
class _Expected:
    revision: int = 0  # of the latest creation
    deleted: dict[tuple[str, str], None] = field(default_factory=dict)  # (informer key, uid)
    deadline: float = 0.0


class Expectations:
    """Outstanding creations and deletions per controller key, judged against one informer."""

    def __init__(self, informer: Informer, clock: Clock) -> None:
        self._informer = informer
        self._clock = clock
        self._held: dict[str, _Expected] = {}

    def created(self, key: str, child: dict[str, Any]) -> None:
        """``child``, as the server answered it, has been created for ``key``."""
        expected = self._expect(key)
        expected.revision = max(expected.revision, _number(child["metadata"].get("resourceVersion")))

    def deleted(self, key: str, child: str, uid: str) -> None:
        """``child`` (an informer key) with that uid has been asked to go."""
        self._expect(key).deleted[(child, uid)] = None

    def _expect(self, key: str) -> _Expected:
        expected = self._held.setdefault(key, _Expected())
        expected.deadline = self._clock.monotonic() + PATIENCE
        return expected

    def met(self, key: str) -> bool:
        """Whether everything done for ``key`` has been seen (or has been waited for long enough)."""
        expected = self._held.get(key)
        if expected is None:
            return True
        if self._clock.monotonic() < expected.deadline:
            if _number(self._informer.revision) < expected.revision:
                return False
            # What is gone is crossed off, so that looking again starts at the first one that is not.
            while expected.deleted:
                child, uid = next(iter(expected.deleted))
                seen = self._informer.get(child)
                if (
                    seen is not None
                    and seen["metadata"].get("uid") == uid
                    and "deletionTimestamp" not in seen["metadata"]
                ):
                    return False
                del expected.deleted[(child, uid)]
        del self._held[key]
        return True

    def forget(self, key: str) -> None:
        self._held.pop(key, None)


def _number(revision: str | None) -> int:
    return int(revision) if revision and revision.isdigit() else 0

"""Applied documents that said nothing new.

Whoever applies in a loop, as controllers and deployment tools do, sends the same bytes each time and changes nothing
most times. Reading, checking and listing the fields of such a document is a quarter of what the request costs; so the last
ones are kept, each for its object, until they come again::

    apply A   read, checked, applied: nothing new      kept
    apply A   taken, applied: nothing new              kept
    apply A   taken, applied: somebody had changed it  used up, its parts are parts of an object now

Nothing about the *request* is kept: who may apply, conflicts, admission and validation are decided anew each time.
"""

from __future__ import annotations

from bamikube.api.resources import Resource
from bamikube.apiserver.registry.applying import Document

LONGEST = 16 * 1024  # bytes of a document worth keeping
TOTAL = 512 * 1024  # bytes of all together; what is made of them takes ten times as much

Key = tuple[Resource, str, str, bytes]  # the object's row, namespace and name, and the document to the letter


class Documents:
    """The documents kept. A row is nobody but itself, so a definition that changes leaves its documents behind."""

    def __init__(self) -> None:
        self._kept: dict[Key, Document] = {}
        self._size = 0

    def take(self, key: Key) -> Document | None:
        """The document, which is the caller's from now on."""
        found = self._kept.pop(key, None)
        if found is not None:
            self._size -= len(key[3])
        return found

    def keep(self, key: Key, document: Document) -> None:
        """Keep a document that nobody has used; the oldest go."""
        if document.used or len(key[3]) > LONGEST:
            return
        self.take(key)
        self._kept[key] = document
        self._size += len(key[3])
        while self._size > TOTAL:
            self.take(next(iter(self._kept)))

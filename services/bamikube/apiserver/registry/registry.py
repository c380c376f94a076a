"""The registry: every verb in one value."""

from __future__ import annotations

from bamikube.apiserver.registry.deletion import Deleting
from bamikube.apiserver.registry.scale import Scaling


class Registry(Deleting, Scaling):
    """create, get, list, watch, update, patch, delete, deletecollection and scale over every stored resource.

    The ``*_item`` verbs return items (bytes with an index) and are what the HTTP front uses; ``create``, ``get``,
    ``list``, ``update`` and ``delete`` return decoded objects and are for the server's own loops; ``modify`` is the
    guarded read-change-write that special endpoints build on.
    """

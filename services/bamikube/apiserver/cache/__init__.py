"""What the API server knows without asking the store: every object, its recent past, and who wants to hear of it."""

from __future__ import annotations

from bamikube.apiserver.cache.cache import Cache
from bamikube.apiserver.cache.item import Item
from bamikube.apiserver.cache.watcher import Filter, Representation, Watcher

__all__ = ["Cache", "Filter", "Item", "Representation", "Watcher"]

"""The generic verbs over every stored resource: one code path, driven by the table.

``Registry`` is imported when it is asked for: the cache, admission and authorization need this package's small ports
(:mod:`.reader`, :mod:`.hooks`) and must not pull in the verbs, which in turn need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bamikube.apiserver.registry.registry import Registry

__all__ = ["Registry"]


def __getattr__(name: str) -> Any:
    if name == "Registry":
        from bamikube.apiserver.registry.registry import Registry

        return Registry
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

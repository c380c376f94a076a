"""Hooks that put something of their own into an object's transaction.

An allocator must never hand out one address twice, over restarts and between servers running side by side. So its
record is written in the same store transaction as the object that holds the address: the hook looks, chooses, and
returns the guards under which its choice stands together with its writes. When a guard has been overtaken nothing
was written, and the registry calls the hook again, a bounded number of times.

Worked example, creating a Service without a cluster IP::

    on_create(service):  picks 10.96.0.7, which is free as far as it knows, sets spec.clusterIP,
                         returns Extra(guards=[Compare(record of .7, 0)], writes=[Put(record of .7)])
    registry:            txn(guards=[object absent, record absent], writes=[Put(object), Put(record)])
                         another server took .7 meanwhile: a guard of the Extra failed -> on_create again

The hook may change ``obj`` in place. It is called after defaulting and admission and before validation of the
final object, always with a fresh copy when it is called again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from bamikube.api.resources import Resource
from bamikube.store.port import Compare, Delete, Put


@dataclass(frozen=True, slots=True)
class Extra:
    """Guards and writes that join the object's own transaction, and what is called once it has succeeded."""

    guards: list[Compare] = field(default_factory=list)
    writes: list[Put | Delete] = field(default_factory=list)
    done: list[Callable[[], None]] = field(default_factory=list)


NOTHING = Extra()


class WriteHook(Protocol):
    """A partner in the transactions of some resources. May raise ApiError to refuse the write."""

    def applies(self, resource: Resource) -> bool: ...

    async def on_create(self, obj: dict[str, Any]) -> Extra: ...

    async def on_update(self, old: dict[str, Any], obj: dict[str, Any]) -> Extra: ...

    async def on_delete(self, obj: dict[str, Any]) -> Extra: ...

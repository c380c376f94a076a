"""The proxy without the network: services and slices in, planned changes out.

Holds the slim projections, the keys that changed, and the ledger. Pure: informers call :meth:`State.service` and
:meth:`State.slice`, the executor takes :meth:`State.take`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bamikube.netlink.conntrack import Flow
from bamikube.netlink.tables import Table
from bamikube.proxy.ledger import Ledger
from bamikube.proxy.model import Service, Slice
from bamikube.proxy.plan import Fragment, Node, fragment


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: turn ``before`` into ``after`` (parts of the table), then forget ``stale`` connections."""

    before: Table
    after: Table
    stale: tuple[Flow, ...]
    services: int


class State:
    """Everything the proxy knows. Invariant: whatever is not in ``dirty`` is in the ledger as planned."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.ledger = Ledger(node)
        self.dirty: set[str] = set()
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, Slice]] = {}

    def service(self, key: str, new: Service | None) -> None:
        """A service appeared, changed or (None) went, or is none of our business."""
        if self._services.get(key) == new:
            return
        if new is None:
            del self._services[key]
        else:
            self._services[key] = new
        self.dirty.add(key)

    def slice(self, key: str, old: Slice | None, new: Slice | None) -> None:
        if old == new:
            return
        if old is not None:
            held = self._slices.get(old.service, {})
            held.pop(key, None)
            if not held:
                self._slices.pop(old.service, None)
            self.dirty.add(old.service)
        if new is not None:
            self._slices.setdefault(new.service, {})[key] = new
            self.dirty.add(new.service)

    def zone(self, zone: str) -> bool:
        """The node's zone became known or changed: everything is decided again."""
        if zone == self.node.zone:
            return False
        self.node = replace(self.node, zone=zone)
        self.dirty.update(self._services)
        return True

    def take(self) -> Step:
        """Decide all that is dirty."""
        keys, self.dirty = self.dirty, set()
        changes: dict[str, Fragment | None] = {}
        stale: list[Flow] = []
        for key in keys:
            service = self._services.get(key)
            old = self.ledger.fragment(key)
            if service is None and old is None:
                continue
            new = fragment(service, self._slices.get(key, {}).values(), self.node) if service else None
            changes[key] = new
            stale += stale_flows(old, new)
        before, after = self.ledger.change(changes)
        return Step(before, after, tuple(stale), len(changes))


def stale_flows(old: Fragment | None, new: Fragment | None) -> list[Flow]:
    """UDP connections to forget: to endpoints that went, and unanswered ones to a port that had no endpoint at all."""
    had = old.flows if old else frozenset()
    has = new.flows if new else frozenset()
    if had is has:
        return []
    gone = list(had - has)
    served = {(flow.address, flow.port) for flow in had}
    fresh = {(flow.address, flow.port) for flow in has} - served
    # a connection that began before there was an endpoint is answered by the virtual address itself: never
    return gone + [Flow(17, address, port, address, port) for address, port in fresh if address]

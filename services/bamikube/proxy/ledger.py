"""What the kernel holds, by our own account: all fragments, merged, and the difference a change makes.

Asking the kernel costs more than the change itself, so the proxy never lists it. The ledger knows of every element who
put it there. :meth:`Ledger.change` takes new fragments of a few services and returns two small tables, the affected part
before and after, whose difference is the transaction.

Two services may claim the same element: two that name the same external address and port (the first keeps it, the other
waits and takes over when the first goes), or two with the same pod behind them (the ``hairpin`` pair of that pod).
"""

from __future__ import annotations

from collections.abc import Iterable

from bamikube.netlink.tables import Chain, Set, Table
from bamikube.proxy.model import Service, Slice
from bamikube.proxy.plan import Changes, Fragment, Node, Value, fragment, frame, shared_chain


class Ledger:
    """The merged state. Invariant: ``owners`` and the frame's elements have the same keys."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._frame = frame(node)
        self._elements: dict[str, dict[bytes, Value]] = {name: {} for name in self._frame.sets}
        self._owners: dict[str, dict[bytes, str]] = {name: {} for name in self._frame.sets}
        self._waiting: dict[tuple[str, bytes], dict[str, Value]] = {}
        self._fragments: dict[str, Fragment] = {}
        self._shared: dict[str, Chain] = {}

    def __len__(self) -> int:
        return len(self._fragments)

    @property
    def table_name(self) -> str:
        return self._frame.name

    def fragment(self, key: str) -> Fragment | None:
        return self._fragments.get(key)

    def change(self, changes: Changes) -> tuple[Table, Table]:
        """Take over fragments (None: the service is gone); the affected part of the table before and after."""
        before, after = Table(self._frame.name), Table(self._frame.name)
        touched: dict[str, dict[bytes, Value]] = {}
        missing: dict[str, set[bytes]] = {}
        for key, new in changes.items():
            old = self._fragments.get(key)
            if old is not None:
                for name, elements in old.elements.items():
                    # `touched` remembers the first value seen: the one the kernel has
                    for element in elements:
                        self._remember(touched, missing, name, element)
                        if new is None or element not in new.elements.get(name, ()):
                            self._take(name, element, key)
                before.chains.update(old.chains)
                before.sets.update(old.sets)
            if new is None:
                self._fragments.pop(key, None)
                continue
            for name, elements in new.elements.items():
                held, owners = self._elements[name], self._owners[name]
                for element, value in elements.items():
                    self._remember(touched, missing, name, element)
                    owner = owners.get(element)
                    if owner is None or owner == key:
                        held[element] = value
                        owners[element] = key
                    else:
                        self._waiting.setdefault((name, element), {})[key] = value
            after.chains.update(new.chains)
            after.sets.update(new.sets)
            for name in new.shared:
                if name not in self._shared:
                    self._shared[name] = shared_chain(name, self._node)
                    after.chains[name] = self._shared[name]
            self._fragments[key] = new
        for name in {*touched, *missing}:
            kind = self._frame.sets[name]
            held = self._elements[name]
            keys = {*touched.get(name, ()), *missing.get(name, ())}
            old_part = touched.get(name, {})
            before.sets[name] = _part(kind, old_part)
            after.sets[name] = _part(kind, {element: held[element] for element in keys if element in held})
        return before, after

    def _remember(
        self,
        touched: dict[str, dict[bytes, Value]],
        missing: dict[str, set[bytes]],
        name: str,
        element: bytes,
    ) -> None:
        seen = touched.get(name)
        if seen is None:
            seen = touched[name] = {}
            missing[name] = set()
        if element in seen or element in missing[name]:
            return
        held = self._elements[name]
        if element in held:
            seen[element] = held[element]
        else:
            missing[name].add(element)

    def _take(self, name: str, element: bytes, key: str) -> None:
        """``key`` no longer claims ``element``."""
        waiting = self._waiting.get((name, element))
        if self._owners[name].get(element) != key:
            if waiting is not None:
                waiting.pop(key, None)
                if not waiting:
                    del self._waiting[name, element]
            return
        if waiting:
            heir = min(waiting)
            self._elements[name][element] = waiting.pop(heir)
            self._owners[name][element] = heir
            if not waiting:
                del self._waiting[name, element]
        else:
            del self._elements[name][element]
            del self._owners[name][element]

    def table(self) -> Table:
        """Everything, for a full replacement. Shared chains nobody uses any more are left out."""
        used = {name for part in self._fragments.values() for name in part.shared}
        self._shared = {name: chain for name, chain in self._shared.items() if name in used}
        sets = {name: _part(kind, dict(self._elements[name])) for name, kind in self._frame.sets.items()}
        chains = {**self._frame.chains, **self._shared}
        for part in self._fragments.values():
            if part.chains:
                chains.update(part.chains)
                sets.update(part.sets)
        return Table(self._frame.name, sets, chains)


def plan(services: Iterable[Service], slices: Iterable[Slice], node: Node) -> Table:
    """The whole table for a snapshot."""
    by_service: dict[str, list[Slice]] = {}
    for part in slices:
        by_service.setdefault(part.service, []).append(part)
    ledger = Ledger(node)
    ledger.change(
        {
            service.key: fragment(service, by_service.get(service.key, ()), node)
            for service in sorted(services, key=lambda service: service.key)
        }
    )
    return ledger.table()


def _part(kind: Set, elements: dict[bytes, Value]) -> Set:
    return Set(kind.name, kind.key, kind.data, kind.verdicts, kind.timeout, elements)

"""What all verbs stand on: the store, the cache, and the guarded transaction."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from bamikube.api import errors, table
from bamikube.api.resources import Resource
from bamikube.apiserver.cache import Cache, Item, keys
from bamikube.apiserver.cache.item import encode
from bamikube.apiserver.catalog import definition_key
from bamikube.apiserver.registry.hooks import NOTHING, Extra, WriteHook
from bamikube.apiserver.registry.policy import EVENTS
from bamikube.apiserver.registry.recent import Recent
from bamikube.apiserver.registry.turns import Turns
from bamikube.kit.world import World
from bamikube.store.port import Compare, Delete, KeyValue, Put, Store, Txn

if TYPE_CHECKING:
    from bamikube.apiserver.admission import Admission, AdmissionContext
    from bamikube.apiserver.admission.quota_ledger import QuotaLedger
    from bamikube.apiserver.converting import Converter

TRIES = 12  # how often a write is tried against changing objects before the client is told
FREE_TRIES = 2  # how many of them before it takes turns with the others
LEASE_BUCKET = 60  # seconds of events that share one lease

# What other requests are judged or routed by; an acknowledged write of these must be known to this server.
READ_BACK = frozenset(
    {
        ("", "limitranges"),
        ("", "namespaces"),
        ("", "resourcequotas"),
        ("", "serviceaccounts"),
        ("networking.k8s.io", "servicecidrs"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "apiservices"),
        ("networking.k8s.io", "ingressclasses"),
        ("node.k8s.io", "runtimeclasses"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("rbac.authorization.k8s.io", "roles"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("storage.k8s.io", "storageclasses"),
    }
)

HookCall = Callable[[WriteHook], Awaitable[Extra]]


class DefinitionChanged(errors.ApiError):
    """A custom object was judged by a definition that is not what the store holds: judge it again.

    ``revision`` is the store's when that was found out.
    """

    def __init__(self, resource: Resource, revision: int) -> None:
        text = f"the definition of {resource.plural}.{resource.group} is changing; please try again"
        super().__init__(409, "Conflict", text)
        self.revision = revision


class Base:
    """Store, cache, world, admission and hooks, and the helpers every verb needs."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        world: World,
        *,
        admission: Admission | None = None,
        hooks: Sequence[WriteHook] = (),
        ledger: QuotaLedger | None = None,
        converter: Converter | None = None,
        event_ttl: int = 3600,
    ) -> None:
        self.store = store
        self.cache = cache
        self.world = world
        self.admission = admission
        self.hooks: list[WriteHook] = list(hooks)
        self.ledger = ledger
        self.converter = converter
        self.turns = Turns()
        self.recent = Recent()
        self._event_ttl = event_ttl
        self._lease: tuple[float, int] = (0.0, 0)

    # -- finding -------------------------------------------------------------------------------------------------

    def stored(self, resource: Resource) -> Resource:
        """The row in whose form objects of ``resource`` are kept."""
        return table.storage_row(resource)

    def key(self, resource: Resource, namespace: str, name: str) -> bytes:
        return keys.key(self.stored(resource), namespace, name)

    def cached(self, resource: Resource, namespace: str, name: str) -> Item | None:
        slot = self.cache.slot(resource.storage_key)
        return slot.items.get(f"{namespace}/{name}" if namespace else name)

    async def fetch(self, resource: Resource, namespace: str, name: str) -> Item | None:
        """The object as the store has it now."""
        return self.item_of(resource, await self.store.get(self.key(resource, namespace, name)))

    def item_of(self, resource: Resource, kv: KeyValue | None) -> Item | None:
        return Item.of(self.stored(resource), kv.value, kv.mod_revision) if kv is not None else None

    @staticmethod
    def missing(resource: Resource, name: str) -> errors.ApiError:
        return errors.not_found(resource.plural, name, resource.group)

    # -- writing -------------------------------------------------------------------------------------------------

    def hooks_of(self, resource: Resource) -> list[WriteHook]:
        return [hook for hook in self.hooks if hook.applies(resource)] if self.hooks else []

    async def lease_of(self, resource: Resource) -> int:
        """The lease an object of this resource lives on: events vanish after a while. 0 for all others."""
        if resource.storage_key != EVENTS or self._event_ttl <= 0:
            return 0
        now = self.world.clock.monotonic()
        until, lease = self._lease
        if not lease or now >= until:
            lease = await self.store.grant(self._event_ttl + LEASE_BUCKET)
            self._lease = (now + LEASE_BUCKET, lease)
        return lease

    async def extra(self, hooks: Sequence[WriteHook], call: HookCall) -> Extra:
        """The guards and writes of all hooks together."""
        if not hooks:
            return NOTHING
        guards: list[Compare] = []
        writes: list[Put | Delete] = []
        done: list[Callable[[], None]] = []
        for hook in hooks:
            one = await call(hook)
            guards += one.guards
            writes += one.writes
            done += one.done
        return Extra(guards, writes, done)

    async def put(
        self, resource: Resource, key: bytes, obj: dict[str, Any], guard: int, extra: Extra, *, lease: int = 0
    ) -> tuple[Item | None, KeyValue | None]:
        """One transaction: the object at ``key`` if it is still at revision ``guard``, together with ``extra``.

        Returns the new item, or None and what stood there when a guard failed. Raises :class:`DefinitionChanged` for a
        custom object whose definition another server has changed meanwhile.
        """
        value = encode(obj)
        guards = [Compare(key, guard), *extra.guards]
        if resource.custom is not None:
            guards.append(Compare(definition_key(resource), resource.custom.family.revision))
        writes = [Put(key, value, lease), *extra.writes]
        namespace = obj["metadata"].get("namespace", "")
        # A custom object enters the cache as any server will see it: by the storage version's fields and defaults.
        plain = obj if resource.custom is None else None
        if plain is not None:
            self.cache.writes(key, value, plain)
        try:
            if self.ledger is None or not self.ledger.watches(namespace, resource.storage_key):
                done = await self.store.txn(guards, writes)
            else:
                done = await self.counted(self.ledger, resource, obj["metadata"], obj, guards, writes)
        finally:
            self.cache.wrote(key, obj)
        if not done.succeeded:
            if resource.custom is not None:
                at = 1 + len(extra.guards)
                there = done.current[at]
                if there is None or there.mod_revision != guards[at].mod_revision:
                    raise DefinitionChanged(resource, done.revision)
            return None, done.current[0]
        for call in extra.done:
            call()
        item = self.cached(resource, namespace, obj["metadata"]["name"]) if plain is not None else None
        if item is None or item.revision != done.revision:  # else the watch was faster than the answer
            item = Item.of(self.stored(resource), value, done.revision, plain)
            self.cache.expect(key, done.revision, item)
        if resource.storage_key in READ_BACK:
            # Admission, authorization and allocation of the very next request read these from the cache: let it catch up.
            await self.cache.reach(done.revision, 1.0)
        return item, None

    async def counted(
        self,
        ledger: QuotaLedger,
        resource: Resource,
        metadata: dict[str, Any],
        new: dict[str, Any] | None,
        guards: Sequence[Compare],
        writes: Sequence[Put | Delete],
    ) -> Txn:
        """A transaction in a namespace that has quotas. ``guards[0]`` is the object's own; ``new`` None: it goes.

        Raises 403 when a quota has no room.
        """
        namespace, own = metadata.get("namespace", ""), guards[0]
        old: dict[str, Any] | None = None
        if own.mod_revision:
            item = self.cached(resource, namespace, metadata["name"])
            if item is None or item.revision != own.mod_revision:
                item = self.item_of(resource, await self.store.get(own.key))
            if item is None or item.revision != own.mod_revision:
                return await self.store.txn(guards, writes)  # somebody was faster: the guard says so
            old = item.obj
        return await ledger.write(self.store, resource, namespace, (old, new), guards, writes)

    def private(self, item: Item) -> dict[str, Any]:
        """A decoded copy of an item."""
        return item.decode()

    async def admit(self, ctx: AdmissionContext) -> None:
        if self.admission is not None:
            await self.admission.mutate(ctx)

    def changes(self, ctx: AdmissionContext) -> bool:
        """Whether mutating admission has anything to do with the request."""
        return self.admission is not None and self.admission.changes(ctx)

    async def judge(self, ctx: AdmissionContext) -> None:
        if self.admission is not None:
            await self.admission.validate(ctx)


def deep(obj: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares nothing; JSON values only."""
    try:
        copied: dict[str, Any] = orjson.loads(orjson.dumps(obj))
    except (TypeError, ValueError):
        return copy.deepcopy(obj)
    return copied


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether two objects are equal but for their resourceVersion."""
    if left.keys() != right.keys():
        return False
    for key, value in left.items():
        other = right[key]
        if key == "metadata":
            ours = {name: part for name, part in value.items() if name != "resourceVersion"}
            theirs = {name: part for name, part in other.items() if name != "resourceVersion"}
            if ours != theirs:
                return False
        elif value != other:
            return False
    return True

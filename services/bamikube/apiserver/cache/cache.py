"""The cache: one watch over the whole key space, and everything that follows from it.

The store's revision is store-wide, so only a watch over *all* keys sees every revision go by; that is what makes
"has the cache seen revision R?" a comparison of two numbers. One watch feeds every resource's :class:`Slot`: its
objects in key order, its window of recent events, its groups of watchers and its subscribers.

A consistent read asks the store for its revision and waits until the cache has come that far. The question is
shared: readers who arrive while one is under way need an answer that was given after they came, so they all wait
for the next one::

    readers      r1        r2 r3 r4
    questions    [--- q1 ---][--- q2 ---]      q1 answers r1; q2, asked when q1 ends, answers r2, r3 and r4

Which resources there are may change while the server runs. The objects of a *leading* resource (definitions of custom
resources) say so: their subscribers add and remove slots. A slot is there before the first event of its resource comes
by, because the store's order puts the definition first; a load reads the leading objects first.

When the watch cannot be resumed (compaction passed it) the cache loads everything anew and turns the difference
into events, so watchers see every object's present, though not each step on the way there.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bamikube.api import errors
from bamikube.api.resources import Resource
from bamikube.apiserver.cache import keys
from bamikube.apiserver.cache.item import Item
from bamikube.apiserver.cache.watcher import Filter, Group, Representation, Watcher
from bamikube.apiserver.cache.window import Event, Window
from bamikube.apiserver.registry.reader import ChangeCallback, ResourceKey
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.store.port import Change, Compacted, KeyValue, Put, Store, StoreError, Unavailable

log = logging.getLogger(__name__)

PAGE = 2_000  # keys a range of the initial load
# Seconds between two deliveries, at least: what happens meanwhile is gathered into one write. Each write to a watcher
# costs some 20 us however many events it holds, so the more watchers listen, the longer it pays to gather. An event that
# follows upon a pause is delivered at once.
FLUSH_PAUSE = 0.002
FLUSH_PAUSE_EACH = 0.0002
FLUSH_PAUSE_MAX = 0.02
BOOKMARK = b"/bamikube/bookmark"  # written to see our own watch move
NUDGE_AFTER = 0.1  # seconds a consistent read waits before it writes the bookmark
# Questions of GETs under way at once: with one, a reader waits one and a half times as long as the store takes; with more
# than two, fewer share one.
QUESTIONS = 2


class Slot:
    """One stored resource in the cache."""

    def __init__(self, cache: Cache, resource: Resource, floor: int) -> None:
        self._cache = cache
        self.resource = resource
        self.items: dict[str, Item] = {}
        self.keys: list[str] = []  # of items, sorted as the store sorts them
        self.changed = floor  # revision of the last change of this resource
        self.window = Window(floor)
        self.unflushed: list[Event] = []
        self.groups: dict[str, dict[Any, Group]] = {}  # by namespace ("" for all), then question and form
        self.subscribers: list[
            tuple[ChangeCallback, str]
        ] = []  # and the only object one asks about, "" for all
        self.delivered = 0  # events handed to watchers, each as often as it was

    def put(self, item: Item) -> Item | None:
        """Take an item in without an event. Returns what it replaces."""
        old = self.items.get(item.key)
        if old is None:
            insort(self.keys, item.key)
        self.items[item.key] = item
        return old

    def remove(self, key: str) -> Item | None:
        item = self.items.pop(key, None)
        if item is not None:
            at = bisect_left(self.keys, key)
            del self.keys[at]
        return item

    def record(self, old: Item | None, new: Item | None, revision: int) -> None:
        event = Event(old, new, revision, self._cache.world.clock.monotonic())
        self.changed = revision
        self.window.append(event)
        if self.groups:
            self.unflushed.append(event)
            self._cache.dirty[self] = None
        item = new or old
        for callback, only in self.subscribers:
            if only and item is not None and only != item.key:
                continue
            kind = "ADDED" if old is None else "DELETED" if new is None else "MODIFIED"
            try:
                callback(kind, old.obj if old else None, new.obj if new else None)
            except Exception:
                log.exception("a subscriber of %s failed", self.resource.plural)

    def select(self, namespace: str = "", start: str = "") -> list[str]:
        """Keys in order, of one namespace or all, from ``start`` on."""
        low, high = 0, len(self.keys)
        if namespace and self.resource.namespaced:
            low = bisect_left(self.keys, namespace + "/")
            high = bisect_left(self.keys, namespace + "0")  # "0" follows "/"
        if start:
            low = max(low, bisect_left(self.keys, start))
        return self.keys[low:high]

    def count(self, namespace: str = "") -> int:
        """How many objects there are, in one namespace or all."""
        if not namespace or not self.resource.namespaced:
            return len(self.keys)
        return bisect_left(self.keys, namespace + "0") - bisect_left(self.keys, namespace + "/")

    def reached(self) -> int:
        return self._cache.revision

    def listening(self) -> int:
        """How many watchers there are."""
        return sum(len(group.members) for within in self.groups.values() for group in within.values())

    def flush(self) -> None:
        """Hand what has gathered to the watchers. Never waits."""
        events = self.unflushed
        if not events:
            return
        self.unflushed = []
        reached = self._cache.revision
        for group in self.groups.get("", {}).values():
            self.delivered += group.deliver(events, reached)
        if len(self.groups) > ("" in self.groups):
            by_namespace: dict[str, list[Event]] = {}
            for event in events:
                item = event.new or event.old
                assert item is not None
                by_namespace.setdefault(item.namespace, []).append(event)
            for namespace, some in by_namespace.items():
                if namespace:
                    for group in self.groups.get(namespace, {}).values():
                        self.delivered += group.deliver(some, reached)

    def end(self) -> None:
        """Hand over what has gathered, and let every watch end."""
        self.flush()
        for within in self.groups.values():
            for group in within.values():
                for watcher in group.members:
                    watcher.end()

    def join(self, wanted: Filter, shown: Representation, *, bookmarks: bool) -> Watcher:
        """A watcher that gets everything after the cache's present revision."""
        self.flush()
        name = (wanted.question, shown.form)
        within = self.groups.setdefault(wanted.namespace, {})
        group = within.get(name)
        if group is None:
            group = within[name] = Group(wanted, shown)
        watcher = Watcher(self, group, self._cache.revision, bookmarks=bookmarks)
        group.members[watcher] = None
        self._cache.watchers[watcher] = None
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._cache.watchers.pop(watcher, None)
        group = watcher.group
        group.members.pop(watcher, None)
        if not group.members:
            within = self.groups.get(group.wanted.namespace, {})
            within.pop((group.wanted.question, group.shown.form), None)
            if not within:
                self.groups.pop(group.wanted.namespace, None)


class Cache:
    """Everything in the store, as of ``revision``. Also the :class:`Reader` of the rest of the API server."""

    def __init__(
        self,
        store: Store,
        resources: Iterable[Resource],
        world: World,
        tasks: Tasks,
        *,
        leading: ResourceKey | None = None,
    ) -> None:
        self._store = store
        self._leading = leading
        self.world = world
        self.synced = asyncio.Event()
        self.revision = 0
        self.dirty: dict[Slot, None] = {}  # dictionaries, not sets: their order is that of arrival
        self.watchers: dict[Watcher, None] = {}
        self._tasks = tasks
        rows = list(resources)
        self._resolver = keys.Resolver(rows)
        self._slots = {row.key: Slot(self, row, 0) for row in rows}
        self._loaded = 0  # the revision of the last load: nothing is known of what happened before
        self._hints: dict[bytes, tuple[int, Item]] = {}
        self._written: dict[
            bytes, tuple[bytes, dict[str, Any]]
        ] = {}  # what is being written, and what it says
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._question: asyncio.Task[int] | None = None
        self._next: asyncio.Future[int] | None = None
        self._askers: list[Callable[[bool], None]] = []
        self._asking = 0  # tasks that ask for them
        self._gathering = False  # one of these has not begun: it will ask for whoever comes until then
        self._flush_timer: asyncio.TimerHandle | None = None
        self._flushed_at = 0.0
        self._fed_at = 0.0

    # -- reading -------------------------------------------------------------------------------------------------

    def slot(self, resource_key: ResourceKey) -> Slot:
        """The slot of a storage key. Raises ApiError 404 for a resource that is not there, or no longer."""
        try:
            return self._slots[resource_key]
        except KeyError:
            raise errors.no_such_path() from None

    def add(self, resource: Resource, revision: int) -> None:
        """A resource that exists since ``revision``; no event of it has passed by."""
        self._slots[resource.key] = Slot(self, resource, max(revision, self._loaded))
        self._resolver.add(resource)

    def replace(self, resource: Resource, *, renew: bool) -> None:
        """A resource's row has changed. ``renew``: so has the form of its objects, and whoever watches starts anew."""
        slot = self._slots[resource.key]
        slot.resource = resource
        self._resolver.add(resource)
        if not renew:
            return
        slot.end()
        for key, item in slot.items.items():
            slot.items[key] = Item.of(resource, item.stored, item.revision)

    def remove(self, resource: Resource) -> None:
        """A resource is gone, and with it its watchers and whatever the store still holds."""
        slot = self._slots.pop(resource.key, None)
        self._resolver.remove(resource)
        if slot is not None:
            slot.end()

    def slots(self) -> Iterable[Slot]:
        """Every stored resource."""
        return self._slots.values()

    def get(self, resource_key: ResourceKey, namespace: str, name: str) -> dict[str, Any] | None:
        slot = self._slots.get(resource_key)
        item = slot.items.get(f"{namespace}/{name}" if namespace else name) if slot else None
        return item.obj if item else None

    def list(self, resource_key: ResourceKey, namespace: str = "") -> list[dict[str, Any]]:
        slot = self._slots.get(resource_key)
        return [slot.items[key].obj for key in slot.select(namespace)] if slot else []

    def subscribe(self, resource_key: ResourceKey, callback: ChangeCallback, only: str = "") -> None:
        slot = self.slot(resource_key)
        slot.subscribers.append((callback, only))
        for key in slot.keys:
            if not only or key == only:
                callback("ADDED", None, slot.items[key].obj)

    def expect(self, key: bytes, revision: int, item: Item) -> None:
        """A write of our own that the watch will bring: its item need not be decoded again."""
        if revision > self.revision:
            self._hints[key] = (revision, item)

    def writes(self, key: bytes, value: bytes, obj: dict[str, Any]) -> None:
        """A write of ours begins, of ``value``, which says ``obj``: the watch may bring it before its answer comes, and it
        need not be decoded again. When it is over, :meth:`wrote` has to be told."""
        self._written[key] = (value, obj)

    def wrote(self, key: bytes, obj: dict[str, Any]) -> None:
        mine = self._written.get(key)
        if mine is not None and mine[1] is obj:
            del self._written[key]

    async def reach(self, revision: int, timeout: float = 3.0) -> bool:
        """Wait until the cache has seen ``revision``. False when it did not within ``timeout`` seconds."""
        if self.revision >= revision and self.synced.is_set():
            return True
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (revision, arrived)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await arrived
            return True
        except TimeoutError:
            return False
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    async def store_size(self) -> int:
        """The bytes the store takes. Raises StoreError."""
        return await self._store.size()

    async def current(self) -> int:
        """The store's revision, asked after this call began; the question is shared."""
        answer: asyncio.Future[int]
        if self._question is None:
            try:
                answer = self._ask()
            except RuntimeError:
                raise Unavailable("the server is stopping") from None
        else:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            answer = self._next
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if answer.cancelled() and not (me is not None and me.cancelling()):
                # The question was ended, not the one who asked: he gets an answer, too.
                raise Unavailable("the server is stopping") from None
            raise

    def _ask(self) -> asyncio.Task[int]:
        task = self._tasks.spawn(self._store.revision(), "revision")
        self._question = task
        task.add_done_callback(self._answered)
        return task

    def _answered(self, task: asyncio.Task[int]) -> None:
        self._question = None
        if not task.cancelled():
            task.exception()  # each waiter gets it; nobody waiting is no mistake
        follower, self._next = self._next, None
        if follower is None:
            return
        try:
            following = self._ask()
        except RuntimeError:  # the server is stopping
            follower.cancel()
            return

        def pass_on(done: asyncio.Task[int]) -> None:
            if follower.done():
                return
            if done.cancelled():
                follower.cancel()
            elif (error := done.exception()) is not None:
                follower.set_exception(error)
                follower.exception()
            else:
                follower.set_result(done.result())

        following.add_done_callback(pass_on)

    async def consistent(self, timeout: float = 3.0) -> bool:
        """Wait until the cache is at least as new as the store was when this was called.

        A revision may belong to somebody else who shares the etcd (``--etcd-prefix``): no event of ours comes with
        it. So after a moment a bookmark key is written; its event says that everything before it has been seen.
        """
        return await self._caught_up(await self.current(), timeout)

    async def _caught_up(self, wanted: int, timeout: float) -> bool:
        """Wait until ``wanted`` has been seen, or a bookmark that was written after it."""
        if await self.reach(wanted, NUDGE_AFTER):
            return True
        if self.synced.is_set():
            await self._store.txn([], [Put(BOOKMARK, b"")])
        return await self.reach(wanted, timeout)

    def when_consistent(self, tell: Callable[[bool], None]) -> None:
        """Call ``tell(True)`` once the cache is as new as the store is now, ``tell(False)`` when that cannot be had.

        All that ask while two questions are under way share the next one.
        """
        self._askers.append(tell)
        if self._gathering or self._asking == QUESTIONS:
            return
        try:
            self._tasks.spawn(self._tell_askers(), "consistent")
        except RuntimeError:  # the server is stopping
            self._askers.remove(tell)
            tell(False)
        else:
            self._gathering = True
            self._asking += 1

    async def _tell_askers(self) -> None:
        try:
            while self._askers:
                asked, self._askers = self._askers, []
                self._gathering = False
                consistent = False
                try:
                    # A question of their own: sharing one with current() would cost two more tasks.
                    consistent = await self._caught_up(await self._store.revision(), 0.25)
                except StoreError as error:
                    log.debug("readers go and ask the store themselves: %s", error)
                finally:
                    for tell in asked:
                        try:
                            tell(consistent)
                        except Exception:
                            log.exception("a reader failed")
        finally:
            self._asking -= 1
            self._gathering = False
            left, self._askers = self._askers, []
            for tell in left:  # only when this task was ended
                tell(False)

    @property
    def age(self) -> float:
        """Seconds since the cache last heard of the store."""
        return self.world.clock.monotonic() - self._fed_at

    # -- feeding -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Load, then follow the store for ever."""
        pause = 0.1
        while True:
            try:
                await self._load()
                pause = 0.1
                async for changes in self._store.watch(b"", self.revision + 1):
                    self.feed(changes)
                log.warning("the store's watch ended; loading again")
            except Compacted:
                log.warning("the store compacted history the cache had not seen; loading again")
            except StoreError as error:
                log.warning("the store cannot be followed (%s); trying again in %.1f s", error, pause)
            await self.world.clock.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _load(self) -> None:
        """Read everything at one revision; what differs from what is known becomes events."""
        page = await self._store.range(keys.ROOT, limit=PAGE)
        revision = page.revision
        there = list(page.kvs)
        while page.more and page.kvs:
            start = page.kvs[-1].key + b"\0"
            page = await self._store.range(keys.ROOT, limit=PAGE, start=start, revision=revision)
            there += page.kvs
        # From here on nothing waits: readers see the old state or the new one.
        fresh = not self.synced.is_set()
        self._loaded = revision
        leading = self._slots.get(self._leading) if self._leading is not None else None
        if leading is not None:
            first = keys.prefix(leading.resource)
            self._take(there, [leading], revision, fresh)
            there = [kv for kv in there if not kv.key.startswith(first)]
        rest = [slot for slot in self._slots.values() if slot is not leading]
        self._take(there, rest, revision, fresh)
        self._advance(revision)
        if fresh:
            self.synced.set()
            self._advance(revision)
        self._schedule_flush()
        count = sum(len(slot.items) for slot in self._slots.values())
        log.info("cache loaded: %d objects at revision %d", count, revision)

    def _take(self, there: Sequence[KeyValue], slots: Sequence[Slot], revision: int, fresh: bool) -> None:
        """Let ``slots`` hold what ``there``, everything in the store at ``revision``, has for them."""
        seen: dict[Slot, set[str]] = {slot: set() for slot in slots}
        news: list[tuple[int, Slot, Item | None, Item | None]] = []
        for kv in there:
            found = self._resolver.resolve(kv.key)
            if found is None:
                continue
            slot = self._slots[found[0].key]
            if slot not in seen:
                continue
            seen[slot].add(found[1])
            known = slot.items.get(found[1])
            if known is not None and known.revision == kv.mod_revision:
                continue
            item = self._item(found[0], kv.key, kv.value, kv.mod_revision)
            if item is not None:
                news.append((kv.mod_revision, slot, slot.put(item), item))
        for slot, names in seen.items():
            for key in [key for key in slot.items if key not in names]:
                news.append((revision, slot, slot.remove(key), None))
        if fresh:
            for slot in slots:
                slot.window.floor = slot.changed = revision
                for callback, only in slot.subscribers:
                    for key in slot.keys:
                        if not only or key == only:
                            callback("ADDED", None, slot.items[key].obj)
        else:
            for at, slot, old, new in sorted(news, key=lambda entry: entry[0]):
                slot.record(old, new, at)

    def _item(self, resource: Resource, key: bytes, value: bytes, revision: int) -> Item | None:
        hint = self._hints.pop(key, None)
        if hint is not None and hint[0] == revision:
            return hint[1]
        mine = self._written.get(key)
        try:
            return Item.of(
                resource, value, revision, mine[1] if mine is not None and mine[0] == value else None
            )
        except (ValueError, AttributeError) as error:
            log.error(
                "the object at %s cannot be read and is left out: %s", key.decode("utf-8", "replace"), error
            )
            return None

    def feed(self, changes: Sequence[Change]) -> None:
        """Take a batch of the store's changes in. Never waits."""
        if not changes:
            return
        for change in changes:
            found = self._resolver.resolve(change.key)
            if found is None:
                continue
            resource, rest = found
            slot = self._slots[resource.key]
            if change.value is None:
                self._hints.pop(change.key, None)
                old = slot.remove(rest)
                if old is not None:
                    slot.record(old, None, change.mod_revision)
                continue
            item = self._item(resource, change.key, change.value, change.mod_revision)
            if item is not None:
                slot.record(slot.put(item), item, change.mod_revision)
        self._advance(changes[-1].mod_revision)
        self._schedule_flush()

    def _advance(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        self._fed_at = self.world.clock.monotonic()
        if self._waiting and self.synced.is_set():
            left = []
            for wanted, arrived in self._waiting:
                if wanted > self.revision:
                    left.append((wanted, arrived))
                elif not arrived.done():
                    arrived.set_result(None)
            self._waiting = left
        if len(self._hints) > 10_000:  # writes whose events never came: a lost watch
            self._hints.clear()

    def _schedule_flush(self) -> None:
        if not self.dirty or self._flush_timer is not None:
            return
        listening = sum(slot.listening() for slot in self.dirty)
        pause = min(FLUSH_PAUSE_MAX, FLUSH_PAUSE + FLUSH_PAUSE_EACH * listening)
        left = self._flushed_at + pause - self.world.clock.monotonic()
        if left <= 0:
            self.flush()
        else:
            self._flush_timer = asyncio.get_running_loop().call_later(left, self._flush_now)

    def _flush_now(self) -> None:
        self._flush_timer = None
        self.flush()

    def flush(self) -> None:
        """Deliver what has gathered to all watchers."""
        dirty, self.dirty = self.dirty, {}
        for slot in dirty:
            slot.flush()
        self._flushed_at = self.world.clock.monotonic()

    def end_watchers(self) -> None:
        """Let every stream end cleanly: the server is going away."""
        for watcher in list(self.watchers):
            watcher.end()

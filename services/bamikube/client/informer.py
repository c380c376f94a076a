"""An informer: a local copy of a collection that follows the server.

It lists once, then watches from the list's revision. When the watch ends it resumes from the last revision it has
seen; when that revision is too old (410) it lists again and works out what changed. Callbacks run synchronously, in
order, and see every object: initial ones with ``old`` None. Nobody should answer "not found" from an informer before
``synced`` is set.

``project`` keeps memory slim: it is given each decoded object and returns what is worth keeping (or None to skip it).
Worked example: the list at revision 10 holds ``a``; the watch breaks at 15, resumes from 15, is told 410; the second
list at 40 holds ``b`` only - the callbacks see ``a`` (initial), then ``a`` deleted, then ``b`` added. What the second list
shows unchanged is not told again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.client.client import Client, row_of
from bamikube.kit.backoff import Backoff
from bamikube.kit.world import World

log = logging.getLogger(__name__)

Callback = Callable[[str, Any, Any], None]

# How long one watch request lasts, in seconds, before it is renewed; spread so that a fleet does not reconnect at once.
WATCH_SECONDS = (300, 600)

# Bookmarks come about every minute, so a watch that says nothing for this many seconds has died without a word: the
# server's machine is gone, or the server hangs while its kernel goes on answering.
SILENCE = 200.0

# Page size of the initial list.
PAGE = 1000


def key_of(obj: dict[str, Any]) -> str:
    """``namespace/name``, or ``name`` for cluster-scoped objects."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def split_key(key: str) -> tuple[str, str]:
    """``(namespace, name)`` of a key; the namespace is empty for cluster-scoped objects."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


class Informer:
    """A synced local copy of one collection, or of the part that the selectors choose."""

    def __init__(
        self,
        client: Client,
        resource: str | Resource,
        world: World,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        project: Callable[[dict[str, Any]], Any] | None = None,
        fresh: bool = False,
        metadata: bool = False,
    ) -> None:
        """``fresh`` makes the very first list a consistent one too, for readers who act on what they see missing.

        ``metadata`` asks for the metadata of objects and nothing else.
        """
        self._row = row_of(resource)
        self.resource = resource if isinstance(resource, str) else f"{resource.plural}.{resource.group}"
        self._metadata = metadata
        self.synced = asyncio.Event()
        self.revision = ""
        self._client = client
        self._world = world
        self._select = {"namespace": namespace, "labels": labels, "fields": fields}
        self._project = project
        self._fresh = fresh
        self._objects: dict[str, Any] = {}
        self._uids: dict[str, str] = {}  # of the objects, which projections may leave out
        self._callbacks: list[Callback] = []
        self._indexes: dict[
            str, tuple[Callable[[Any], Iterable[Hashable]], dict[Hashable, dict[str, Any]]]
        ] = {}

    def on_change(self, callback: Callback) -> None:
        """``callback(key, old, new)``; ``new`` is None for a deletion. Must be set before ``run``."""
        self._callbacks.append(callback)

    def add_index(self, name: str, values: Callable[[Any], Iterable[Hashable]]) -> None:
        """Keep objects findable by what ``values`` returns for them."""
        index: dict[Hashable, dict[str, Any]] = {}
        for key, obj in self._objects.items():
            for value in values(obj):
                index.setdefault(value, {})[key] = obj
        self._indexes[name] = (values, index)

    def by_index(self, name: str, value: Hashable) -> list[Any]:
        return list(self._indexes[name][1].get(value, {}).values())

    def get(self, key: str) -> Any | None:
        return self._objects.get(key)

    def items(self) -> list[Any]:
        return list(self._objects.values())

    def keys(self) -> list[str]:
        return list(self._objects)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        backoff = Backoff(0.2, 10.0, 2.0, 0.2, self._world.chance)
        while True:
            try:
                if not self.revision:
                    await self._relist()
                await self._follow(backoff)
            except ApiError as error:
                if (error.code == 410 or _too_new(error)) and self.revision:
                    # Too old: compacted. Too new: the server lags far behind, or its store was restored from a backup.
                    log.debug(
                        "%s: revision %s cannot be followed, listing again", self.resource, self.revision
                    )
                    self.revision = ""
                    continue
                delay = backoff.next()
                log.warning("%s: %s; trying again in %.1f s", self.resource, error.message, delay)
                await self._world.clock.sleep(delay)
            except (OSError, TimeoutError) as error:
                delay = backoff.next()
                log.info("%s: lost the API server (%s); trying again in %.1f s", self.resource, error, delay)
                await self._world.clock.sleep(delay)

    async def _relist(self) -> None:
        seen: dict[str, Any] = {}
        token = ""
        # Resource version 0 lets the server answer the first page from its cache, as old as that may be; a client
        # that has seen something newer must not go back in time, so only the first list asks for it.
        version = "0" if not self.synced.is_set() and not self._fresh else None
        while True:
            page = await self._client.list(
                self._row,
                self._select["namespace"],
                labels=self._select["labels"],
                fields=self._select["fields"],
                metadata=self._metadata,
                resource_version=None if token else version,
                limit=0 if version == "0" else PAGE,
                continue_=token,
            )
            for obj in page.get("items") or []:
                # Items of a typed list may come without their kind; whoever keeps one wants to know what it is.
                obj.setdefault("apiVersion", self._row.api_version)
                obj.setdefault("kind", self._row.kind)
                seen[key_of(obj)] = obj
            token = page["metadata"].get("continue", "")
            if not token:
                break
        for key in [key for key in self._objects if key not in seen]:
            self._remove(key)
        for key, obj in seen.items():
            self._set(key, obj)
        self.revision = page["metadata"]["resourceVersion"]
        self.synced.set()

    async def _follow(self, backoff: Backoff) -> None:
        timeout = self._world.chance.randrange(*WATCH_SECONDS)
        events = self._client.watch(
            self._row,
            self._select["namespace"],
            labels=self._select["labels"],
            fields=self._select["fields"],
            metadata=self._metadata,
            resource_version=self.revision,
            timeout=timeout,
        )
        started = self._world.clock.monotonic()
        while True:
            try:
                async with asyncio.timeout(SILENCE):
                    event = await anext(events)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise ConnectionError(f"the watch said nothing for {SILENCE:.0f} s") from None
            if event.type == "DELETED":
                self._remove(key_of(event.object))
            elif event.type != "BOOKMARK":
                self._set(key_of(event.object), event.object)
            self.revision = event.object["metadata"]["resourceVersion"]
            backoff.reset()
        if self._world.clock.monotonic() - started < 1.0:
            # A server that ends watches at once (it is stopping) must not be asked in a tight loop.
            await self._world.clock.sleep(backoff.next())

    def _set(self, key: str, obj: dict[str, Any]) -> None:
        if self._project is None:
            # Nobody here looks at it, and whoever writes the object back without it changes nothing.
            obj["metadata"].pop("managedFields", None)
        kept = self._project(obj) if self._project is not None else obj
        if kept is None:
            self._remove(key)
            return
        uid = str(obj["metadata"].get("uid") or "")
        if self._uids.get(key, uid) != uid:
            # The name was given anew while we did not look: an end and a beginning, not a change.
            self._remove(key)
        self._uids[key] = uid
        old = self._objects.get(key)
        if old is not None and self._project is None and _version(old) == _version(kept):
            return  # seen before: a list after a lost watch holds mostly what is known
        self._objects[key] = kept
        self._reindex(key, old, kept)
        self._tell(key, old, kept)

    def _remove(self, key: str) -> None:
        old = self._objects.pop(key, None)
        self._uids.pop(key, None)
        if old is None:
            return
        self._reindex(key, old, None)
        self._tell(key, old, None)

    def _reindex(self, key: str, old: Any, new: Any) -> None:
        for values, index in self._indexes.values():
            if old is not None:
                for value in values(old):
                    held = index.get(value)
                    if held is not None:
                        held.pop(key, None)
                        if not held:
                            del index[value]
            if new is not None:
                for value in values(new):
                    index.setdefault(value, {})[key] = new

    def _tell(self, key: str, old: Any, new: Any) -> None:
        for callback in self._callbacks:
            try:
                callback(key, old, new)
            except Exception:
                # One wrong callback must not end the copy that others stand on.
                log.exception("%s: a callback failed for %s", self.resource, key)


def _version(obj: dict[str, Any]) -> str:
    return str(obj["metadata"].get("resourceVersion") or id(obj))


def _too_new(error: ApiError) -> bool:
    """Whether the server has not come as far as the revision we asked for."""
    causes = (error.details or {}).get("causes") or []
    return error.code == 504 and any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes)


async def wait_synced(*informers: Informer) -> None:
    """Return when all of them hold a complete copy."""
    for informer in informers:
        await informer.synced.wait()

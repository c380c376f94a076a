"""get, list and watch.

What ``resourceVersion`` means, and where the answer comes from:

====================  ==========================================  ===========================
version               get, list                                   watch
====================  ==========================================  ===========================
not given             as new as the store (cache, after asking)   present state, then changes
``0``                 whatever the cache has                      present state, then changes
N                     not older than N (cache)                    changes after N
N, ``Exact`` (list)   exactly N (cache if unchanged, else store)  -
====================  ==========================================  ===========================

A list cut by ``limit`` goes on with a ``continue`` token that names the revision and the next key, so all pages show
one revision. When that revision is compacted the answer is 410 Expired, with a token that goes on at what there is. Source: Kubernetes' "API concepts".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from bamikube.api import conversion, errors, gojson
from bamikube.api.errors import Cause
from bamikube.api.resources import Resource
from bamikube.apiserver.cache import Filter, Item, Representation
from bamikube.apiserver.cache import keys as storage_keys
from bamikube.apiserver.cache.cache import Slot
from bamikube.apiserver.converting import calls_out
from bamikube.apiserver.registry.base import Base
from bamikube.kit.http import Stream
from bamikube.store.port import Compacted, FutureRevision

WAIT = 3.0  # seconds a reader waits for the cache before it asks the store itself
PAGE = 500  # keys a page of a past revision
EXPIRED = "The resourceVersion for the provided list is too old."
EXPIRED_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
INCONSISTENT = -1  # the revision in a token that goes on with whatever there is


@dataclass(frozen=True, slots=True)
class ListOptions:
    """The parameters of list and watch."""

    resource_version: str = ""
    match: str = ""
    limit: int = 0
    token: str = ""
    timeout: float | None = None
    bookmarks: bool = False
    initial_events: bool | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One page: the items and the list's metadata."""

    items: list[Item]
    revision: int
    token: str = ""
    remaining: int | None = None

    def metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if self.token:
            metadata["continue"] = self.token
            if self.remaining is not None:
                metadata["remainingItemCount"] = self.remaining
        return metadata


def parse_version(text: str) -> int:
    """A resourceVersion as a number. Raises 400."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise errors.bad_request(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def _forbidden(field: str, message: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {message}", field)


def _unknown_match(match: str, *supported: str) -> Cause:
    words = ", ".join(f'"{word}"' for word in supported)
    text = f'Unsupported value: "{match}": supported values: {words}'
    return Cause("FieldValueNotSupported", text, "resourceVersionMatch")


def _of_list(options: ListOptions) -> list[Cause]:
    causes: list[Cause] = []
    field, match = "resourceVersionMatch", options.match
    if match:
        if not options.resource_version:
            causes.append(_forbidden(field, f"{field} is forbidden unless resourceVersion is provided"))
        if options.token:
            causes.append(_forbidden(field, f"{field} is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            causes.append(_unknown_match(match, "Exact", "NotOlderThan", ""))
        if match == "Exact" and options.resource_version == "0":
            causes.append(_forbidden(field, f'{field} "exact" is forbidden for resourceVersion "0"'))
    if options.initial_events is not None:
        causes.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _of_watch(options: ListOptions) -> list[Cause]:
    causes: list[Cause] = []
    field, match = "resourceVersionMatch", options.match
    if options.initial_events is not None and match != "NotOlderThan":
        text = f"sendInitialEvents requires setting {field} to NotOlderThan"
        causes.append(_forbidden(field, text))
    if match:
        if options.initial_events is None:
            text = f"{field} is forbidden for watch unless sendInitialEvents is provided"
            causes.append(_forbidden(field, text))
        if match != "NotOlderThan":
            causes.append(_unknown_match(match, "NotOlderThan"))
        if options.token:
            causes.append(_forbidden(field, f"{field} is forbidden when continue is provided"))
    return causes


def check_options(options: ListOptions, *, watch: bool) -> None:
    """Combinations that make no sense are refused as Kubernetes refuses them (422 ListOptions)."""
    if not options.match and options.initial_events is None:
        return
    causes = _of_watch(options) if watch else _of_list(options)
    if causes:
        raise errors.invalid("ListOptions", "", causes, "meta.k8s.io")


def future_version(wanted: int, current: int) -> errors.ApiError:
    """The version asked for has not happened here yet."""
    return errors.ApiError(
        504,
        "Timeout",
        f"Too large resource version: {wanted}, current: {current}",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        {"Retry-After": "1"},
    )


def make_token(revision: int, start: str) -> str:
    """An opaque continue token: the revision, and the key the next page starts at."""
    return (
        base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start}))
        .decode()
        .rstrip("=")
    )


def read_token(token: str) -> tuple[int, str]:
    """Raises 400 for something we did not make."""
    if odd := _NO_TOKEN.search(token):
        raise _no_token(f": illegal base64 data at input byte {odd.start()}")
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except binascii.Error:
        raise _no_token(f": illegal base64 data at input byte {len(token)}") from None
    try:
        parts = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _no_token(f": {gojson.syntax_error(text) or error}") from None
    if not isinstance(parts, dict):
        raise _no_token(
            f": json: cannot unmarshal {gojson.kind_of(parts)} into Go value of type storage.continueToken"
        )
    if parts.get("v") != "meta.k8s.io/v1":
        raise _no_token(
            ": server does not recognize this encoded version " + json.dumps(parts.get("v") or "")
        )
    revision, start = parts.get("rv"), parts.get("start")
    if type(revision) is not int or not (0 < revision < 1 << 63 or revision == INCONSISTENT):
        raise _no_token(": incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not isinstance(start, str) or not start:
        raise _no_token(": encoded start key empty (version meta.k8s.io/v1)")
    return revision, start


_NO_TOKEN = re.compile(r"[^A-Za-z0-9_-]")


def _no_token(why: str) -> errors.ApiError:
    return errors.bad_request(f"invalid continue token: continue key is not valid{why}")


class Reading(Base):
    """The reading verbs."""

    async def get_item(self, resource: Resource, namespace: str, name: str, version: str = "") -> Item:
        """One object, as new as ``version`` asks for. Raises 404."""
        cache = self.cache
        if version:
            wanted = parse_version(version)
            if cache.revision < wanted and not await cache.reach(wanted, WAIT):
                raise future_version(wanted, cache.revision)
            item = self.cached(resource, namespace, name)
        elif await cache.consistent(WAIT):
            item = self.cached(resource, namespace, name)
        else:
            item = await self.fetch(resource, namespace, name)
        if item is None:
            raise self.missing(resource, name)
        return item

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """One object, decoded, consistent. Raises 404."""
        item = await self.get_item(resource, namespace, name)
        if self.converter is not None and calls_out(resource):
            return (await self.converter.objects(resource, [item.decode()]))[0]
        return conversion.from_storage(resource, item.decode())

    async def list_items(self, resource: Resource, wanted: Filter, options: ListOptions) -> Listed:
        """A page of objects. Raises 400, 410, 504.

        Versions that a webhook makes are selected by what it made of them: the items are in ``resource``'s version
        then, and a page may hold fewer than ``limit``.
        """
        if self.converter is None or not wanted.deep or not calls_out(resource):
            return await self._list_stored(resource, wanted, options)
        listed = await self._list_stored(resource, Filter(wanted.namespace), options)
        items = await self.converter.items(resource, listed.items)
        return Listed([item for item in items if wanted.matches(item)], listed.revision, listed.token)

    async def _list_stored(self, resource: Resource, wanted: Filter, options: ListOptions) -> Listed:
        check_options(options, watch=False)
        cache = self.cache
        slot = cache.slot(resource.storage_key)
        limit = options.limit
        if options.token:
            if options.resource_version not in ("", "0"):
                raise errors.bad_request("specifying resource version is not allowed when using continue")
            revision, start = read_token(options.token)
            if revision == INCONSISTENT:
                if await cache.consistent(WAIT):
                    return self._from_cache(slot, wanted, cache.revision, start, limit)
                return await self._from_store(resource, wanted, 0, start, limit)
            return await self._at(resource, slot, wanted, revision, start, limit)
        version = parse_version(options.resource_version)
        if options.match == "Exact":
            return await self._at(resource, slot, wanted, version, "", limit)
        if options.resource_version:
            if cache.revision < version and not await cache.reach(version, WAIT):
                raise future_version(version, cache.revision)
            if version == 0 and not options.match:
                limit = 0  # a list of anything there is comes whole, as from Kubernetes' watch cache
        elif not await cache.consistent(WAIT):
            return await self._from_store(resource, wanted, 0, "", limit)
        return self._from_cache(slot, wanted, cache.revision, "", limit)

    async def _at(
        self, resource: Resource, slot: Slot, wanted: Filter, revision: int, start: str, limit: int
    ) -> Listed:
        """A past revision: from the cache while nothing of this resource has changed since, else from history."""
        if self.cache.revision < revision and not await self.cache.reach(revision, WAIT):
            raise future_version(revision, self.cache.revision)
        if slot.changed <= revision:
            return self._from_cache(slot, wanted, revision, start, limit)
        return await self._from_store(resource, wanted, revision, start, limit)

    def _from_cache(self, slot: Slot, wanted: Filter, revision: int, start: str, limit: int) -> Listed:
        keys = slot.select(wanted.namespace, start)
        items = slot.items
        if not limit or len(keys) <= limit:
            found = [items[key] for key in keys]
            if wanted.selective:
                found = [item for item in found if wanted.matches(item)]
            if not limit or len(found) <= limit:
                return Listed(found, revision)
            return Listed(found[:limit], revision, make_token(revision, found[limit - 1].key + "\0"))
        if not wanted.selective:
            page = [items[key] for key in keys[:limit]]
            return Listed(page, revision, make_token(revision, page[-1].key + "\0"), len(keys) - limit)
        page = []
        for key in keys:
            item = items[key]
            if wanted.matches(item):
                if len(page) == limit:
                    return Listed(page, revision, make_token(revision, page[-1].key + "\0"))
                page.append(item)
        return Listed(page, revision)

    async def _from_store(
        self, resource: Resource, wanted: Filter, revision: int, start: str, limit: int
    ) -> Listed:
        stored = self.stored(resource)
        root = storage_keys.prefix(stored)
        within = storage_keys.prefix(stored, wanted.namespace)
        at = root + start.encode() if start else b""
        page: list[Item] = []
        while True:
            size = max(limit + 1 - len(page), PAGE if wanted.selective else 1) if limit else PAGE * 10
            try:
                part = await self.store.range(within, limit=size, start=at, revision=revision)
            except Compacted:
                if not start:
                    raise errors.expired(EXPIRED) from None
                raise errors.expired(EXPIRED_PAGE, make_token(INCONSISTENT, start)) from None
            except FutureRevision:
                raise future_version(revision, self.cache.revision) from None
            revision = revision or part.revision
            for position, kv in enumerate(part.kvs):
                item = Item.of(stored, kv.value, kv.mod_revision)
                if not wanted.matches(item):
                    continue
                if limit and len(page) == limit:
                    left = None if wanted.selective or not part.count else part.count - position
                    return Listed(page, revision, make_token(revision, page[-1].key + "\0"), left)
                page.append(item)
            if not part.more or not part.kvs:
                return Listed(page, revision)
            at = part.kvs[-1].key + b"\0"

    async def list(self, resource: Resource, namespace: str = "") -> list[dict[str, Any]]:
        """All objects, decoded, consistent."""
        listed = await self.list_items(resource, Filter(namespace), ListOptions())
        return [item.decode() for item in listed.items]

    async def watch(
        self,
        resource: Resource,
        wanted: Filter,
        shown: Representation,
        options: ListOptions,
        *,
        content_type: str,
    ) -> Stream:
        """The stream of a watch. Raises 400 and 504; 410 comes as an ERROR event, as Kubernetes sends it."""
        check_options(options, watch=True)
        cache = self.cache
        slot = cache.slot(resource.storage_key)
        version = parse_version(options.resource_version)
        initial: Iterable[bytes] = ()
        from_now = version == 0 or options.initial_events is True
        if from_now:
            if options.resource_version == "" and not await cache.consistent(WAIT):
                raise errors.unavailable("the cache of this server is behind the store; try again")
            if version and cache.revision < version and not await cache.reach(version, WAIT):
                raise future_version(version, cache.revision)
            watcher = slot.join(wanted, shown, bookmarks=options.bookmarks)
            if options.initial_events is not False:
                keys = slot.select(wanted.namespace)
                initial = _added([slot.items[key] for key in keys], wanted, shown)
        else:
            if cache.revision < version and not await cache.reach(version, WAIT):
                raise future_version(version, cache.revision)
            watcher = slot.join(wanted, shown, bookmarks=options.bookmarks)
            missed = slot.window.since(version)
            if missed is None:
                slot.leave(watcher)
                gone = errors.expired(f"too old resource version: {version} ({slot.window.floor})")
                return Stream(200, _only(shown.error(gone.status())), content_type=content_type)
            past = watcher.group.render(missed)
            initial = (past,) if past else ()
        now = self.world.clock.monotonic()
        timeout = options.timeout if options.timeout else self.world.chance.uniform(1800.0, 3600.0)
        every = self.world.chance.uniform(50.0, 65.0)
        stream = watcher.stream(
            initial,
            initial_end=bool(options.initial_events) and options.bookmarks,
            deadline=now + timeout,
            bookmark_every=every,
            monotonic=self.world.clock.monotonic,
        )
        return Stream(200, stream, content_type=content_type, direct=watcher.direct)


def _added(items: list[Item], wanted: Filter, shown: Representation) -> Iterator[bytes]:
    for item in items:
        if wanted.matches(item):
            yield shown.event("ADDED", item.raw)


async def _only(frame: bytes) -> Any:
    yield frame

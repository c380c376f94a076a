"""Conversion between the versions of a custom resource by a webhook of its author's.

Objects stay in the store, and in the cache, in the version they were written in. Whoever asks for another version
waits for the webhook: one call for all objects of an answer that are not in that version yet, one for each chunk of a
watch. Definitions without a webhook never come here.

::

    GET v2 of an object kept as v1:   ConversionReview{request: desiredAPIVersion v2, objects [v1]}
                                   <- ConversionReview{response: uid, convertedObjects [v2], result Success}

A webhook may change everything but the metadata, of which only labels and annotations are its own. So selectors are asked
about what it made: of a list, and on a watch of an object before and after each change, so that it comes and goes as it
enters and leaves the selection.

Source: Kubernetes' "Versions in CustomResourceDefinitions", section on webhook conversion.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson

from bamikube.api.custom.kind import Family
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver.cache import Item
from bamikube.apiserver.cache.item import encode
from bamikube.apiserver.cache.watcher import Filter
from bamikube.apiserver.negotiation import Shape
from bamikube.apiserver.outbound import JSON_HEADERS, Caller, CallError, Unresolved, of_client_config
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.http import Stream
from bamikube.kit.world import World

Object = dict[str, Any]

TIMEOUT = 30.0  # seconds, as Kubernetes waits
_KNOWN = ("v1", "v1beta1")


def calls_out(resource: Resource) -> bool:
    """Whether objects of this resource may need a webhook."""
    return resource.custom is not None and resource.custom.family.calls_out


class Converter:
    """Converts decoded objects, items and watches."""

    def __init__(self, reader: Reader, caller: Caller, world: World) -> None:
        self._reader = reader
        self._caller = caller
        self._world = world

    async def objects(self, wanted: Resource, objs: Sequence[Object]) -> list[Object]:
        """The objects in the version of ``wanted``. Raises ApiError 500 that says what the webhook did."""
        result = list(objs)
        todo = [index for index, obj in enumerate(objs) if obj.get("apiVersion") != wanted.api_version]
        if todo and wanted.custom is not None:
            converted = await self._ask(wanted, wanted.custom.family, [objs[index] for index in todo])
            for index, obj in zip(todo, converted, strict=True):
                result[index] = obj
        return result

    async def raws(self, wanted: Resource, items: Sequence[Item]) -> list[bytes]:
        """The JSON of items, with their revisions, in the version of ``wanted``."""
        at = b'"apiVersion":"%b"' % wanted.api_version.encode()
        other = [index for index, item in enumerate(items) if not _begins(item.raw, at)]
        raws = [item.raw for item in items]
        converted = await self.objects(wanted, [items[index].decode() for index in other])
        for index, obj in zip(other, converted, strict=True):
            raws[index] = _with_revision(obj, items[index].revision)
        return raws

    async def items(self, wanted: Resource, items: Sequence[Item]) -> list[Item]:
        """Items in the version of ``wanted``, with its labels and fields."""
        objs = await self.objects(wanted, [item.decode() for item in items])
        return [_item(wanted, obj) for obj in objs]

    async def _ask(self, wanted: Resource, family: Family, objs: list[Object]) -> list[Object]:
        kind = f"{objs[0].get('apiVersion')}, Kind={objs[0].get('kind')}"
        prefix = f"conversion webhook for {kind}"
        versions = family.webhook.get("conversionReviewVersions") or ()
        version = next((each for each in versions if each in _KNOWN), "")
        if not version:
            raise _failed(
                f"{prefix} failed: it takes no ConversionReview version that is known here (v1, v1beta1)"
            )
        uid = self._world.chance.uuid()
        body = {
            "kind": "ConversionReview",
            "apiVersion": f"apiextensions.k8s.io/{version}",
            "request": {"uid": uid, "desiredAPIVersion": wanted.api_version, "objects": objs},
        }
        try:
            to = of_client_config(family.webhook.get("clientConfig") or {}, self._reader, self._world.chance)
            target = f"{to.path or '/'}?timeout=30s"
            reply = await self._caller.call(
                to, "POST", target, headers=JSON_HEADERS, body=orjson.dumps(body), timeout=TIMEOUT
            )
        except Unresolved as error:
            raise _failed(f"{prefix} failed: {error}") from None
        except CallError as error:
            raise _failed(f'{prefix} failed: Post "{to.shown(target)}": {error}') from None
        if reply.status != 200:
            raise _failed(f"{prefix} failed: the server responded with the status code {reply.status}")
        return self._read(reply.body, uid, wanted, objs, prefix)

    def _read(self, body: bytes, uid: str, wanted: Resource, objs: list[Object], prefix: str) -> list[Object]:
        try:
            response = orjson.loads(body)["response"]
            result = response.get("result") or {}
            converted = response.get("convertedObjects") or []
            if response.get("uid") != uid:
                raise _failed(f'{prefix} failed: expected response.uid="{uid}", got "{response.get("uid")}"')
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise _failed(f"{prefix} failed: the answer is no ConversionReview: {error}") from None
        if result.get("status") != "Success":
            text = result.get("message") or f"unexpected status {result.get('status')!r}"
            raise _failed(f"{prefix} failed: {text}")
        if len(converted) != len(objs):
            raise _failed(f"{prefix} returned {len(converted)} objects, expected {len(objs)}")
        return [
            _accepted(wanted, before, after, f"{prefix} returned invalid converted object at index {index}")
            for index, (before, after) in enumerate(zip(objs, converted, strict=True))
        ]

    # -- watching ------------------------------------------------------------------------------------------------

    def stream(
        self, wanted: Resource, source: Stream, shape: Shape, selected: Filter | None = None
    ) -> Stream:
        """A watch of plain JSON events as a watch in ``wanted``'s version and the client's form.

        With ``selected`` they are :class:`Changes`, and its selectors are still to be asked.
        """
        relay = self._relay(wanted, source.chunks, shape, selected)
        return Stream(source.status, relay, content_type=shape.stream_type)

    async def _relay(
        self, wanted: Resource, chunks: AsyncIterator[bytes], shape: Shape, selected: Filter | None
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                events = [orjson.loads(line) for line in chunk.split(b"\n") if line]
                try:
                    await self._convert(wanted, events)
                except ApiError as error:
                    yield shape.error(error.status())
                    return
                if selected is not None:
                    events = [event for event in events if _is_selected(wanted, event, selected)]
                if events:
                    yield b"".join(_frame(event, shape) for event in events)
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()

    async def _convert(self, wanted: Resource, events: Sequence[Object]) -> None:
        """Put the objects of events into ``wanted``'s version, in one call."""
        places = [
            (event, part)
            for event in events
            for part in ("object", "before")
            if event["type"] not in ("BOOKMARK", "ERROR") and event.get(part) is not None
        ]
        converted = await self.objects(wanted, [event[part] for event, part in places])
        for (event, part), obj in zip(places, converted, strict=True):
            event[part] = obj


def _item(wanted: Resource, obj: Object) -> Item:
    return Item.of(wanted, encode(obj), int(obj["metadata"]["resourceVersion"]), obj)


def _is_selected(wanted: Resource, event: Object, selected: Filter) -> bool:
    """Whether an event concerns the selection; its type and object become what they are for it."""
    if event["type"] in ("BOOKMARK", "ERROR"):
        return True
    new, old = event["object"], event.get("before")
    is_in = new is not None and selected.matches(_item(wanted, new))
    was_in = old is not None and selected.matches(_item(wanted, old))
    event["type"] = ("MODIFIED" if was_in else "ADDED") if is_in else "DELETED"
    if not is_in:
        event["object"] = old
    return is_in or was_in


def _frame(event: Object, shape: Shape) -> bytes:
    if event["type"] == "ERROR":
        return shape.error(event["object"])
    if event["type"] == "BOOKMARK":
        metadata = event["object"]["metadata"]
        return shape.bookmark(int(metadata["resourceVersion"]), bool(metadata.get("annotations")))
    return shape.event(event["type"], orjson.dumps(event["object"]))


def _begins(raw: bytes, part: bytes) -> bool:
    """Whether the object's own apiVersion is this: it is the second field of everything we store."""
    return raw.find(part, 0, 512) == raw.find(b'"apiVersion":', 0, 512)


def _with_revision(obj: Object, revision: int) -> bytes:
    metadata = {"resourceVersion": str(revision), **obj["metadata"]}
    return orjson.dumps(orjson.loads(encode(obj)) | {"metadata": metadata})


def _accepted(wanted: Resource, before: Object, after: Any, prefix: str) -> Object:
    """A converted object, with the metadata that is not the webhook's. Raises ApiError."""
    if not isinstance(after, dict) or not isinstance(after.get("metadata"), dict):
        raise _failed(f"{prefix}: it is no object with metadata")
    if after.get("apiVersion") != wanted.api_version:
        got = after.get("apiVersion")
        raise _failed(f"{prefix}: invalid groupVersion (expected {wanted.api_version}, received {got})")
    if after.get("kind") != before.get("kind"):
        raise _failed(f"{prefix}: invalid kind (expected {before.get('kind')}, received {after.get('kind')})")
    metadata, given = dict(before["metadata"]), after["metadata"]
    for name in ("name", "namespace", "uid"):
        if given.get(name) != metadata.get(name):
            raise _failed(f"{prefix}: invalid metadata of object: metadata.{name} must not be changed")
    for name in ("labels", "annotations"):
        metadata.pop(name, None)
        if given.get(name):
            metadata[name] = given[name]
    after["metadata"] = metadata
    if wanted.custom is not None:
        wanted.custom.shape(after)
    return after


def _failed(text: str) -> ApiError:
    return ApiError(500, "InternalError", text, {"causes": [{"message": text}]})

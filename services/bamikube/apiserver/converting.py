"""Conversion between the versions of a custom resource by a webhook of its author's.

Objects stay in the store, and in the cache, in the version they were written in. Whoever asks for another version
waits for the webhook: one call for all objects of an answer that are not in that version yet, one for each chunk of a
watch. Definitions without a webhook never come here.

::

    GET v2 of an object kept as v1:   ConversionReview{request: desiredAPIVersion v2, objects [v1]}
                                   <- ConversionReview{response: uid, convertedObjects [v2], result Success}

A webhook may change everything but the metadata, of which only labels and annotations are its own.

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

    def stream(self, wanted: Resource, source: Stream, shape: Shape) -> Stream:
        """A watch of plain JSON events as a watch in ``wanted``'s version and the client's form."""
        return Stream(
            source.status, self._relay(wanted, source.chunks, shape), content_type=shape.stream_type
        )

    async def _relay(
        self, wanted: Resource, chunks: AsyncIterator[bytes], shape: Shape
    ) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                events = [orjson.loads(line) for line in chunk.split(b"\n") if line]
                told = [event for event in events if event["type"] not in ("BOOKMARK", "ERROR")]
                try:
                    converted = iter(await self.objects(wanted, [event["object"] for event in told]))
                except ApiError as error:
                    yield shape.error(error.status())
                    return
                yield b"".join(_frame(event, converted, shape) for event in events)
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()


def _frame(event: Object, converted: Any, shape: Shape) -> bytes:
    if event["type"] == "ERROR":
        return shape.error(event["object"])
    if event["type"] == "BOOKMARK":
        metadata = event["object"]["metadata"]
        return shape.bookmark(int(metadata["resourceVersion"]), bool(metadata.get("annotations")))
    return shape.event(event["type"], orjson.dumps(next(converted)))


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

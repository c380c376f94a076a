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
from bamikube.api.validation.metadata import annotation_map
from bamikube.api.validation.rules import labels
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
        try:
            converted = _converted(reply.body, version, uid)
        except _Unusable as problem:
            raise _failed(f"{prefix} failed: {problem}") from None
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


class _Unusable(Exception):
    """An answer, or an object in it, that is none. The text says why, in Kubernetes' words."""


def _converted(body: bytes, version: str, uid: str) -> list[Any]:
    """The objects of an answer. Raises _Unusable."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Unusable(f"couldn't get version/kind; json parse error: {error}") from None
    if not isinstance(answer, dict):
        raise _Unusable("the answer is no ConversionReview")
    # v1beta1 asked neither for the kind nor for the uid.
    wanted = f"apiextensions.k8s.io/{version}, Kind=ConversionReview"
    got = f"{answer.get('apiVersion') or '/'}, Kind={answer.get('kind') or ''}"
    if version != "v1beta1" and got != wanted:
        raise _Unusable(f"expected webhook response of {wanted}, got {got}")
    response = answer.get("response")
    if response is None:
        raise _Unusable("no response provided")
    result = response.get("result") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not isinstance(result or {}, dict):
        raise _Unusable("the answer is no ConversionReview")
    if version != "v1beta1" and response.get("uid") != uid:
        raise _Unusable(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    status, message = (result or {}).get("status") or "", (result or {}).get("message")
    if status != "Success":
        raise _Unusable(str(message or f"response.result.status was '{status}', not 'Success'"))
    objects = response.get("convertedObjects") or []
    if not isinstance(objects, list):
        raise _Unusable("response.convertedObjects is no list")
    return objects


def _accepted(wanted: Resource, before: Object, after: Any, prefix: str) -> Object:
    """A converted object, with the metadata that is not the webhook's. Raises ApiError."""
    if not isinstance(after, dict):
        raise _failed(f"{prefix}: it is no object")
    if after.get("apiVersion") != wanted.api_version:
        got = after.get("apiVersion") or ""
        raise _failed(f"{prefix}: invalid groupVersion (expected {wanted.api_version}, received {got})")
    if after.get("kind") != before.get("kind"):
        got = after.get("kind") or ""
        raise _failed(f"{prefix}: invalid kind (expected {before.get('kind')}, received {got})")
    try:
        after["metadata"] = _metadata(before["metadata"], after)
    except _Unusable as problem:
        raise _failed(f"{prefix}: {problem}") from None
    if wanted.custom is not None:
        wanted.custom.shape(after)
    return after


def _metadata(before: Object, after: Object) -> Object:
    """The metadata of a converted object: what it was, with the webhook's labels and annotations. Raises _Unusable."""
    given = after.get("metadata")
    if given is None:
        raise _Unusable("missing metadata in converted object")
    if not isinstance(given, dict):
        raise _Unusable("invalid metadata in converted object: it is no object")
    for name, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        was, now = before.get(name) or "", given.get(name) or ""
        if was != now:
            raise _Unusable(f"must have the same {shown}: {was} != {now}")
    metadata = {name: each for name, each in before.items() if name not in ("labels", "annotations")}
    for name, check in (("labels", labels), ("annotations", annotation_map)):
        texts = given.get(name)
        if texts is None:
            continue
        if not isinstance(texts, dict):
            raise _Unusable(f"invalid metadata.{name} in converted object: it is no object")
        for key, text in texts.items():
            if not isinstance(text, str):
                raise _Unusable(f"metadata.{name}[{key}] must be a string in converted object")
        if texts != before.get(name) and (causes := check(f"metadata.{name}", texts)):
            raise _Unusable("; ".join(f"{cause.field}: {cause.message}" for cause in causes))
        if texts:
            metadata[name] = texts
    return metadata


def _failed(text: str) -> ApiError:
    return ApiError(500, "", text)

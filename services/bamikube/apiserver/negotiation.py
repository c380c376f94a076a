"""In which form a client sends and wants things.

Bodies are read in :mod:`bamikube.apiserver.decoding`. Answers go out as JSON, YAML or protobuf, and may be transformed: a ``Table``
for kubectl, ``PartialObjectMetadata`` for those who only want metadata. The hot path is plain JSON of the stored
version: there a :class:`Shape` passes the cache's bytes through untouched.

Source: Kubernetes' "API concepts", sections on alternate representations and on receiving resources as tables.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import orjson
import yaml

from bamikube.api import columns, conversion, errors, protobuf, table
from bamikube.api.memory import remembered
from bamikube.api.resources import Resource
from bamikube.kit.http import Request, Response, Stream

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
_MEDIA = {JSON: "json", YAML: "yaml", PROTOBUF: "protobuf", "*/*": "json", "application/*": "json"}
_TYPES = {"json": JSON, "yaml": YAML, "protobuf": PROTOBUF}
SUPPORTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_STREAMS = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the client will take: ``media`` json, yaml or protobuf, and ``transform`` "", Table or Partial.

    ``many``: partial metadata of a list was asked for, not of an object.
    """

    media: str = "json"
    transform: str = ""
    version: str = "v1"
    many: bool = False


@remembered(1024)
def _options(accept: str) -> tuple[Accepted, ...]:
    """What an Accept header allows, best first."""
    ranked: list[tuple[float, int, Accepted]] = []
    for position, part in enumerate(accept.split(",")):
        media, *pairs = (piece.strip() for piece in part.split(";"))
        known = _MEDIA.get(media.lower())
        if known is None:
            continue
        parameters = dict(pair.partition("=")[::2] for pair in pairs)
        transform, version = "", "v1"
        if wanted := parameters.get("as", ""):
            version = parameters.get("v", "v1")
            if parameters.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
                continue
            if wanted not in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList"):
                continue
            transform = "Table" if wanted == "Table" else "Partial"
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 1.0
        if quality > 0:
            many = wanted == "PartialObjectMetadataList"
            ranked.append((-quality, position, Accepted(known, transform, version, many)))
    return tuple(accepted for _, _, accepted in sorted(ranked, key=lambda entry: entry[:2]))


_PLAIN = Accepted()


def accepted(
    request: Request,
    resource: Resource | None = None,
    *,
    transforms: bool = True,
    stream: bool = False,
    tables: bool = True,
    listed: bool = False,
) -> Accepted:
    """The form of the answer (``stream``: of a watch, ``listed``: of a collection). Raises 406 when the client takes
    none that there is."""
    header = request.headers.get("accept", "")
    if not header or header == JSON or header == "*/*":
        return _PLAIN
    for option in _options(header):
        if (option.transform and not transforms) or (option.transform == "Table" and not tables):
            continue
        if stream and option.media == "yaml":
            continue
        if option.media == "protobuf" and not _has_message(option, resource):
            continue
        return option
    if resource is not None and resource.custom is None and not _routed(header):
        there = f"{SUPPORTED}, {_STREAMS}" if listed else SUPPORTED
        raise errors.not_acceptable(f"406: Not Acceptable\n\nAvailable representations: {there}", {})
    supported = _STREAMS if stream else SUPPORTED
    raise errors.not_acceptable(f"only the following media types are accepted: {supported}")


def check_route(request: Request, *types: str) -> None:
    """What Kubernetes' router asks before anybody looks at a request: that the client takes one of ``types``. Raises 406."""
    header = request.headers.get("accept", "")
    if header and not any(one in types or one == "*/*" for one in _media_types(header)):
        raise errors.not_acceptable(
            f"406: Not Acceptable\n\nAvailable representations: {', '.join(types)}", {}
        )


def _media_types(header: str) -> list[str]:
    return [part.partition(";")[0].strip() for part in header.split(",")]


def _routed(header: str) -> bool:
    """Whether Kubernetes' router lets these types pass, which does not look at their parameters."""
    return any(part.partition(";")[0].strip().lower() in _MEDIA for part in header.split(","))


def _has_message(option: Accepted, resource: Resource | None) -> bool:
    """Whether the form can be protobuf: metadata of any kind, tables of none, custom resources only as metadata."""
    if resource is None or option.transform:
        return resource is not None and option.transform == "Partial"
    return protobuf.can_encode(resource.api_version, resource.kind)


def takes_plain(headers: Mapping[str, str]) -> bool:
    """Whether an object as it is stored is what these headers ask for, of whatever resource."""
    if headers.get("user-agent", "").startswith(_READERS):
        return False
    header = headers.get("accept", "")
    return not header or next(iter(_options(header)), None) == _PLAIN


_READERS = ("curl", "Wget", "Mozilla/5.0")


def is_pretty(request: Request) -> bool:
    """Whether a person is going to read the answer: asked for, or sent by a tool of people."""
    if "pretty" in request.raw_query and "pretty" in request.query:
        return request.flag("pretty")
    return request.headers.get("user-agent", "").startswith(_READERS)


def content_type(request: Request) -> str:
    """The media type of the body, without parameters, lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def dump_yaml(value: Any) -> bytes:
    """YAML as kubectl writes it: block style, keys in order."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(
        value, Dumper=dumper, default_flow_style=False, sort_keys=True, allow_unicode=True
    ).encode()


def answer_object(
    request: Request, obj: dict[str, Any], status: int = 200, shape: Shape | None = None
) -> Response:
    """One decoded object that is not in the cache (reviews, scales, statuses), in the form that was asked for.

    ``shape`` transforms those that can be shown as a table.
    """
    try:
        wanted = accepted(request, transforms=False) if shape is None else shape.wanted
    except errors.ApiError:
        wanted = _PLAIN
    if shape is not None:
        obj = shape.transform(obj)
    header = request.headers.get("accept", "")
    if header.startswith(PROTOBUF) and protobuf.can_encode(obj.get("apiVersion", ""), obj.get("kind", "")):
        return Response(status, protobuf.encode(obj), content_type=PROTOBUF)
    if wanted.media == "yaml":
        return Response(status, dump_yaml(obj), content_type=YAML)
    body = orjson.dumps(obj, option=orjson.OPT_INDENT_2) if is_pretty(request) else orjson.dumps(obj)
    return Response(status, body, content_type=JSON)


_NO_COLUMNS = b'"columnDefinitions":null'


class Shape:
    """One representation of one resource: how its objects, lists and events look to this client.

    ``form`` identifies it: watchers with equal forms share frames. ``include`` is the ``includeObject`` parameter
    of tables (None, Metadata, Object).
    """

    def __init__(
        self,
        resource: Resource,
        wanted: Accepted,
        *,
        now: Callable[[], float],
        include: str = "",
        pretty: bool = False,
    ) -> None:
        self.resource = resource
        self.wanted = wanted
        self._now = now
        self._include = include or "Metadata"
        self._pretty = pretty
        self._converts = table.storage_row(resource) is not resource
        self.plain = wanted == _PLAIN and not self._converts and not pretty
        self.form: Any = (
            "plain"
            if self.plain
            else (resource.api_version, wanted, self._include if wanted.transform == "Table" else "", pretty)
        )

    @classmethod
    def of(
        cls,
        request: Request,
        resource: Resource,
        now: Callable[[], float],
        *,
        stream: bool = False,
        tables: bool = True,
        listed: bool = False,
    ) -> Shape:
        """The shape a request asks for. Raises 406."""
        wanted = accepted(request, resource, stream=stream, tables=tables, listed=listed)
        raw_query = request.raw_query
        pretty = not stream and is_pretty(request)
        include = request.param("includeObject") if "includeObject" in raw_query else ""
        if include not in ("", "None", "Metadata", "Object"):
            raise errors.bad_request(
                f'includeObject: Unsupported value: "{include}": supported values: "None", "Metadata", "Object"'
            )
        return cls(resource, wanted, now=now, include=include, pretty=pretty)

    @property
    def content_type(self) -> str:
        return _TYPES[self.wanted.media]

    @property
    def stream_type(self) -> str:
        if self.wanted.media == "protobuf":
            return f"{PROTOBUF};stream=watch"
        return JSON

    def _decode(self, raw: bytes) -> dict[str, Any]:
        obj: dict[str, Any] = orjson.loads(raw)
        return conversion.from_storage(self.resource, obj) if self._converts else obj

    def _encode(self, value: dict[str, Any]) -> bytes:
        if self.wanted.media == "yaml":
            return dump_yaml(value)
        if self.wanted.media == "protobuf":
            return protobuf.encode(value)
        return orjson.dumps(value, option=orjson.OPT_INDENT_2) if self._pretty else orjson.dumps(value)

    def _partial(self, obj: dict[str, Any]) -> dict[str, Any]:
        return {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{self.wanted.version}",
            "metadata": obj.get("metadata") or {},
        }

    def _table(
        self, objs: list[dict[str, Any]], metadata: dict[str, Any], *, headers: bool = True
    ) -> dict[str, Any]:
        made = columns.table(
            self.resource, objs, now=self._now(), metadata=metadata, include=self._include, headers=headers
        )
        made["apiVersion"] = f"meta.k8s.io/{self.wanted.version}"
        return made

    def transform(self, obj: dict[str, Any], *, headers: bool = True) -> dict[str, Any]:
        """One object, transformed but not encoded. ``headers``: a table says what its columns are."""
        if self.wanted.transform == "Table":
            metadata = obj.get("metadata") or {}
            version = {"resourceVersion": metadata.get("resourceVersion", "")}
            return self._table([obj], version, headers=headers)
        return self._partial(obj) if self.wanted.transform else obj

    def _go_type(self, kind: str) -> str:
        package = self.resource.group.partition(".")[0] or "core"
        return f"(*{package}.{kind})"

    def object(self, raw: bytes, status: int = 200) -> Response:
        """The answer that is one object. ``raw`` is JSON of the stored version with its revision. Raises 406."""
        if self.plain:
            return Response(status, raw)
        if self.wanted.many:
            found = self._go_type(self.resource.kind)
            raise errors.not_acceptable(
                f"you requested PartialObjectMetadataList, but the requested object is not a list {found}"
            )
        return Response(
            status, self._encode(self.transform(self._decode(raw))), content_type=self.content_type
        )

    def list(self, raws: list[bytes], metadata: dict[str, Any]) -> Response:
        """The answer that is a list. ``metadata`` is its ``ListMeta``. Raises 406."""
        if self.plain:
            head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
                self.resource.list_kind.encode(),
                self.resource.api_version.encode(),
                orjson.dumps(metadata),
            )
            return Response(200, b"".join((head, b",".join(raws), b"]}")))
        objs = [self._decode(raw) for raw in raws]
        if self.wanted.transform == "Table":
            value = self._table(objs, metadata)
        elif self.wanted.transform:
            if not self.wanted.many:
                found = self._go_type(self.resource.list_kind)
                raise errors.not_acceptable(
                    f"you requested PartialObjectMetadata, but the requested object is a list {found}"
                )
            kind, version = "PartialObjectMetadataList", f"meta.k8s.io/{self.wanted.version}"
            value = {
                "kind": kind,
                "apiVersion": version,
                "metadata": metadata,
                "items": [self._partial(obj) for obj in objs],
            }
        else:
            resource = self.resource
            value = {
                "kind": resource.list_kind,
                "apiVersion": resource.api_version,
                "metadata": metadata,
                "items": objs,
            }
        return Response(200, self._encode(value), content_type=self.content_type)

    def event(self, kind: str, raw: bytes) -> bytes:
        """One framed event of a watch."""
        if self.plain:
            return b'{"type":"%b","object":%b}\n' % (kind.encode(), raw)
        return self._frame(kind, self.transform(self._decode(raw), headers=False))

    def _frame(self, kind: str, obj: dict[str, Any]) -> bytes:
        if self.wanted.media == "protobuf":
            message = protobuf.watch_event(kind, obj)
            return struct.pack(">I", len(message)) + message
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), orjson.dumps(obj))

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        """A framed BOOKMARK: everything up to ``revision`` has been sent."""
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: dict[str, Any] = {
            "kind": self.resource.kind,
            "apiVersion": self.resource.api_version,
            "metadata": metadata,
        }
        if self.wanted.transform == "Partial":
            obj = self._partial(obj)
        elif self.wanted.transform == "Table":
            obj = self._table([], {"resourceVersion": str(revision)}, headers=False)
            if initial_end:
                obj["rows"] = [{"cells": [], "object": self._partial({"metadata": metadata})}]
        return self._frame("BOOKMARK", obj)

    def error(self, status: dict[str, Any]) -> bytes:
        """A framed ERROR: the watch cannot go on."""
        return self._frame("ERROR", status)

    def with_headers(self, stream: Stream) -> Stream:
        """A watch whose first event, and no other, says what the columns are. Frames are shared and never say it."""
        if self.wanted.transform != "Table":
            return stream
        written = b'"columnDefinitions":' + orjson.dumps(columns.columns(self.resource))

        async def chunks() -> AsyncIterator[bytes]:
            async with aclosing(stream.chunks) as source:  # type: ignore[type-var]
                told = False
                async for chunk in source:
                    if not told and _NO_COLUMNS in chunk:
                        chunk, told = chunk.replace(_NO_COLUMNS, written, 1), True
                    yield chunk

        return replace(stream, chunks=chunks(), direct=None)

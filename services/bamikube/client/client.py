"""The API client: verbs over a transport, objects as plain dicts.

A resource is named as in ``kubectl get``: ``pods``, ``deployments.apps``. Its version is the table's preferred one. What
the table does not know (custom resources) is given as a row, see :mod:`bamikube.client.kinds`.
Every failure that the server explains is an :class:`~bamikube.api.errors.ApiError`; a server that cannot be reached is
an OSError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.client.transport import HttpTransport, Transport
from bamikube.kit.http import Answer, Response, Stream
from bamikube.kit.world import World
from bamikube.pki import kubeconfig

Object = dict[str, Any]

PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``type`` is ADDED, MODIFIED, DELETED or BOOKMARK (an ERROR event is raised as ApiError)."""

    type: str
    object: Object


def path_of(resource: Resource, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The percent-encoded path of a collection, an object or a subresource."""
    parts = ["apis", resource.group, resource.version] if resource.group else ["api", resource.version]
    if resource.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    if name:
        parts.append(name)
    # A subresource may go on with a path of its own (``proxy/metrics``).
    tail = f"/{quote(subresource, safe='/:')}" if subresource else ""
    return "/" + "/".join(quote(part, safe=":") for part in parts) + tail


METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def row_of(resource: str | Resource) -> Resource:
    return table.by_name(resource) if isinstance(resource, str) else resource


class Client:
    """Talks to one API server (or to several behind one address)."""

    def __init__(self, transport: Transport, world: World) -> None:
        self.transport = transport
        self.world = world

    @classmethod
    def from_kubeconfig(
        cls, path: str, world: World, user_agent: str = "bamikube", *, at_a_time: int = 0
    ) -> Client:
        """A client of the file's current context, with so many requests at a time (0: as many as there are).

        Raises OSError or ValueError naming the file and what is wrong.
        """
        return cls(HttpTransport(kubeconfig.load(path), user_agent=user_agent, at_a_time=at_a_time), world)

    async def close(self) -> None:
        await self.transport.close()

    def show(self, pair: Path) -> None:
        """Be known by another certificate from now on. Raises OSError and SSLError, and nothing has changed."""
        if isinstance(self.transport, HttpTransport):
            self.transport.show(pair)

    async def raw(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        stream: bool = False,
    ) -> Answer:
        """One request as it is; the answer is not looked at."""
        sent: dict[str, str] = {"Accept": "application/json"}
        data = b""
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        wanted = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        target = f"{path}?{urlencode(wanted, doseq=True)}" if wanted else path
        return await self.transport.send(method, target, headers=sent, body=data, stream=stream)

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """One request whose answer is an object. Raises ApiError for every status of 400 and above."""
        answer = await self.raw(method, path, query, body, headers)
        if not isinstance(answer, Response):
            raise TypeError(f"{method} {path}: the answer is not an object")
        data = answer.joined()
        if answer.status >= 400:
            raise _error(answer.status, data)
        try:
            loaded: Object = orjson.loads(data) if data else {}
        except orjson.JSONDecodeError as error:
            raise ConnectionError(f"{method} {path}: the answer is not JSON ({error})") from None
        return loaded

    async def get(self, resource: str, name: str, namespace: str = "", subresource: str = "") -> Object:
        return await self.call("GET", path_of(row_of(resource), namespace, name, subresource))

    async def list(
        self,
        resource: str | Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
        limit: int = 0,
        continue_: str = "",
        metadata: bool = False,
    ) -> Object:
        """``metadata``: only that of each object; no kind's schema or conversion is needed for it."""
        query = {
            "labelSelector": labels,
            "fieldSelector": fields,
            "resourceVersion": resource_version,
            "limit": limit or None,
            "continue": continue_,
        }
        headers = {"Accept": METADATA_LIST} if metadata else None
        return await self.call("GET", path_of(row_of(resource), namespace), query, headers=headers)

    async def create(self, resource: str, obj: Object, namespace: str | None = None) -> Object:
        where = namespace if namespace is not None else obj.get("metadata", {}).get("namespace", "")
        return await self.call("POST", path_of(row_of(resource), where), body=obj)

    async def create_subresource(
        self, resource: str, name: str, subresource: str, body: Object, namespace: str = ""
    ) -> Object:
        return await self.call("POST", path_of(row_of(resource), namespace, name, subresource), body=body)

    async def update(self, resource: str, obj: Object, subresource: str = "") -> Object:
        """PUT; the object's resourceVersion, when it has one, must still be the current one."""
        meta = obj["metadata"]
        path = path_of(row_of(resource), meta.get("namespace", ""), meta["name"], subresource)
        return await self.call("PUT", path, body=obj)

    async def patch(
        self,
        resource: str,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        kind: str = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        query = {"fieldManager": field_manager, "force": "true" if force else None}
        path = path_of(row_of(resource), namespace, name, subresource)
        return await self.call("PATCH", path, query, patch, {"Content-Type": PATCH_TYPES[kind]})

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
        grace_seconds: int | None = None,
    ) -> Object:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        preconditions = {}
        if uid:
            preconditions["uid"] = uid
        if resource_version:
            preconditions["resourceVersion"] = resource_version
        if preconditions:
            options["preconditions"] = preconditions
        if propagation:
            options["propagationPolicy"] = propagation
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        return await self.call("DELETE", path_of(row_of(resource), namespace, name), body=options)

    async def watch(
        self,
        resource: str | Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
        timeout: int = 0,
        metadata: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        """Events from ``resource_version`` on; ends when the server ends it (``timeout`` seconds). Raises ApiError
        (410 ``Expired`` when the version is too old) and OSError when the connection breaks."""
        query = {
            "watch": "true",
            "labelSelector": labels,
            "fieldSelector": fields,
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true" if bookmarks else None,
            "timeoutSeconds": timeout or None,
        }
        headers = {"Accept": METADATA} if metadata else None
        answer = await self.raw(
            "GET", path_of(row_of(resource), namespace), query, headers=headers, stream=True
        )
        if isinstance(answer, Response):
            raise _error(answer.status, answer.joined())
        if not isinstance(answer, Stream):
            raise TypeError(f"watch of {resource}: the answer is not a stream")
        pending = b""
        chunks = answer.chunks
        try:
            async for chunk in chunks:
                pending += chunk
                if b"\n" not in chunk:
                    continue
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    if line.strip():
                        try:
                            event = orjson.loads(line)
                        except orjson.JSONDecodeError as error:
                            raise ConnectionError(f"watch of {resource}: a broken event ({error})") from None
                        if event["type"] == "ERROR":
                            raise ApiError.of(event["object"])
                        yield WatchEvent(event["type"], event["object"])
        finally:
            if (close := getattr(chunks, "aclose", None)) is not None:
                await close()


def _error(status: int, data: bytes) -> ApiError:
    """The ApiError an answer stands for, also when something other than an API server answered."""
    try:
        loaded = orjson.loads(data)
    except orjson.JSONDecodeError:
        loaded = None
    if isinstance(loaded, dict) and loaded.get("kind") == "Status":
        error = ApiError.of(loaded)
        error.code = status
        return error
    text = data[:200].decode("utf-8", "replace").strip()
    reason = "InternalError" if status >= 500 else "NotFound" if status == 404 else "Unknown"
    return ApiError(status, reason, text or f"the server answered {status}")

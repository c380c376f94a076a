"""``/openapi/v3`` (an index and a document for each group version) and ``/openapi/v2`` (one document, JSON or protobuf).

A document is made when it is first asked for and kept as bytes until the rows of the resource table change. The
index carries a hash for each document, made from what the document is made of, so that listing the index does not
cost making them all; clients cache documents by that hash for ever.

Source: KEP-2896 (OpenAPI v3), ``kube-openapi``'s handlers for headers and media types (behaviour).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson

import bamikube
from bamikube.api.resources import Resource
from bamikube.api.schema import source
from bamikube.api.schema.enums import ENUMS
from bamikube.api.wire import openapi_v2
from bamikube.apiserver.aggregation import documents
from bamikube.apiserver.aggregation.documents import Offer
from bamikube.apiserver.openapi import v2, v3
from bamikube.apiserver.openapi.operations import group_root, operations
from bamikube.apiserver.openapi.schemas import custom
from bamikube.kit.http import Request, Response

# A year: a hash in the address says that the document is this one. (kube-openapi says so with Expires.)
_FOR_EVER = "public, immutable, max-age=31536000"
_PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class OpenApi:
    """Answers OpenAPI requests. ``rows`` is called each time, so that rows may come and go (CRDs); so is ``offers``, what
    aggregated API servers serve. Their version 3 documents are their own to answer."""

    def __init__(
        self, rows: Callable[[], Sequence[Resource]], *, offers: Callable[[], tuple[Offer, ...]] = tuple
    ) -> None:
        self._rows = rows
        self._offers = offers
        self._offered: tuple[Offer, ...] = ()
        self._seen: tuple[Resource, ...] = ()
        self._hashes: dict[str, str] = {}  # "apis/apps/v1" -> hash
        self._documents: dict[str, bytes] = {}
        self._v2_hash = ""
        self._builtin = b""  # version 2 of the built-in kinds, as protobuf

    async def handle(self, request: Request) -> Response | None:
        """None when the path is no OpenAPI path. Serves GET and HEAD."""
        path = request.path.rstrip("/")
        if not path.startswith("/openapi/"):
            return None
        self._refresh()
        if path == "/openapi/v3":
            return self._index(request)
        if path == "/openapi/v2":
            return self._v2(request)
        name = path.removeprefix("/openapi/v3/")
        if name in self._hashes:
            return self._v3(name, request)
        return None

    def _refresh(self) -> None:
        rows, offered = tuple(self._rows()), self._offers()
        if rows == self._seen and offered == self._offered:
            return
        self._seen, self._offered = rows, offered
        before = self._hashes
        version = f"{bamikube.__version__}/{source.KUBERNETES}/{ENUMS}"
        names = dict.fromkeys(_name(row) for row in rows)
        self._hashes = {
            name: _digest(version, *(repr(row) for row in rows if _name(row) == name)) for name in names
        }
        # A definition that comes or goes changes one document of version 3; the others stay.
        self._documents = {
            name: body
            for name, body in self._documents.items()
            if name in before and before[name] == self._hashes.get(name)
        }
        self._v2_hash = _digest(version, *self._hashes.values(), *(offer.digest for offer in offered))

    def _index(self, request: Request) -> Response:
        paths = {
            name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
            for name, digest in self._hashes.items()
        }
        for offer in self._offered:
            if offer.v3:
                paths[f"apis/{offer.group_version}"] = {"serverRelativeURL": offer.v3}
        body = orjson.dumps({"paths": paths})
        digest = _digest(*self._hashes.values(), *(offer.v3 for offer in self._offered))
        return _cached(request, body, digest, "application/json")

    def _v3(self, name: str, request: Request) -> Response:
        body = self._documents.get(name)
        if body is None:
            rows = [row for row in self._seen if _name(row) == name]
            body = orjson.dumps(v3.document(operations(rows), source.KUBERNETES, custom(rows)))
            self._documents[name] = body
        digest = self._hashes[name]
        answer = _cached(request, body, digest, "application/json")
        wanted = request.param("hash")
        if wanted == digest:
            answer.headers["Cache-Control"] = _FOR_EVER
        elif wanted:
            # An old link: the client is led to what is there now.
            return Response(301, b"", {"Location": f"/openapi/v3/{name}?hash={digest}"}, "")
        return answer

    def _v2(self, request: Request) -> Response:
        protobuf = "proto-openapi" in request.headers.get("accept", "")
        key = "v2.protobuf" if protobuf else "v2.json"
        body = self._documents.get(key)
        if body is None:
            body = self._v2_protobuf() if protobuf else orjson.dumps(self._v2_document(self._seen))
            self._documents[key] = body
        return _cached(request, body, self._v2_hash, _PROTOBUF_V2 if protobuf else "application/json")

    def _v2_document(self, rows: Sequence[Resource]) -> dict[str, Any]:
        document = v2.document(operations(rows), source.KUBERNETES, custom(rows, v2=True))
        return documents.with_openapi_v2(document, self._offered) if self._offered else document

    def _v2_protobuf(self) -> bytes:
        """Encoding the built-in kinds takes some 300 ms, so it is done once: protobuf merges two messages in a row.

        What other servers offer may change anything in the document, so then it is encoded as a whole.
        """
        if self._offered:
            return openapi_v2.encode_document(self._v2_document(self._seen))
        if not self._builtin:
            builtin = [row for row in self._seen if row.custom is None]
            self._builtin = openapi_v2.encode_document(self._v2_document(builtin))
        rows = [row for row in self._seen if row.custom is not None]
        if not rows:
            return self._builtin
        more = custom(rows, v2=True)
        paths = v2.document(operations(rows), source.KUBERNETES, more)["paths"]
        return self._builtin + openapi_v2.encode_document({"paths": paths, "definitions": dict(more)})


def _name(row: Resource) -> str:
    return group_root(row.group, row.version).lstrip("/")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest().upper()


def _cached(request: Request, body: bytes, digest: str, content_type: str) -> Response:
    headers = {"ETag": f'"{digest}"', "Vary": "Accept, Accept-Encoding"}
    if request.headers.get("if-none-match", "").strip() == f'"{digest}"':
        return Response(304, b"", headers, content_type)
    return Response(200, body, headers, content_type)

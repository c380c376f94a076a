"""``/openapi/v3`` (an index and a document for each group version) and ``/openapi/v2`` (one document), as JSON or protobuf.

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
from bamikube.api.wire import openapi as wire
from bamikube.apiserver.aggregation import documents
from bamikube.apiserver.aggregation.documents import Offer
from bamikube.apiserver.negotiation import JSON
from bamikube.apiserver.openapi import v2, v3
from bamikube.apiserver.openapi.operations import group_root, operations
from bamikube.apiserver.openapi.schemas import custom
from bamikube.kit.http import Request, Response

# A year: a hash in the address says that the document is this one. (kube-openapi says so with Expires.)
_FOR_EVER = "public, immutable, max-age=31536000"
_PROTOBUF = "application/com.github.proto-openapi.spec.%s.v1.0+protobuf"


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
            if (of := name.partition("#")[0]) in before and before[of] == self._hashes.get(of)
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
        form = _form(request, "v3")
        if form is None:
            return Response(406, b"", {"Vary": "Accept"}, "")
        key = name if form == JSON else f"{name}#protobuf"
        body = self._documents.get(key)
        if body is None:
            rows = [row for row in self._seen if _name(row) == name]
            document = v3.document(operations(rows), source.KUBERNETES, custom(rows))
            body = self._documents[key] = orjson.dumps(document) if form == JSON else wire.encode_v3(document)
        digest = self._hashes[name]
        answer = _cached(request, body, digest, form)
        wanted = request.param("hash")
        if wanted == digest:
            answer.headers["Cache-Control"] = _FOR_EVER
        elif wanted:
            # An old link: the client is led to what is there now.
            return Response(301, b"", {"Location": f"/openapi/v3/{name}?hash={digest}"}, "")
        return answer

    def _v2(self, request: Request) -> Response:
        form = _form(request, "v2")
        if form is None:
            return Response(406, b"", {"Vary": "Accept"}, "")
        body = self._documents.get(f"v2#{form}")
        if body is None:
            body = self._v2_protobuf() if form != JSON else orjson.dumps(self._v2_document(self._seen))
            self._documents[f"v2#{form}"] = body
        return _cached(request, body, self._v2_hash, form)

    def _v2_document(self, rows: Sequence[Resource]) -> dict[str, Any]:
        document = v2.document(operations(rows), source.KUBERNETES, custom(rows, v2=True))
        return documents.with_openapi_v2(document, self._offered) if self._offered else document

    def _v2_protobuf(self) -> bytes:
        """Encoding the built-in kinds takes some 300 ms, so it is done once: protobuf merges two messages in a row.

        What other servers offer may change anything in the document, so then it is encoded as a whole.
        """
        if self._offered:
            return wire.encode_v2(self._v2_document(self._seen))
        if not self._builtin:
            builtin = [row for row in self._seen if row.custom is None]
            self._builtin = wire.encode_v2(self._v2_document(builtin))
        rows = [row for row in self._seen if row.custom is not None]
        if not rows:
            return self._builtin
        more = custom(rows, v2=True)
        paths = v2.document(operations(rows), source.KUBERNETES, more)["paths"]
        return self._builtin + wire.encode_v2({"paths": paths, "definitions": dict(more)})


def _form(request: Request, version: str) -> str | None:
    """JSON or protobuf, what the client likes best; None when it takes neither."""
    names = (_PROTOBUF % version, f"application/com.github.proto-openapi.spec.{version}@v1.0+protobuf")
    forms = dict.fromkeys(names, names[0]) | dict.fromkeys((JSON, "application/*", "*/*"), JSON)
    wanted: list[tuple[float, str]] = []
    for option in (request.headers.get("accept") or "*/*").split(","):
        media, *parameters = (part.strip() for part in option.split(";"))
        said = dict(parameter.partition("=")[::2] for parameter in parameters)
        try:
            quality = float(said.get("q", "1"))
        except ValueError:
            quality = 1.0
        if media in forms:
            wanted.append((-quality, forms[media]))
    return min(wanted, key=lambda entry: entry[0])[1] if wanted else None


def _name(row: Resource) -> str:
    return group_root(row.group, row.version).lstrip("/")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest().upper()


def _cached(request: Request, body: bytes, digest: str, content_type: str) -> Response:
    headers = {"ETag": f'"{digest}"', "Vary": "Accept, Accept-Encoding"}
    if request.headers.get("if-none-match", "").strip() == f'"{digest}"':
        return Response(304, b"", headers, content_type)
    return Response(200, body, headers, content_type)

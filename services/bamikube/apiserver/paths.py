"""What is served under paths that are no resources: health, metrics, the version, discovery, documents, the token issuer's keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from bamikube.api import errors
from bamikube.apiserver import apimetrics, negotiation, version
from bamikube.apiserver.aggregation.aggregator import Aggregator
from bamikube.apiserver.cache import Cache
from bamikube.apiserver.catalog import Catalog
from bamikube.apiserver.debugging import PREFIX, Debugging
from bamikube.apiserver.discovery import Discovery
from bamikube.apiserver.health import PATHS, Health
from bamikube.apiserver.openapi import OpenApi
from bamikube.apiserver.subresources.tokens import IssuerDiscovery
from bamikube.kit import healthfigures, metrics
from bamikube.kit.http import Answer, Request, Response


@dataclass(frozen=True, slots=True)
class Paths:
    """``_issuer`` is None when the server knows no key; ``_under_way`` counts the requests whose answer has not begun."""

    _health: Health
    _discovery: Discovery
    _openapi: OpenApi
    _issuer: IssuerDiscovery | None
    _catalog: Catalog
    _aggregator: Aggregator
    _cache: Cache
    _tellers: Sequence[Callable[[], None]]  # bring figures up to date that are not counted as it happens
    _under_way: Mapping[str, int]
    _debugging: Debugging | None  # None: --profiling is off

    async def answer(self, request: Request) -> Answer:
        """Paths that are no resources."""
        path = request.path
        if request.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed()
        if path.startswith(PATHS):
            return await self._health.answer(request)
        if path == "/metrics":
            apimetrics.refresh(self._cache, self._under_way)
            await apimetrics.measure(self._cache)
            for tell in self._tellers:
                tell()
            return Response(200, metrics.render(), content_type=metrics.CONTENT_TYPE)
        if path == healthfigures.PATH:
            return Response(200, healthfigures.render(), content_type=metrics.CONTENT_TYPE)
        if path.startswith(PREFIX) and self._debugging is not None:
            return await self._debugging.answer(request)
        if path in ("/version", "/version/"):
            negotiation.check_route(request, negotiation.JSON)
            return Response(200, orjson.dumps(version.version_info(), option=orjson.OPT_INDENT_2))
        if path == "/":
            return Response(200, orjson.dumps({"paths": self._all()}, option=orjson.OPT_INDENT_2))
        answer: Answer | None = await self._issuer.handle(request) if self._issuer is not None else None
        if answer is None:
            answer = await self._discovery.handle(request)
        if answer is None:
            answer = await self._openapi.handle(request)
        if answer is None:
            raise errors.no_such_path()
        return answer

    def _all(self) -> list[str]:
        groups = {(row.group, row.version) for row in self._catalog.rows if row.group}
        groups |= {(offer.group, offer.version) for offer in self._aggregator.offers()}
        found = {
            *self._health.paths(),
            "/api",
            "/api/v1",
            "/apis",
            "/apis/",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openapi/v3/",
            "/version",
        }
        if self._issuer is not None:
            found |= {"/.well-known/openid-configuration", "/openid/v1/jwks"}
        for group, group_version in groups:
            found |= {f"/apis/{group}", f"/apis/{group}/{group_version}"}
        return sorted(found)

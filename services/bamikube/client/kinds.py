"""Which kinds the server serves, for those who work on every kind there is.

Our own table knows the built-in kinds; whatever else there is (custom resources, aggregated APIs) the server's
discovery tells. It is asked when a definition or an APIService changes, every half minute, and whenever somebody
wants to be sure; an answer that is still true costs one 304.

Source: Kubernetes' "API discovery" (KEP-3352, aggregated discovery).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.client.client import Client
from bamikube.client.informer import Informer
from bamikube.kit.http import Response
from bamikube.kit.world import World

log = logging.getLogger(__name__)

REFRESH = 30.0  # seconds between two looks that nobody asked for
_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

Changed = Callable[[list[Resource], list[Resource]], None]


class Kinds:
    """``others`` are the kinds that are not built in, each in its preferred version. ``changed`` is told what came and
    what went."""

    def __init__(self, client: Client, world: World, *changes: Informer) -> None:
        self.others: tuple[Resource, ...] = ()
        self.synced = asyncio.Event()
        self._client = client
        self._world = world
        self._etag = ""
        self._by_kind: dict[tuple[str, str], Resource] = {}
        self._callbacks: list[Changed] = []
        self._stirred = asyncio.Event()
        for informer in changes:
            informer.on_change(lambda key, old, new: self._stirred.set())

    def on_change(self, changed: Changed) -> None:
        self._callbacks.append(changed)

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row of a kind in any version that is served; None for a kind nobody serves."""
        return table.by_kind(api_version, kind) or self._by_kind.get((api_version, kind))

    async def run(self) -> None:
        """Keep up with the server until cancelled."""
        while True:
            self._stirred.clear()
            try:
                await self.refresh()
            except (ApiError, OSError, TimeoutError) as error:
                log.info("the kinds of the server cannot be read (%s); trying again", error)
                await self._world.clock.sleep(1.0)
                continue
            try:
                async with asyncio.timeout(REFRESH):
                    await self._stirred.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> None:
        """Ask the server. Raises ApiError and OSError."""
        headers = {"Accept": _ACCEPT}
        if self._etag:
            headers["If-None-Match"] = self._etag
        answer = await self._client.raw("GET", "/apis", headers=headers)
        if not isinstance(answer, Response):
            raise ConnectionError("the answer to discovery is a stream")
        if answer.status == 304:
            return
        if answer.status != 200:
            raise ConnectionError(f"the server answered {answer.status} to discovery")
        try:
            document = orjson.loads(answer.joined())
        except orjson.JSONDecodeError as error:
            raise ConnectionError(f"the answer to discovery is not JSON ({error})") from None
        found = {name.lower(): value for name, value in answer.headers.items()}
        self._etag = found.get("etag", "")
        self._take(document)

    def _take(self, document: dict[str, Any]) -> None:
        rows = rows_of(document)
        self._by_kind = {(row.api_version, row.kind): row for row in rows}
        preferred: dict[tuple[str, str], Resource] = {}
        for row in rows:
            preferred.setdefault(row.key, row)
        before, self.others = self.others, tuple(preferred.values())
        came = [row for row in self.others if row not in before]
        went = [row for row in before if row not in self.others]
        self.synced.set()
        if came or went:
            for callback in self._callbacks:
                callback(came, went)


def rows_of(document: dict[str, Any]) -> list[Resource]:
    """The rows of an ``APIGroupDiscoveryList`` that our table does not have, best versions first."""
    rows: list[Resource] = []
    for group in document.get("items") or ():
        name = group["metadata"].get("name") or ""
        for version in group.get("versions") or ():
            for entry in version.get("resources") or ():
                if table.find(name, version["version"], entry["resource"]) is not None:
                    continue
                if table.stored_as(name, entry["resource"]):
                    continue  # another version of what we know
                rows.append(
                    Resource(
                        group=name,
                        version=version["version"],
                        kind=(entry.get("responseKind") or {}).get("kind") or "",
                        plural=entry["resource"],
                        singular=entry.get("singularResource") or "",
                        namespaced=entry.get("scope") == "Namespaced",
                        definition="",
                        verbs=tuple(entry.get("verbs") or ()),
                    )
                )
    return rows

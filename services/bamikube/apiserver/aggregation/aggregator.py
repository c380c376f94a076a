"""The aggregator: which group versions others serve, whether they do, and the requests sent on to them.

Three things go on side by side: our own group versions are registered, the others' availability is checked (every 30 s,
and whenever an APIService, its service or that service's endpoints change), and requests are routed. What is routed is
read from the cache; nothing is remembered but what the others offered when they were last asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from bamikube.api import errors, table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver.aggregation import availability, documents, figures, registration
from bamikube.apiserver.aggregation.availability import PASSED, Verdict
from bamikube.apiserver.aggregation.documents import Offer
from bamikube.apiserver.aggregation.proxying import destination, named, send_on
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.outbound import Caller, CallError, Reply, Unresolved
from bamikube.apiserver.outbound.destination import SERVICE_NAME, SERVICES, SLICES
from bamikube.apiserver.registry import Registry
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.clock import rfc3339
from bamikube.kit.http import Answer, Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.workqueue import WorkQueue, work
from bamikube.kit.world import World
from bamikube.store.port import StoreError

log = logging.getLogger(__name__)

Object = dict[str, Any]
GroupVersion = tuple[str, str]

API_SERVICES = ("apiregistration.k8s.io", "apiservices")
DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
RECHECK = 30.0  # seconds
PATIENCE = 5.0  # seconds an aggregated server has for its discovery document
AGGREGATOR = User("system:kube-aggregator", (MASTERS,))
_REGISTER = "\0registration"  # a key of the queue that no APIService can have


class Aggregator:
    """``rows`` are the resources served here now."""

    def __init__(
        self, reader: Reader, world: World, caller: Caller, rows: Callable[[], Sequence[Resource]]
    ) -> None:
        self._reader = reader
        self._world = world
        self._caller = caller
        self._rows = rows
        self._remote: dict[GroupVersion, Object] = {}
        self._offers: dict[GroupVersion, Offer] = {}
        self._queue = WorkQueue(world, name="apiservices")
        self._registered = False
        reader.subscribe(API_SERVICES, self._changed)
        reader.subscribe(SERVICES, self._service_changed)
        reader.subscribe(SLICES, self._slice_changed)
        reader.subscribe(DEFINITIONS, self._definition_changed)

    # -- what changes --------------------------------------------------------------------------------------------

    def _changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        for gone in [old] if old is not None else []:
            spec = gone["spec"]
            self._remote.pop((spec.get("group") or "", spec["version"]), None)
        if new is not None:
            spec = new["spec"]
            group_version = (spec.get("group") or "", spec["version"])
            if spec.get("service") is not None and not _builtin(*group_version):
                self._remote[group_version] = new
        for group_version in list(self._offers):
            if group_version not in self._remote:
                del self._offers[group_version]
        if new is None:
            self._queue.add(_REGISTER)
            self._queue.add((old or {})["metadata"]["name"])
        elif old is None or old["spec"] != new["spec"] or availability.condition_of(new) is None:
            self._queue.add(new["metadata"]["name"])

    def _service_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        if self._remote:
            metadata = (new or old or {})["metadata"]
            self._touch(metadata.get("namespace", ""), metadata["name"])

    def _slice_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        if self._remote:
            metadata = (new or old or {})["metadata"]
            name = (metadata.get("labels") or {}).get(SERVICE_NAME)
            if name:
                self._touch(metadata.get("namespace", ""), name)

    def _touch(self, namespace: str, name: str) -> None:
        for one in self._remote.values():
            service = one["spec"]["service"]
            if (service.get("namespace"), service.get("name")) == (namespace, name):
                self._queue.add(one["metadata"]["name"])

    def _definition_changed(self, _type: str, _old: Object | None, _new: Object | None) -> None:
        self._queue.add_after(_REGISTER, 0.05)  # once its resources are served, or are not any more

    # -- running -------------------------------------------------------------------------------------------------

    async def run(self, registry: Registry, tasks: Tasks) -> None:
        """Until cancelled."""
        self._queue.add(_REGISTER)

        async def sync(key: str) -> float | None:
            if key == _REGISTER:
                return await self._register(registry)
            return await self._check(registry, key)

        await work(self._queue, sync, workers=4, tasks=tasks)

    async def _register(self, registry: Registry) -> float | None:
        resource = table.by_name("apiservices.apiregistration.k8s.io")
        stored = {one["metadata"]["name"]: one for one in self._reader.list(API_SERVICES)}
        wanted = registration.desired(self._rows())
        todo = registration.plan(wanted, stored, starting=not self._registered)
        try:
            for obj in todo.create:
                await _unless(registry.create(resource, obj), "AlreadyExists")
            for obj in todo.update:
                await _unless(registry.update(resource, obj), "Conflict", "NotFound")
            for name in todo.delete:
                await _unless(registry.delete(resource, "", name), "NotFound")
        except StoreError as problem:
            log.warning("API services cannot be registered (%s); trying again", problem)
            return 1.0
        self._registered = True
        return None

    async def _check(self, registry: Registry, name: str) -> float | None:
        """Look at one APIService and write down what was found. Raises ApiError and StoreError: tried again."""
        found = self._reader.get(API_SERVICES, "", name)
        if found is None:
            figures.gone(name)
            return None
        spec = found["spec"]
        verdict = availability.judged(spec, self._reader)
        if verdict is None:
            verdict = await self._ask(spec)
        elif not verdict.available:
            self._offer(spec, None)
        changed = availability.with_condition(found, verdict, rfc3339(self._world.clock.now()))
        if spec.get("service") is not None:
            figures.judged(name, verdict.available, verdict.reason, changed=changed is not None)
        if changed is not None:
            resource = table.by_name("apiservices.apiregistration.k8s.io")
            await _unless(registry.update(resource, changed, subresource="status"), "NotFound")
        return RECHECK if spec.get("service") is not None else None

    async def _ask(self, spec: Object) -> Verdict:
        """The other server's discovery document: its answer is what makes it available."""
        path = f"/apis/{spec.get('group')}/{spec['version']}"
        why = ""
        for _ in range(2):
            try:
                to = destination(spec, self._reader, self._world.chance)
            except Unresolved as problem:
                why = str(problem)
                break
            url = f"https://{to.host}:{to.port}{path}"
            try:
                reply = await self._get(to, path)
            except CallError as problem:
                why = f'Get "{url}": {problem}'
                continue
            if 200 <= reply.status < 300:
                await self._learn(spec, to, reply)
                return PASSED
            why = f"bad status from {url}: {reply.status}"
        self._offer(spec, None)
        shown = spec["service"]
        return availability.failed(
            f"https://{shown.get('name')}.{shown.get('namespace')}.svc:{shown.get('port') or 443}{path}", why
        )

    async def _get(self, to: Any, path: str) -> Reply:
        headers = [("Accept", "application/json"), *named(AGGREGATOR)]
        return await self._caller.call(to, "GET", path, headers=headers, timeout=PATIENCE)

    async def _learn(self, spec: Object, to: Any, reply: Reply) -> None:
        """Take in what the other server offers: its resources, and where its OpenAPI documents are."""
        group, version = spec.get("group") or "", spec["version"]
        listed = _decoded(reply)
        resources = tuple(one for one in listed.get("resources") or () if isinstance(one, dict))
        v3, v2 = "", None
        try:
            index = _decoded(await self._get(to, "/openapi/v3"))
            entry = (index.get("paths") or {}).get(f"apis/{group}/{version}") or {}
            v3 = str(entry.get("serverRelativeURL") or "")
            document = _decoded(await self._get(to, "/openapi/v2"))
            if document.get("swagger"):
                v2 = documents.part_of(document, group, version)
        except CallError as problem:
            log.info("%s/%s describes itself nowhere: %s", group, version, problem)
        self._offer(spec, Offer.of(group, version, resources, v3, v2))

    def _offer(self, spec: Object, learned: Offer | None) -> None:
        """Keep what was learned; a server that does not answer (None) keeps its last offer, as a stale one."""
        group_version = (spec.get("group") or "", spec["version"])
        if group_version not in self._remote:
            return
        known = self._offers.get(group_version)
        offer = learned or replace(known or Offer(*group_version, 0, 0), fresh=False)
        priorities = {
            "group_priority": spec["groupPriorityMinimum"],
            "version_priority": spec["versionPriority"],
        }
        self._offers[group_version] = replace(offer, **priorities)

    # -- what is served ------------------------------------------------------------------------------------------

    def offers(self) -> tuple[Offer, ...]:
        """What others offer now; those that were never asked yet are listed without resources."""
        if not self._remote:
            return ()
        found = []
        for group_version, one in sorted(self._remote.items()):
            spec = one["spec"]
            bare = Offer(*group_version, spec["groupPriorityMinimum"], spec["versionPriority"])
            found.append(self._offers.get(group_version, bare))
        return tuple(found)

    def route(self, path: str) -> Object | None:
        """The APIService behind a path that another server answers."""
        if not self._remote:
            return None
        if path.startswith("/openapi/v3/apis/"):
            path = path.removeprefix("/openapi/v3")
            parts = path.split("/", 4)
            offer = self._offers.get((parts[2], parts[3])) if len(parts) == 4 else None
            return self._remote.get((parts[2], parts[3])) if offer is not None and offer.v3 else None
        if not path.startswith("/apis/"):
            return None
        parts = path.split("/", 4)
        return self._remote.get((parts[2], parts[3])) if len(parts) > 3 else None

    async def send_on(self, request: Request, user: User, api_service: Object) -> Answer:
        """Raises ApiError 503 when the other server is not available."""
        if not availability.available(api_service):
            raise errors.unavailable("the server is currently unable to handle the request")
        spec = api_service["spec"]
        return await send_on(request, user, spec, self._reader, self._world.chance, self._caller)


def _builtin(group: str, version: str) -> bool:
    """What is compiled in cannot be given to others."""
    return any((row.group, row.version) == (group, version) for row in table.TABLE + table.OPTIONAL)


def _decoded(reply: Reply) -> Object:
    """A JSON object, empty for anything else."""
    try:
        found = orjson.loads(reply.body) if reply.status == 200 else {}
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


async def _unless(writing: Any, *reasons: str) -> None:
    """Await a write; that somebody else was faster (``reasons``) is no failure."""
    try:
        await writing
    except ApiError as problem:
        if problem.reason not in reasons:
            raise

"""Where an authorized request goes: another API server, a path that is no resource, a special endpoint, the generic verbs.

A custom resource's request is answered under the definition that holds when it is done: what an older one decided is decided
again (:data:`DEFINITION_TRIES` times at the most).
"""

from __future__ import annotations

from dataclasses import dataclass

from bamikube.api import errors
from bamikube.api.resources import Resource
from bamikube.apiserver.aggregation.aggregator import Aggregator
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.cache import Cache
from bamikube.apiserver.call import Call, Services
from bamikube.apiserver.catalog import Catalog
from bamikube.apiserver.endpoints import Endpoints
from bamikube.apiserver.identity import User
from bamikube.apiserver.paths import Paths
from bamikube.apiserver.registry import Registry
from bamikube.apiserver.registry.base import DefinitionChanged
from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.apiserver.subresources import SPECIAL
from bamikube.apiserver.warnings import telling, warned
from bamikube.kit.http import Answer, Request
from bamikube.kit.world import World

DEFINITION_TRIES = 8  # how often a request is judged anew because its resource's definition changed meanwhile


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """The ways a request may go. Whoever calls :meth:`serve` has authenticated and authorized it."""

    _cache: Cache
    _catalog: Catalog
    _registry: Registry
    _endpoints: Endpoints
    _aggregator: Aggregator
    _services: Services
    _paths: Paths
    _world: World

    async def serve(self, request: Request, info: RequestInfo, user: User, attributes: Attributes) -> Answer:
        """The answer. Raises ApiError and StoreError."""
        elsewhere = self._aggregator.route(request.path)
        if elsewhere is not None:
            return await self._aggregator.send_on(request, user, elsewhere)
        if not info.is_resource:
            return await self._paths.answer(request)
        resource = self._catalog.find(info.group, info.version, info.resource)
        if resource is None:
            # Perhaps another API server has just been given its definition.
            await self._cache.consistent()
            resource = self._catalog.find(info.group, info.version, info.resource)
        if resource is None:
            raise errors.no_such_path()
        if resource.custom is not None:
            return await self._custom(request, info, resource, user)
        namespace = info.namespace
        if resource.key == ("", "namespaces"):
            namespace = ""
        elif namespace and not resource.namespaced:
            raise errors.no_such_path()
        special = SPECIAL.get((resource.group, resource.plural, info.subresource))
        if special is not None:
            call = Call(
                request,
                user,
                resource,
                namespace,
                info.name,
                info.subresource,
                info.verb,
                attributes,
                self._registry,
                self._world,
                self._services,
            )
            with telling(call.told):
                return warned(await special(call), resource.deprecation)
        if resource.virtual or (info.subresource and info.subresource not in resource.subresources):
            raise errors.no_such_path() if info.subresource else errors.method_not_allowed()
        answer = await self._endpoints.serve(request, info, resource, namespace, user)
        return warned(answer, resource.deprecation) if resource.deprecation else answer

    async def _custom(self, request: Request, info: RequestInfo, resource: Resource, user: User) -> Answer:
        """A custom resource. What was decided by a definition that changed meanwhile is decided again."""
        for _ in range(DEFINITION_TRIES):
            if resource.custom is None or (info.namespace and not resource.namespaced):
                break
            if info.subresource and info.subresource not in resource.subresources:
                raise errors.not_found(resource.plural, info.name, resource.group)
            try:
                answer = await self._endpoints.serve(request, info, resource, info.namespace, user)
            except DefinitionChanged as changed:
                await self._cache.reach(changed.revision)
            except errors.ApiError as refusal:
                # The definition that refuses may be one that another server has replaced already.
                if refusal.code not in (400, 422) or not await self._outdated(info, resource):
                    raise
            else:
                warning = resource.custom.deprecation if resource.custom is not None else ""
                return warned(answer, warning)
            found = self._catalog.find(info.group, info.version, info.resource)
            if found is None:
                break
            resource = found
        else:
            raise errors.unavailable("the definition of the resource changes all the time; try again")
        raise errors.no_such_path()

    async def _outdated(self, info: RequestInfo, resource: Resource) -> bool:
        """Whether the store holds another definition than ``resource`` is served by."""
        if resource.custom is None or not await self._cache.consistent():
            return False
        found = self._catalog.find(info.group, info.version, info.resource)
        return (
            found is None
            or found.custom is None
            or found.custom.family.revision != resource.custom.family.revision
        )

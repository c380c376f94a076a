"""GET of one object, answered without a task.

The same steps as :meth:`ApiServer.handle`, for the one request that is asked most: no query, plain JSON, an object in
the version it is stored in. Who asks and whether he may are decided anew for every request, with the same
authenticator and authorizer; only that the steps happen to need no waiting is made use of. The one thing that does
wait, the question to the store how far it has come, is asked once for all GETs that came in meanwhile::

    GET a --+                         +-> 200 a
    GET b --+-> authn, authz -> wait -+-> 200 b
    GET c --+                         +-> None: the ordinary way says what is wrong (404, 503 ...)

Everything that is not a plain success is left to the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bamikube.api import table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver import accessfigures, requestinfo
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authn import Authenticator
from bamikube.apiserver.authz import Authorizer
from bamikube.apiserver.cache import Cache
from bamikube.apiserver.cache.cache import Slot
from bamikube.apiserver.flow import FlowControl
from bamikube.apiserver.negotiation import takes_plain
from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.apiserver.subresources import SPECIAL
from bamikube.kit.http import Request, Response
from bamikube.kit.inline import Notes, Reply
from bamikube.kit.world import World

T = TypeVar("T")
_NAMESPACES = ("", "namespaces")

# The row of a group, version and plural.
Find = Callable[[str, str, str], Resource | None]
# What the server does with every answer before it goes out: (request, info, answer, start).
Finish = Callable[[Request, RequestInfo, Response, float], None]


class QuickGets:
    """:class:`bamikube.kit.inline.Quick` for the API server."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        cache: Cache,
        find: Find,
        flow: FlowControl,
        world: World,
        finish: Finish,
    ) -> None:
        self._row = find
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._cache = cache
        self._flow = flow
        self._now = world.clock.monotonic
        self._finish = finish

    def __call__(self, request: Request, notes: Notes, reply: Reply) -> bool:
        simple = notes.get("simple")
        if simple is None:
            simple = notes["simple"] = _simple(request)
        if not simple or request.raw_query:
            return False
        start = self._now()
        info = requestinfo.parse(request)
        found = self._find(info)
        if found is None:
            return False
        slot, key = found
        try:
            user = at_once(self._authenticator.authenticate(request))
        except ApiError:
            notes["simple"] = False  # bad credentials: the ordinary way says so, and writes it down once
            return False
        if user is None or user.warnings:
            return False
        known = self._now()
        attributes = Attributes(
            user,
            info.verb,
            info.path,
            info.group,
            info.version,
            info.resource,
            "",
            info.namespace,
            info.name,
        )
        flow = self._flow
        admitted = flow.enter(attributes)
        if admitted is None:
            return False  # it has to wait for its turn
        turn = self._now()
        if not self._authorizer.authorize(attributes).allowed:
            flow.leave(admitted)
            return False
        accessfigures.known(user.name, known - start)
        accessfigures.decided(True, self._now() - turn)

        def told(consistent: bool) -> None:
            flow.leave(admitted)
            item = slot.items.get(key) if consistent else None
            if item is None:
                reply(None)
                return
            answer = Response(200, item.raw, dict(admitted.headers))
            self._finish(request, info, answer, start)
            reply(answer)

        self._cache.when_consistent(told)
        return True

    def _find(self, info: RequestInfo) -> tuple[Slot, str] | None:
        """Where the object would be; None for what needs more than looking it up."""
        if info.verb != "get" or not info.name or info.subresource or info.rest or not info.is_resource:
            return None
        resource = self._row(info.group, info.version, info.resource)
        if resource is None or resource.virtual or table.storage_row(resource) is not resource:
            return None
        if "get" not in resource.verbs or (resource.group, resource.plural, "") in SPECIAL:
            return None
        if resource.deprecation or (resource.custom is not None and not resource.custom.quick):
            return None
        namespace = "" if resource.key == _NAMESPACES else info.namespace
        if bool(namespace) != resource.namespaced:
            return None
        return self._cache.slot(resource.key), f"{namespace}/{info.name}" if namespace else info.name


def _simple(request: Request) -> bool:
    """Whether the headers ask for nothing but the object as it is."""
    headers = request.headers
    return takes_plain(headers) and not any(name.startswith("impersonate-") for name in headers)


def at_once(work: Coroutine[Any, Any, T]) -> T | None:
    """The result of a coroutine that does not have to wait; None when it does."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    return None
